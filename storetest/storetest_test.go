package storetest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/storetest"
)

// recorder is a test that keeps its failure.
type recorder struct {
	*testing.T
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failureOf returns the failure of a test, or an empty string.
func failureOf(t *testing.T, test func(storetest.TB)) string {
	r := &recorder{T: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		test(r)
	}()
	<-ended
	if r.failure != "" {
		t.Log(r.failure)
	}
	return r.failure
}

// facilities are the functions of this package that run a trial.
var facilities = map[string]func(storetest.TB, func() storetest.Trial){
	"CrashPoints":  func(t storetest.TB, start func() storetest.Trial) { storetest.CrashPoints(t, 1, start) },
	"FailingSyncs": storetest.FailingSyncs,
	"Kills":        func(t storetest.TB, start func() storetest.Trial) { storetest.Kills(t, 15, start) },
}

// A coordinator that follows the protocol passes, and each mistake is found.
func TestFacilities(t *testing.T) {
	for name, test := range facilities {
		for _, c := range []struct {
			name string
			coordinator
			failure string
		}{
			{"correct", coordinator{}, ""},
			{"acts first", coordinator{actsFirst: true}, "was carried out before the log had its checkpoint"},
			{"ignores an abort", coordinator{ignoresAbort: true}, "was left with an unfinished abort"},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				failure := failureOf(t, func(t storetest.TB) {
					test(t, func() storetest.Trial { return newTrial(c.coordinator) })
				})
				if c.failure == "" {
					require.Empty(t, failure)
				}
				require.Contains(t, failure, c.failure)
			})
		}
	}
}

// A second crash reaches each write of the recovery.
func TestCrashPoints_InRecovery(t *testing.T) {
	storetest.CrashPoints(t, 2, func() storetest.Trial {
		return newTrial(coordinator{onlyRecovers: true})
	})
}

// A coordinator that goes on after a failed sync acts without a record.
func TestFailingSyncs_IgnoredError(t *testing.T) {
	failure := failureOf(t, func(t storetest.TB) {
		storetest.FailingSyncs(t, func() storetest.Trial { return newTrial(coordinator{goesOn: true}) })
	})
	require.Contains(t, failure, "was carried out before the log had its checkpoint")
	require.True(t, strings.HasPrefix(failure, "a failed sync of event"), failure)
}
