package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// LockName is the name of the file on which a writer holds an advisory lock while it has the log
// open. The file contains the holder, for people and for LockedError: see Holder. Only the lock
// prevents a second writer, and the system releases it when the process ends.
const LockName = "LOCK"

const (
	lockPollTime   = 10 * time.Millisecond
	lockHolderTime = 50 * time.Millisecond // how long to wait for a new holder to write its PID
)

// heldLock is a lock on the file that had the path of LOCK when the lock was taken.
type heldLock struct {
	*flock.Flock
	id fileID
}

// lock takes the directory's lock. If another process holds the lock until the timeout, lock
// returns a *LockedError. With a timeout of 0 it does not wait.
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
			return nil, errors.Join(lockError(path, err), l.Close())
		}
		if ours { //mutant:second-writer
			_ = os.WriteFile(path, thisProcess().encode(), filePerm) // only informative, so an error (a full disk) does not matter
			return &heldLock{l, id}, nil
		}
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if !got && !time.Now().Before(deadline) {
			h := holderOf(path)
			return nil, &LockedError{Path: path, PID: h.PID, Host: h.Host, BootID: h.BootID}
		}
		if !got {
			time.Sleep(min(lockPollTime, time.Until(deadline)))
		}
	}
}

// lockError returns the error for a lock that failed, with the path and, if the file system does
// not support locks, with the remedy.
func lockError(path string, err error) error {
	if !errors.As(err, new(*fs.PathError)) {
		err = &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	if isUnsupported(err) {
		return fmt.Errorf("lock: %w: this file system does not support locks, which keep a second writer out. Put the log on a file system with locks, such as ext4 or XFS, or mount this file system with locks", err)
	}
	return fmt.Errorf("lock: %w", err)
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

// change returns "removed" or "replaced" if the path no longer has the locked file, and "" if it
// has.
func (l *heldLock) change() (string, error) {
	id, _, err := statID(l.Path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "removed", nil
	case err == nil && !id.equal(l.id):
		return "replaced", nil
	}
	return "", err
}

// holderOf returns the holder in the lock file, or the zero Holder if there is none. It waits for
// up to lockHolderTime.
func holderOf(path string) Holder {
	for deadline := time.Now().Add(lockHolderTime); ; time.Sleep(time.Millisecond) {
		if h, _, ok := readHolder(path); ok || time.Now().After(deadline) {
			return h
		}
	}
}

// unlock empties the lock file and releases the lock. If the file was replaced, it leaves the new
// one alone.
func unlock(l *heldLock) error {
	change, err := l.change()
	if err == nil && change == "" {
		err = os.Truncate(l.Path(), 0)
	}
	return errors.Join(err, l.Close())
}
