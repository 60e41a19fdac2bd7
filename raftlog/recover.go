package raftlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hashicorp/raft"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

// Recover plans with recovery.Plan and carries out each decision, as migrationlog.Store.Recover
// does. Call it on the leader at the start of a coordinator, before it begins new migrations.
//
// Recover first waits for a barrier, after which this member has applied everything that earlier
// leaders have committed. It then raises the log's epoch to h.Epoch or, if that is 0, to
// Proposer.Epoch. After that, the log refuses every write of an earlier coordinator that uses Term.
//
// If this member loses its leadership, Recover stops before the next step, and returns a
// *NotLeaderError or ErrUnknownOutcome. The coordinator of the next leader continues. Before each
// step Recover asks the other members if this member still leads.
//
// Recover returns no results. Set h.Resume and h.Ask to receive the decisions that the program must
// carry out. The error joins the errors of all migrations that were not recovered. Call Recover
// again to continue with them.
func (p *Proposer) Recover(ctx context.Context, policy recovery.Policy, h recovery.Handlers) error {
	// The term is read first. If this member loses the leadership during the barrier and leads again, the
	// barrier does not cover the entries of the leader in between, and Check returns an error.
	log := &recoveryLog{Proposer: p, term: p.raft.CurrentTerm()}
	if err := p.barrier(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if err := log.Check(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if h.Epoch == 0 {
		h.Epoch = p.base + log.term
	}
	results, err := migrationlog.RecoverOn(ctx, log, policy, h)
	errs := []error{err}
	for _, r := range results {
		errs = append(errs, r.Err)
	}
	return errors.Join(errs...)
}

// barrier waits until this leader has applied all committed entries (raft #146).
func (p *Proposer) barrier(ctx context.Context) error {
	done := make(chan result, 1)
	go func() { done <- result{err: p.raft.Barrier(p.timeout).Error()} }()
	_, err := p.wait(ctx, done)
	return p.asNotLeader(err)
}

// asNotLeader turns raft's errors about a lost leadership into a *NotLeaderError. It is for calls
// that propose nothing.
func (p *Proposer) asNotLeader(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
		return p.notLeader(err)
	}
	return err
}

// recoveryLog implements migrationlog.RecoveryLog on the replicated log, during one leadership.
type recoveryLog struct {
	*Proposer
	term uint64 // of raft
}

func (l *recoveryLog) Rows() iter.Seq[projection.Row] { return l.fsm.Store().Rows() }

func (l *recoveryLog) Row(id checkpoint.MigrationID) (projection.Row, bool) {
	return l.fsm.Store().Row(id)
}

func (l *recoveryLog) Position(row projection.Row) uint64 { return row.LastIndex }

func (l *recoveryLog) Epoch() uint64 { return l.fsm.Store().Epoch() }

func (l *recoveryLog) Now() time.Time { return l.now() }

// Check returns an error unless this member has been the leader since Recover began.
func (l *recoveryLog) Check(ctx context.Context) error {
	done := make(chan result, 1)
	go func() { done <- result{err: l.raft.VerifyLeader().Error()} }()
	if _, err := l.wait(ctx, done); err != nil {
		return l.asNotLeader(err)
	}
	if term := l.raft.CurrentTerm(); term != l.term {
		return l.notLeader(fmt.Errorf("%w: raft's term was %d, and is now %d", raft.ErrLeadershipLost, l.term, term))
	}
	return l.fsm.Health()
}

func (l *recoveryLog) Write(ctx context.Context, e checkpoint.Event, last, epoch uint64) (position uint64, err error) {
	options := []Option{IfIndex(last)}
	if epoch > 0 {
		options = append(options, Term(epoch))
	}
	proposal := newEntry(options)
	proposal.event = e
	receipt, err := l.propose(ctx, proposal)
	return receipt.Index, err
}
