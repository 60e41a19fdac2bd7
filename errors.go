package migrationlog

import (
	"errors"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// Errors that Open and a Store's methods return, wrapped. Find them with errors.Is.
var (
	// ErrClosed is returned for a write on a closed store, and by Health and Scrub.
	ErrClosed = errors.New("store is closed")
	// ErrLocked is returned by Open, as an *eventlog.LockedError with the holder's PID and host, if
	// another Store has the directory open.
	ErrLocked = eventlog.ErrLocked
	// ErrFailed is returned if an append or a sync failed, and for every later write. The outcome
	// of the failed write is unknown. To find out, close the store and open it again.
	ErrFailed = eventlog.ErrFailed
	// ErrDamaged is returned by Open, as a *DamagedError, if RefuseDamage was set and the log has
	// damage that loses or endangers events. Open left the log as it was.
	ErrDamaged = errors.New("log is damaged")
	// ErrNeedsRepair is returned by Open if it cannot continue without risking that a sequence
	// number is used twice: all segments are missing, the number in the last segment's name is
	// higher than the log's next number, or a segment's name belongs to a non-regular file. The
	// message has the steps of the repair. No option makes Open continue. Open and writes also
	// return ErrNeedsRepair if no sequence number is left. Such a write appends nothing, and reads
	// continue: begin a new log in another directory.
	ErrNeedsRepair = eventlog.ErrNeedsRepair
	// ErrManifestLost is returned by Open if no manifest can be used: both copies are missing or
	// damaged, the two copies belong to different logs, or the manifest does not belong to the log
	// of the frames. Without the log's UUID no frame can be verified. Restore MANIFEST from a
	// backup of this log, or copy the log into a new directory with `replay-tool salvage`.
	ErrManifestLost = segment.ErrManifestLost
	// ErrNewerFormat is returned by Open if a newer version wrote the log's manifest or one of its
	// frames. Use that version.
	ErrNewerFormat = segment.ErrNewerFormat
	// ErrIsWALDir is returned by Open for the wal/ directory of a log. Open the directory above it.
	ErrIsWALDir = segment.ErrIsWALDir
	// ErrInvalid is returned for input that must not be written. The error wraps the reason as
	// well, such as checkpoint.ErrNilMigrationID.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge is returned for an event that takes more than checkpoint.MaxContentBytes.
	ErrTooLarge = checkpoint.ErrTooLarge
	// ErrConflict is returned if the log has another state than the write expects: see IfSeq, Strict
	// and BeginAbort. Nothing was appended.
	ErrConflict = errors.New("conflict")
	// ErrFenced is returned if the log has a higher epoch than the write: see Epoch. Nothing was
	// appended. Another coordinator has taken over, so stop writing.
	ErrFenced = errors.New("fenced")
	// ErrOutOfOrder is returned if the write does not follow the protocol: see InOrder. Nothing was
	// appended.
	ErrOutOfOrder = errors.New("out of order")
	// ErrAborting is returned for an upsert without Confirm, or for a removal, if an abort of the
	// migration is under way: see BeginAbort. Nothing was appended. Finish the abort.
	ErrAborting = errors.New("abort under way")
	// ErrMigrationInProgress is returned if another migration of the vShard is in flight: see
	// IfVShardFree. Nothing was appended.
	ErrMigrationInProgress = errors.New("migration in progress")
)

// DamagedError is the error of Open with RefuseDamage. It has the report of the damage. errors.Is
// finds ErrDamaged in it.
type DamagedError struct{ Report replay.Report }

func (e *DamagedError) Error() string {
	r := e.Report
	worst := r.Damage[0]
	for _, d := range r.Damage {
		if d.Severity < worst.Severity {
			worst = d
		}
	}
	return fmt.Sprintf("%v: events lost: %d. Findings that lose events: %d, that endanger events: %d, harmless: %d. The first finding of the worst severity: %s. The log was not changed. To open the log with all intact events, use SkipDamage",
		ErrDamaged, r.LostCount(), r.CountFindings(segment.LosesEvents), r.CountFindings(segment.EndangersEvents), r.CountFindings(segment.Harmless), worst)
}

// Unwrap returns ErrDamaged.
func (e *DamagedError) Unwrap() error { return ErrDamaged }

// Every event that may be encoded fits into a frame.
const _ = uint(segment.MaxBodyBytes - checkpoint.MaxEventBytes)
