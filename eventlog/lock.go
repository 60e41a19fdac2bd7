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

// LockName is the name of the file on which a writer holds an advisory lock while it has the log
// open. The file contains the holder's PID for people to read. Only the lock prevents a second
// writer, and the system releases it when the process ends.
const LockName = "LOCK"

const (
	lockPollTime = 10 * time.Millisecond
	lockPIDTime  = 50 * time.Millisecond // how long to wait for a new holder to write its PID
)

// heldLock is a lock on the file that had the path of LOCK when the lock was taken.
type heldLock struct {
	*flock.Flock
	id fileID
}

// lock takes the directory's lock. If another process holds the lock until the timeout, it returns
// a *LockedError. With a timeout of 0 it does not wait.
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
			_ = os.WriteFile(path, fmt.Appendln(nil, os.Getpid()), filePerm) // only for people, so a full disk does not matter
			return &heldLock{l, id}, nil
		}
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if !got && !time.Now().Before(deadline) {
			return nil, &LockedError{Path: path, PID: holderPID(path)}
		}
		if !got {
			time.Sleep(min(lockPollTime, time.Until(deadline)))
		}
	}
}

// isHeld reports whether the locked file still has its path. Another process may have replaced it
// after it was opened and before it was locked.
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

// isCurrent reports whether the locked file still has its path.
func (l *heldLock) isCurrent() (bool, error) {
	id, _, err := statID(l.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && id.equal(l.id), err
}

// holderPID returns the PID in the lock file, or 0 if it has none. It waits for up to lockPIDTime.
func holderPID(path string) int {
	for deadline := time.Now().Add(lockPIDTime); ; time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(path)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil || time.Now().After(deadline) {
			return pid
		}
	}
}

// unlock clears the PID and releases the lock. If the file was replaced, it leaves the new one
// alone.
func unlock(l *heldLock) error {
	ours, err := l.isCurrent()
	if ours {
		err = os.Truncate(l.Path(), 0)
	}
	return errors.Join(err, l.Close())
}
