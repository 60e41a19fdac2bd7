package raftlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"migrationlog"
	"migrationlog/checkpoint"
)

// defaultTimeout is the default of ProposerOptions.Timeout.
const defaultTimeout = 10 * time.Second

// ProposerOptions configures NewProposer. A nil *ProposerOptions or the zero value selects the
// defaults.
type ProposerOptions struct {
	Timeout time.Duration    // the longest wait for a place in raft's queue, after which nothing was proposed; 0: 10 s
	Now     func() time.Time // clock of the timestamps and of Recover; nil: time.Now; may be called concurrently

	// EpochBase and raft's term together are the epoch of a coordinator, see Proposer.Epoch. In a new
	// group, raft's terms begin again at 1. If a backup of another group was restored, the log has a
	// higher epoch. Then set EpochBase on all members to Store.Epoch after the restore. Keep the value
	// as long as the group exists.
	EpochBase uint64
}

// A Proposer writes to the replicated log. It works on the leader. It is safe for concurrent use.
//
// A call returns after the entry is committed and applied on this member. Its result is one of
// these:
//
//   - no error: the entry is applied on all members, now or later.
//   - ErrNotProposed, or *NotLeaderError with the leader's address: nothing was proposed.
//   - ErrUnknownOutcome, as an *UnknownOutcomeError: the entry may or may not be applied later.
//   - Any other error: the entry was refused, and appended nothing on any member. It is an error of
//     the guards, unchanged, or ErrInvalid or ErrTooLarge.
//
// If ctx ends while the call waits, the outcome is unknown.
type Proposer struct {
	raft    *raft.Raft
	fsm     *FSM
	timeout time.Duration
	now     func() time.Time
	base    uint64 // see ProposerOptions.EpochBase
}

// NewProposer returns a Proposer of a member, for the FSM that was passed to raft.NewRaft.
func NewProposer(r *raft.Raft, fsm *FSM, opts *ProposerOptions) *Proposer {
	p := &Proposer{raft: r, fsm: fsm, timeout: defaultTimeout, now: time.Now}
	if opts != nil {
		p.timeout, p.base = cmp.Or(opts.Timeout, p.timeout), opts.EpochBase
		if opts.Now != nil {
			p.now = opts.Now
		}
	}
	return p
}

// Epoch returns the epoch of a coordinator in the process of the leader. It is the sum of raft's term
// and EpochBase. Call Epoch once after this member has become the leader, and pass the number to Term
// for all writes of this leadership. Recover uses the same number.
func (p *Proposer) Epoch() uint64 { return p.base + p.raft.CurrentTerm() }

// Upsert makes c the latest row of its migration. If the row has the same phase and attempt, the
// receipt is a Duplicate, and the row keeps its payload. With Strict, another payload is
// ErrConflict. See migrationlog.Store.Upsert.
func (p *Proposer) Upsert(ctx context.Context, c checkpoint.Checkpoint, opts ...Option) (Receipt, error) {
	e := newEntry(opts)
	if e.hasTimestamp {
		return Receipt{}, fmt.Errorf("%w: option WithTimestamp does not apply to Upsert: set the checkpoint's TimestampMS instead", migrationlog.ErrInvalid)
	}
	e.event = checkpoint.Upserted{Checkpoint: c}
	return p.propose(ctx, e)
}

// Abort records that a migration was undone. See migrationlog.Store.Abort.
func (p *Proposer) Abort(ctx context.Context, id checkpoint.MigrationID, reason string, comps []checkpoint.Compensation, opts ...Option) (Receipt, error) {
	e := newEntry(opts)
	e.event = checkpoint.Aborted{MigrationID: id, Reason: reason, Compensations: comps, TimestampMS: p.timestampOf(e)}
	return p.propose(ctx, e)
}

// Remove records that a finished migration was cleaned up. See migrationlog.Store.Remove.
func (p *Proposer) Remove(ctx context.Context, id checkpoint.MigrationID, opts ...Option) (Receipt, error) {
	e := newEntry(opts)
	e.event = checkpoint.Removed{MigrationID: id, TimestampMS: p.timestampOf(e)}
	return p.propose(ctx, e)
}

// BeginAbort records that a migration will be undone with these compensations. Carry out the first
// one after BeginAbort has returned without an error. See migrationlog.Store.BeginAbort.
func (p *Proposer) BeginAbort(ctx context.Context, id checkpoint.MigrationID, reason string, comps []checkpoint.Compensation, opts ...Option) (Receipt, error) {
	e := newEntry(opts)
	e.event = checkpoint.AbortBegun{MigrationID: id, Reason: reason, Compensations: comps, TimestampMS: p.timestampOf(e)}
	return p.propose(ctx, e)
}

