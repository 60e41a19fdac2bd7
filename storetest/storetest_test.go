package storetest_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
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

// Each function of this package finds each mistake of a coordinator.
func TestMistakes(t *testing.T) {
	for name, test := range map[string]func(storetest.TB, func() storetest.Trial){
		"CrashPoints":    func(t storetest.TB, start func() storetest.Trial) { storetest.CrashPoints(t, 1, start) },
		"FailingSyncs":   storetest.FailingSyncs,
		"FileSizeLimits": storetest.FileSizeLimits,
		"Kills":          func(t storetest.TB, start func() storetest.Trial) { storetest.Kills(t, 40, start) },
	} {
		for mistake, c := range map[string]struct {
			coordinator
			failure string
		}{
			"acts first":       {coordinator{actsFirst: true}, "was carried out before the log had its checkpoint"},
			"ignores an abort": {coordinator{ignoresAbort: true, onlyRecovers: true}, "was left with an unfinished abort"},
			"begins anew":      {coordinator{beginsAnew: true}, "was acknowledged"},
		} {
			if mistake == "begins anew" && name != "FailingSyncs" {
				continue // without an error, or with a disk that is still full, it makes no new log
			}
			t.Run(name+"/"+mistake, func(t *testing.T) {
				failure := failureOf(t, func(t storetest.TB) {
					test(t, func() storetest.Trial { return newTrial(c.coordinator) })
				})
				require.Contains(t, failure, c.failure)
			})
		}
	}
}

// A coordinator that replaces a log on a full disk by a new one loses the acknowledged events.
func TestSmallDisks_NewLog(t *testing.T) {
	failure := failureOf(t, func(tb storetest.TB) {
		storetest.SmallDisks(tb, 30, func() storetest.Trial { return newTrial(coordinator{beginsAnew: true}) })
	})
	if t.Skipped() {
		return
	}
	require.Contains(t, failure, "was acknowledged")
}

// The caller's own check can replace the model.
func TestCrashPoints_OwnCheck(t *testing.T) {
	checked := 0
	failure := failureOf(t, func(tb storetest.TB) {
		storetest.CrashPoints(tb, 1, func() storetest.Trial {
			trial := newTrial(coordinator{onlyRecovers: true})
			trial.Cluster = nil
			trial.Check = func(dir string) error {
				if checked++; checked < 3 {
					return nil
				}
				return errors.New("the caller's error")
			}
			return trial
		})
	})
	require.True(t, strings.HasPrefix(failure, "a crash before the write of event 4: the caller's error\n"), failure)
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

// A coordinator may open its log again after a failed sync, instead of ending.
func TestFailingSyncs_OpensAgain(t *testing.T) {
	storetest.FailingSyncs(t, func() storetest.Trial {
		trial := newTrial(coordinator{})
		run := trial.Run
		trial.Run = func(dir string) error {
			err := run(dir)
			if errors.Is(err, migrationlog.ErrFailed) {
				return run(dir)
			}
			return err
		}
		return trial
	})
}
