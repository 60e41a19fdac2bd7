package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"migrationlog"
)

// Errors of this package. Find them with errors.Is. A Proposer returns the errors of the guards
// unchanged: migrationlog.ErrConflict, ErrFenced, ErrOutOfOrder, ErrAborting, ErrMigrationInProgress,
// ErrInvalid and ErrTooLarge. After each of these nothing was appended, on any member.
var (
	// ErrReplicated is returned for a write on the Store of an FSM: write with a Proposer.
	ErrReplicated = migrationlog.ErrReplicated
	// ErrUnknownOutcome is returned, as an *UnknownOutcomeError, if a proposal may or may not be
	// applied later. Repeat the call with the same event and with the option IfIndex, on the present
	// leader. The result is then a Duplicate if the first call was applied. A retry without IfIndex
	// can step a row back, if another writer has written the next phase meanwhile.
	ErrUnknownOutcome = errors.New("outcome of the proposal is unknown")
	// ErrNotProposed is returned if nothing was proposed, because this member does not lead, gives its
	// leadership away, or has a full queue. The error also wraps raft's error. The call may be repeated
	// as it is. If the member does not lead, the error is a *NotLeaderError.
	ErrNotProposed = errors.New("nothing was proposed")
	// ErrMalformed is returned for an entry that is not in the form of docs/FORMAT.md. It was not
	// appended. Another program may write to the same raft group.
	ErrMalformed = errors.New("malformed entry")
	// ErrNewerEntry is the reason, as a *NewerEntryError, for which a member stops at an entry that a
	// newer version has proposed.
	ErrNewerEntry = errors.New("entry needs a newer version")
	// ErrForeignLog is the reason for which a member stops if raft delivers entries that do not
	// continue the store: one of the two was replaced, lost or restored without the other.
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
	return fmt.Sprintf("%v: this member is not the leader: propose at the leader, %s", ErrNotProposed, e.Leader)
}

// Unwrap returns ErrNotProposed and raft's error.
func (e *NotLeaderError) Unwrap() []error { return []error{ErrNotProposed, e.Err} }

// UnknownOutcomeError is returned if a proposal may or may not be applied later.
type UnknownOutcomeError struct {
	// Index is the option IfIndex for the retry: that of the call, or the index of the migration's
	// last event on this member before the proposal.
	Index uint64
	Err   error // of raft, or of the context
}

func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("%v (%v): the entry may be committed later. Repeat the call with IfIndex(%d)", ErrUnknownOutcome, e.Err, e.Index)
}

// Unwrap returns ErrUnknownOutcome and the cause.
func (e *UnknownOutcomeError) Unwrap() []error { return []error{ErrUnknownOutcome, e.Err} }

// NewerEntryError is the reason for which a member stops at an entry of a newer version.
type NewerEntryError struct {
	Index   uint64 // of the entry
	Version uint64 // of the entry
	Err     error  // the entry has this package's version, and an event of an unknown kind; otherwise nil
}

func (e *NewerEntryError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%v: entry %d has version %d: %v. Upgrade this member", ErrNewerEntry, e.Index, e.Version, e.Err)
	}
	return fmt.Sprintf("%v: entry %d has version %d, and this member knows versions up to %d. Upgrade this member", ErrNewerEntry, e.Index, e.Version, entryVersion)
}

// Unwrap returns ErrNewerEntry and the cause.
func (e *NewerEntryError) Unwrap() []error { return []error{ErrNewerEntry, e.Err} }
