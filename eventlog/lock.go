package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// LockName is the file that a writer holds an advisory lock on for its life. It
// names the holder's PID, which is there for people: the lock is what counts,
// and it ends with the process.
const LockName = "LOCK"

const (
	lockPollTime = 10 * time.Millisecond
	// A holder writes its PID just after it got the lock.
	lockPIDTime = 50 * time.Millisecond
)

// heldLock is the lock on a file that its path named when it was taken.
type heldLock struct {
	*flock.Flock
	id fileID
}

// lock takes the directory's lock. It tries until the timeout is over, 0 for
// once, and then returns a *LockedError.
func lock(dir string, timeout time.Duration) (*heldLock, error) {
	path := filepath.Join(dir, LockName)
	deadline := time.Now().Add(timeout)
	for {
		l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(filePerm))
		got, err := l.TryLock()
		ours := false
		var id fileID
		if got {
			if id, _, err = statID(path); err == nil || errors.Is(err, fs.ErrNotExist) {
				ours, err = isHeld(l)
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock: %w", err), l.Close())
		}
		if ours { //mutant:second-writer
			_ = os.WriteFile(path, fmt.Appendln(nil, os.Getpid()), filePerm) // it is there for people, and the disk may be full
			return &heldLock{l, id}, nil
		}
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if !got && !time.Now().Before(deadline) {
			return nil, &LockedError{Path: path, PID: holder(path)}
		}
		if !got {
			time.Sleep(min(lockPollTime, time.Until(deadline)))
		}
	}
}

// isHeld reports whether the locked file is the one that its path names:
// somebody may have replaced it between opening and locking.
func isHeld(l *flock.Flock) (bool, error) {
	held, err := l.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(l.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(held, named), err
}

// isCurrent reports whether the path names the locked file.
func (l *heldLock) isCurrent() (bool, error) {
	id, _, err := statID(l.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && id.equal(l.id), err
}

func holder(path string) int {
	for deadline := time.Now().Add(lockPIDTime); ; time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(path)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil || time.Now().After(deadline) {
			return pid
		}
	}
}

// unlock clears the PID, unless the file is another's by now, and lets go of the
// lock.
func unlock(l *heldLock) error {
	ours, err := l.isCurrent()
	if ours {
		err = os.Truncate(l.Path(), 0)
	}
	return errors.Join(err, l.Close())
}
