package storetest

import (
	"errors"
	"fmt"

	"migrationlog/internal/fault"
)

// errSync is the error of a sync that was made to fail.
var errSync = errors.New("storetest: input/output error")

// FailingSyncs runs a coordinator and lets each sync of its log fail, in one run each. The write then
// returns ErrFailed, as do all later writes of that store. Run must end, or open the log again. It
// then runs again, once with the events of the failed sync in the log and once without them, and the
// result is checked. start returns a new Trial for each run.
func FailingSyncs(t TB, start func() Trial) {
	t.Helper()
	for i := 0; failSync(t, start, i/2, i%2 == 0); i++ {
	}
}

// failSync lets one sync fail. It reports whether the coordinator reached it.
func failSync(t TB, start func() Trial, sync int, lost bool) (reached bool) {
	t.Helper()
	r, err := newRun(start)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer r.remove()
	without, description, n, again := r.dir+"-", "", 0, false
	remove := fault.Set(r.dir, func(at fault.Point, lastSeq uint64) error {
		switch {
		case at == fault.AfterSync:
			n++
			return r.observe(lastSeq)
		case reached:
			again = true // Run has opened the log again, so that the events are not lost
			return nil
		case n != sync:
			return nil
		case at == fault.BeforeWrite:
			return copyDir(without, r.dir)
		}
		reached = true
		description = fmt.Sprintf("a failed sync of event %d, which is in the log after it", lastSeq)
		if lost {
			description = fmt.Sprintf("a failed sync of event %d, which is lost", lastSeq)
		}
		return errSync
	})
	err = unexpected(r.trial.Run(r.dir))
	remove()
	if reached { // whatever Run has returned
		from := r.dir
		if lost && !again {
			from = without
		}
		if err = copyDir(r.dir+"+", from); err == nil {
			r.dir += "+"
			if err = r.restart(); err == nil {
				err = r.runToEnd()
			}
		}
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		r.fail(t, description, err)
	}
	return reached
}
