package storetest_test

import (
	"fmt"
	"runtime"
	"strings"

	"migrationlog/storetest"
)

// In a test of yours, pass its *testing.T instead of the printer.
func ExampleCrashPoints() {
	start := func(c coordinator) func() storetest.Trial { // the coordinator under test is in coordinator_test.go
		return func() storetest.Trial { return newTrial(c) }
	}
	inTest(func(t storetest.TB) {
		storetest.CrashPoints(t, 1, start(coordinator{onlyRecovers: true}))
		fmt.Println("a correct coordinator: passed")
	})
	inTest(func(t storetest.TB) {
		storetest.CrashPoints(t, 1, start(coordinator{ignoresAbort: true, onlyRecovers: true}))
	})
	// Output:
	// a correct coordinator: passed
	// failed: a crash after the write of event 4
}

// printer is a test that prints the fault that it failed at.
type printer struct{}

func (printer) Helper()              {}
func (printer) Name() string         { return "ExampleCrashPoints" }
func (printer) Skipf(string, ...any) { runtime.Goexit() }
func (printer) Fatalf(format string, args ...any) {
	fault, _, _ := strings.Cut(fmt.Sprintf(format, args...), ":")
	fmt.Println("failed:", fault)
	runtime.Goexit()
}

// inTest runs a test that may end with Fatalf.
func inTest(test func(storetest.TB)) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		test(printer{})
	}()
	<-ended
}
