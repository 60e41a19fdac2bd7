package storetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"migrationlog/internal/fault"
)

// CrashPoints runs a coordinator and crashes it before and after each write of its log. The write, and
// so the coordinator, stops there. A crash before the write loses it. After the crash the coordinator
// runs again on a copy of the log, up to its end, and the result is checked. start returns a new Trial
// for each run. crashes is the number of crashes in a row: with 2, each pair of points is tried, so
// that the second crash also reaches each write of the recovery.
//
// Other goroutines of a crashed coordinator go on until their next write, as requests under way do
// after a real crash. After the check, the write returns ErrFailed, so that Run can end. Concurrent
// writes of one batch are one point.
func CrashPoints(t TB, crashes int, start func() Trial) {
	t.Helper()
	points := make([]int, crashes)
	for {
		reached := crashAt(t, start, points)
		if reached == 0 {
			return
		}
		points[reached-1]++
		clear(points[reached:])
	}
}

// crashAt crashes the first coordinator at points[0], the next one at points[1], and so on, and lets
// the last one run to its end. Even points are before a write, odd ones after it. It returns the
// number of crashes. It is lower if a coordinator ended before its point.
func crashAt(t TB, start func() Trial, points []int) (crashes int) {
	t.Helper()
	r, err := newRun(start)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer r.remove()
	var faults []string
	var frozen []*life
	defer func() {
		for _, l := range frozen {
			l.release()
		}
	}()
	for crashes = 0; ; crashes++ {
		point := -1
		if crashes < len(points) {
			point = points[crashes]
		}
		l := r.live(point)
		if l.ended {
			err = unexpected(l.err)
			break
		}
		frozen = append(frozen, l)
		faults = append(faults, l.fault)
		if err = r.moveToCopy(r.dir + "+"); err == nil {
			err = r.restart()
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = r.check()
	}
	if err != nil {
		r.fail(t, strings.Join(faults, ", then "), err)
	}
	return crashes
}

// life is one call of Trial.Run.
type life struct {
	ended bool // Run has returned
	err   error
	fault string

	resume chan struct{}
	done   chan error
	remove func()
}

// live calls Run, up to its end or to its crash.
func (r *run) live(point int) *life {
	l := &life{resume: make(chan struct{}), done: make(chan error, 1)}
	reached := make(chan string)
	n := 0
	l.remove = fault.Set(r.dir, func(at fault.Point, lastSeq uint64) error {
		switch at {
		case fault.BeforeSync:
			return nil
		case fault.AfterSync:
			if err := r.observe(lastSeq); err != nil {
				return err
			}
		}
		n++
		if n-1 != point {
			return nil
		}
		if at == fault.AfterSync {
			reached <- fmt.Sprintf("a crash after the write of event %d", lastSeq)
		} else {
			reached <- fmt.Sprintf("a crash before the write of event %d", lastSeq+1)
		}
		<-l.resume
		return errInterrupted
	})
	dir := r.dir
	go func() {
		err := errors.New("the function Run did not return: it called runtime.Goexit or FailNow. Return an error instead")
		defer func() { l.done <- err }()
		err = r.trial.Run(dir)
	}()
	select {
	case l.err = <-l.done:
		l.ended = true
		l.remove()
	case l.fault = <-reached:
	}
	return l
}

// runToEnd calls Run without a fault.
func (r *run) runToEnd() error { return unexpected(r.live(-1).err) }

// release lets the interrupted write fail, and waits until Run has returned.
func (l *life) release() {
	close(l.resume)
	<-l.done
	l.remove()
}

// moveToCopy copies the directory, which a frozen coordinator still has locked. The next coordinator
// uses the copy.
func (r *run) moveToCopy(to string) error {
	if err := copyDir(to, r.dir); err != nil {
		return err
	}
	r.dir = to
	return nil
}

// copyDir copies a log whose background work may still rename files.
func copyDir(to, from string) error {
	for try := 0; ; try++ {
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil || try == 10 || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}