// Compensated records that one compensation of an abort under way was carried out. step is its
// index in the list of BeginAbort. See migrationlog.Store.Compensated.
func (p *Proposer) Compensated(ctx context.Context, id checkpoint.MigrationID, step uint32, opts ...Option) (Receipt, error) {
	e := newEntry(opts)
	e.event = checkpoint.Compensated{MigrationID: id, Step: step, TimestampMS: p.timestampOf(e)}
	return p.propose(ctx, e)
}

func (p *Proposer) timestampOf(e *entry) uint64 {
	if e.hasTimestamp {
		return e.timestampMS
	}
	return uint64(max(0, p.now().UnixMilli()))
}

// propose proposes an entry and waits for its result.
func (p *Proposer) propose(ctx context.Context, e *entry) (Receipt, error) {
	data, err := e.encode()
	if err != nil {
		return Receipt{}, err
	}
	if err := ctx.Err(); err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrNotProposed, err)
	}
	switch p.raft.State() {
	case raft.Leader:
	case raft.Shutdown:
		return Receipt{}, fmt.Errorf("%w: this member is shut down (%w)", ErrNotProposed, raft.ErrRaftShutdown)
	default: // do not wait for a follower that is busy, for example with a snapshot
		return Receipt{}, p.notLeader(raft.ErrNotLeader)
	}
	expected := e.index
	if !e.hasIndex { // read before the proposal, so that it cannot be the proposal's own index
		row, _ := p.fsm.Store().Row(e.event.Migration())
		expected = row.LastIndex
	}
	response, err := p.apply(ctx, data)
	if err != nil {
		return Receipt{}, p.outcome(err, expected)
	}
	switch response := response.(type) {
	case Receipt:
		return response, nil
	case error: // raft returns the errors of a state machine as responses
		if errors.Is(response, ErrUnknownOutcome) {
			return Receipt{}, &UnknownOutcomeError{Index: expected, Err: response}
		}
		return Receipt{}, response
	case nil:
		return Receipt{}, &UnknownOutcomeError{Index: expected, Err: fmt.Errorf("%w: the store has skipped the new entry, because it had applied an entry with a higher index", ErrForeignLog)}
	}
	return Receipt{}, &UnknownOutcomeError{Index: expected, Err: fmt.Errorf("the state machine has responded with %T: it must return the responses of FSM.ApplyBatch unchanged", response)}
}

// result is the response to a proposal, or raft's error.
type result struct {
	response any
	err      error
}

// apply passes an entry to raft, and returns the response of the state machine. It waits in a
// goroutine of its own, because a future of raft cannot be canceled.
func (p *Proposer) apply(ctx context.Context, data []byte) (response any, err error) {
	done := make(chan result, 1)
	go func() {
		future := p.raft.Apply(data, p.timeout)
		if err := future.Error(); err != nil {
			done <- result{err: err}
			return
		}
		done <- result{response: future.Response()}
	}()
	return p.wait(ctx, done)
}

// shutdownInterval is the interval at which wait checks if raft was shut down.
const shutdownInterval = time.Second

// wait waits for a result. If raft shuts down, it does not complete the entries in its queue. wait
// therefore also ends if raft was shut down.
func (p *Proposer) wait(ctx context.Context, done <-chan result) (response any, err error) {
	ticker := time.NewTicker(shutdownInterval)
	defer ticker.Stop()
	for shutDown := false; ; {
		select {
		case r := <-done:
			return r.response, r.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ticker.C:
			if shutDown {
				return nil, raft.ErrRaftShutdown
			}
			shutDown = p.raft.State() == raft.Shutdown
		}
	}
}

// outcome translates an error of raft (raft #561, weaviate #12486). expected is the argument of
// IfIndex for a retry.
func (p *Proposer) outcome(err error, expected uint64) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return p.notLeader(err)
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: this member is transferring its leadership: try again (%w)", ErrNotProposed, err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: raft's queue was full for %v: try again (%w)", ErrNotProposed, p.timeout, err)
	case errors.Is(err, raft.ErrAbortedByRestore):
		return fmt.Errorf("%w: the entry was dropped, because a backup was restored: read the row again (%w)", ErrNotProposed, err)
	}
	// ErrLeadershipLost, ErrRaftShutdown, an error of raft's own log, or the end of the context. The
	// entry may be in the log of a member.
	return &UnknownOutcomeError{Index: expected, Err: err}
}

func (p *Proposer) notLeader(err error) error {
	leader, _ := p.raft.LeaderWithID()
	return &NotLeaderError{Leader: leader, Err: err}
}
