package eventlog

import (
	"errors"
	"fmt"

	"migrationlog/eventlog/segment"
)

var (
	// ErrLocked is returned, as a *LockedError, if another writer has the log open.
	ErrLocked = errors.New("log is open in another writer")
	// ErrFailed is returned by the write or sync that failed, and by every later one. It is unknown
	// whether the failed entries are durable until the log is closed and opened again.
	ErrFailed = errors.New("log has failed: close it and open it again")
	// ErrNeedsRepair is returned if a log cannot continue without risking a sequence number being
	// used twice: all segments are missing, the number in the last segment's name is higher than
	// the log's next number, a segment's name belongs to a non-regular file, or no number is left.
	// A person has to fix it.
	ErrNeedsRepair = errors.New("log needs repair by hand")
	// ErrReplicated is returned by Begin without Options.Replicated for a log that was created with it.
	ErrReplicated = errors.New("the log is replicated")
	// ErrNotReplicated is returned by Begin with Options.Replicated for a log that was created without
	// it.
	ErrNotReplicated = errors.New("the log is not replicated")
)

// CheckSeq returns ErrNeedsRepair if seq is higher than segment.MaxSeq.
func CheckSeq(seq uint64) error {
	if seq <= segment.MaxSeq {
		return nil
	}
	return fmt.Errorf("%w: it has used all sequence numbers up to %d and accepts no more events: keep this directory and begin a new log in another",
		ErrNeedsRepair, segment.MaxSeq)
}

// LockedError identifies the process that has the log open. errors.Is matches it with ErrLocked.
type LockedError struct {
	Path   string // the lock file
	PID    int    // the process that holds the lock; 0 if it has not written its PID yet
	Host   string // its host; "" if it is not known
	BootID string // the boot id of its host; "" if it is not known
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v (%s is held)", ErrLocked, e.Path)
	}
	return fmt.Sprintf("%v: %v holds %s", ErrLocked, Holder{PID: e.PID, Host: e.Host, BootID: e.BootID}, e.Path)
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }
