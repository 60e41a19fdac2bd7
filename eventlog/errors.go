package eventlog

import (
	"errors"
	"fmt"

	"migrationlog/eventlog/segment"
)

var (
	// ErrLocked is returned, as a *LockedError, when another writer has the log open.
	ErrLocked = errors.New("log is open in another writer")
	// ErrFailed is returned for every append after a write or sync has failed.
	// Whether the failed append is on the device is unknown until the log is
	// closed and opened again, which reads it anew.
	ErrFailed = errors.New("log has failed: close it and open it again")
	// ErrNeedsRepair is returned if a log cannot go on without risking a sequence number being
	// used twice: all segments are missing, the last segment's name is beyond the end of the log, a
	// segment's name belongs to a non-regular file, or no number is left. A person has to fix it.
	ErrNeedsRepair = errors.New("log needs repair by hand")
)

// CheckSeq returns ErrNeedsRepair if no frame may have that number.
func CheckSeq(seq uint64) error {
	if seq <= segment.MaxSeq {
		return nil
	}
	return fmt.Errorf("%w: it has used all sequence numbers up to %d, and takes no more events: keep the directory and begin a new log in another",
		ErrNeedsRepair, segment.MaxSeq)
}

// LockedError says who has the log open. errors.Is finds ErrLocked in it.
type LockedError struct {
	Path string // of the lock file
	PID  int    // of the process that holds it; 0 if it has not said so yet
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v (%s is held)", ErrLocked, e.Path)
	}
	return fmt.Sprintf("%v: process %d holds %s", ErrLocked, e.PID, e.Path)
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }
