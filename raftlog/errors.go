package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"migrationlog"
)

// Errors of this package. Find them with errors.Is. A Proposer returns the errors of the guards
// unchanged: migrationlog.ErrConflict, ErrFenced, ErrOutOfOrder, ErrAborting,
// ErrMigrationInProgress, ErrInvalid and ErrTooLarge. After each of these nothing was appended, on
// any member.
var (
	// ErrReplicated is returned for a write on the Store of an FSM: write with a Proposer.
	ErrReplicated = migrationlog.ErrReplicated
	// ErrUnknownOutcome is returned, as an *UnknownOutcomeError, if a proposal may or may not be
	// applied later. Repeat the call with the same event and with the option IfIndex, on the present
	// leader. The result is then a Duplicate if the first call was applied. A retry without IfIndex
	// can step a row back, if another writer has written the next phase meanwhile.
	ErrUnknownOutcome = errors.New("outcome of the proposal is unknown")
	// ErrNotProposed is returned if no entry of the call can be applied: this member does not lead, is
	// transferring its leadership, has a full queue or was shut down, or a backup was restored. Read
	// the row again, and repeat the call. If the member does not lead, the error is a *NotLeaderError.
	// The error also wraps raft's error.
	ErrNotProposed = errors.New("nothing was proposed")
	// ErrMalformed is returned for an entry that is not in the form of docs/FORMAT.md. It was not
	// appended. Another program may write to the same raft group.
	ErrMalformed = errors.New("malformed entry")
	// ErrNewerEntry is passed to Options.OnFailure, as a *NewerEntryError, if a member stops because a
	// newer version has proposed an entry.
	ErrNewerEntry = errors.New("entry needs a newer version")
	// ErrForeignLog is passed to Options.OnFailure if a member stops because raft delivers entries
	// that do not continue the store. Raft's directory or the store was replaced, lost or restored
	// without the other one, or Configure was not called.
	ErrForeignLog = errors.New("raft's log does not belong to the store")
)

// NotLeaderError is returned if this member is not the leader. Nothing was proposed.
type NotLeaderError struct {
	Leader raft.ServerAddress // "" if the member knows no leader at present
	Err    error              // of raft
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return fmt.Sprintf("%v: this member is not the leader, and it knows no leader at present: try again, or ask another member", ErrNotProposed)
	}
	return fmt.Sprintf("%v: this member is not the leader: propose on the leader, %s", ErrNotProposed, e.Leader)
}

// Unwrap returns ErrNotProposed and raft's error.
func (e *NotLeaderError) Unwrap() []error { return []error{ErrNotProposed, e.Err} }

// UnknownOutcomeError is returned if a proposal may or may not be applied later.
type UnknownOutcomeError struct {
	// Index is the argument of IfIndex for the retry. It is the argument of the first call or, without
	// this option, the index of the migration's last event on this member before the proposal.
	Index uint64
	Err   error // of raft, or of the context
}

func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("%v (%v): the entry may be committed later. Repeat the call with IfIndex(%d)", ErrUnknownOutcome, e.Err, e.Index)
}

// Unwrap returns ErrUnknownOutcome and the cause.
func (e *UnknownOutcomeError) Unwrap() []error { return []error{ErrUnknownOutcome, e.Err} }

// NewerEntryError is the error of a member that stops at an entry of a newer version.
type NewerEntryError struct {
	Index   uint64 // of the entry
	Version uint64 // of the entry
	Err     error  // set if the version is known, but not the kind of the event
}

func (e *NewerEntryError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%v: entry %d has version %d: %v. Upgrade this member", ErrNewerEntry, e.Index, e.Version, e.Err)
	}
	return fmt.Sprintf("%v: entry %d has version %d, and this member knows versions up to %d. Upgrade this member", ErrNewerEntry, e.Index, e.Version, entryVersion)
}

// Unwrap returns ErrNewerEntry and the cause.
func (e *NewerEntryError) Unwrap() []error { return []error{ErrNewerEntry, e.Err} }
