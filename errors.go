package migrationlog

import (
	"errors"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// What a Store's methods return, wrapped; find them with errors.Is.
var (
	// ErrClosed is returned for a write on a closed store.
	ErrClosed = errors.New("store is closed")
	// ErrLocked is returned by Open, as an *eventlog.LockedError with the holder's
	// PID, when another Store has the directory open.
	ErrLocked = eventlog.ErrLocked
	// ErrFailed is returned for the write during which a write or sync failed, and
	// for every one after it. The outcome of the first is unknown: close the store
	// and open it again to see.
	ErrFailed = eventlog.ErrFailed
	// ErrDamaged is returned by Open, as a *DamagedError, with RefuseDamage for a
	// log with any damage; and, plainly, for one whose segments are all gone, whose
	// last segment is named for a frame far beyond the log's end, or in which
	// something else has a segment's name: a person has to put that right.
	ErrDamaged = eventlog.ErrDamaged
	// ErrInvalid is returned for input that must not be written. What is wrong with
	// it is wrapped beside, such as checkpoint.ErrNilMigrationID.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge is returned for an event of more than checkpoint.MaxEventBytes.
	ErrTooLarge = checkpoint.ErrTooLarge
	// ErrConflict is returned when a write's guard does not hold: see IfSeq and
	// Strict. Nothing was appended.
	ErrConflict = errors.New("conflict")
	// ErrMigrationInProgress is returned when another migration of the vShard has a row:
	// see IfVShardFree. Nothing was appended.
	ErrMigrationInProgress = errors.New("migration in progress")
	// ErrNewerFormat is returned by Open for a log that a newer version wrote.
	ErrNewerFormat = segment.ErrNewerFormat
)

// DamagedError says what a log has lost. errors.Is finds ErrDamaged in it.
type DamagedError struct{ Report replay.Report }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%v: events lost: %d; it was left as it is (SkipDamage opens it all the same). First damage: %s",
		ErrDamaged, e.Report.LostCount(), e.Report.Damage[0])
}

// Unwrap returns ErrDamaged.
func (e *DamagedError) Unwrap() error { return ErrDamaged }

// Every event that may be encoded fits into a frame.
const _ = uint(segment.MaxBodyBytes - checkpoint.MaxEventBytes)
