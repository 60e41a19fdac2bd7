package raftlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/raftlog/internal/cluster"
	"migrationlog/recovery"
)

// present is the clock of the tests: the moves of the tests are two hours old.
func present() time.Time { return time.UnixMilli(1700000000000).Add(2 * time.Hour) }

// steps records the calls of the handlers.
type steps struct {
	mu   sync.Mutex
	list []string
}

func (s *steps) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, fmt.Sprintf(format, args...))
}

func (s *steps) handlers() recovery.Handlers {
	return recovery.Handlers{
		Concurrency: 1,
		Compensate: func(_ context.Context, step recovery.Step) error {
			s.add("compensate %d: %s, epoch %d", step.MigrationID[15], step.Compensation.Kind, step.Epoch)
			return nil
		},
		Resume: func(_ context.Context, d recovery.Decision, epoch uint64) error {
			s.add("resume %d, epoch %d", d.MigrationID()[15], epoch)
			return nil
		},
	}
}

var (
	stale = recovery.Policy{AbortTimeout: time.Hour}
	fresh = recovery.Policy{AbortTimeout: 24 * time.Hour}
)

// A leader recovers with its term as the epoch, as a Store does with an epoch of its own.
func TestRecover_AsLeader(t *testing.T) {
	m := newGroup(t, 1).Leader()
	p, ctx := proposerOf(m, &ProposerOptions{Now: present}), t.Context()
	_, err := p.Upsert(ctx, learnerOf(t, 1))
	require.NoError(t, err)
	_, err = p.Upsert(ctx, checkpointOf(t, 2, 0, checkpoint.Complete{VShardID: 2, GhostStubInstalled: true}))
	require.NoError(t, err)

	var s steps
	term := m.Raft.CurrentTerm()
	require.NoError(t, p.Recover(ctx, fresh, s.handlers()))
	require.Equal(t, []string{fmt.Sprintf("resume 1, epoch %d", term)}, s.list)
	require.Equal(t, 1, m.FSM.(*FSM).Store().Len())
	require.Equal(t, term, m.FSM.(*FSM).Store().Epoch())

	s = steps{}
	h := s.handlers()
	h.Epoch = term + 10
	require.NoError(t, p.Recover(ctx, stale, h))
	require.Equal(t, []string{fmt.Sprintf("compensate 1: RemoveLearner, epoch %d", term+10)}, s.list)
	require.Zero(t, m.FSM.(*FSM).Store().Len())
	require.ErrorIs(t, p.Recover(ctx, stale, s.handlers()), migrationlog.ErrFenced) // the term is lower now

	h.Compensate = nil
	require.ErrorIs(t, p.Recover(ctx, stale, h), migrationlog.ErrInvalid)
}

// A failed handler is in the error, and the other migrations are recovered.
func TestRecover_FailedHandler(t *testing.T) {
	m := newGroup(t, 1).Leader()
	p, ctx := proposerOf(m, &ProposerOptions{Now: present}), t.Context()
	for n := byte(1); n <= 2; n++ {
		_, err := p.Upsert(ctx, learnerOf(t, n))
		require.NoError(t, err)
	}
	var s steps
	h := s.handlers()
	failed := errors.New("group 10 does not respond")
	h.Compensate = func(_ context.Context, step recovery.Step) error {
		if step.MigrationID[15] == 1 {
			return failed
		}
		return nil
	}
	err := p.Recover(ctx, stale, h)
	require.ErrorIs(t, err, failed)
	require.Equal(t, 1, m.FSM.(*FSM).Store().Len())
	require.NoError(t, p.Recover(ctx, stale, s.handlers()))
	require.Zero(t, m.FSM.(*FSM).Store().Len())
}

// A leader that loses its leadership stops before the next step. The next leader continues with the
// first step that is not recorded.
func TestRecover_LeadershipLost(t *testing.T) {
	group := newGroup(t, 3)
	old, ctx := group.Leader(), t.Context()
	p := proposerOf(old, &ProposerOptions{Now: present})
	for n := byte(1); n <= 3; n++ {
		_, err := p.Upsert(ctx, learnerOf(t, n))
		require.NoError(t, err)
	}
	var s steps
	h := s.handlers()
	compensate := h.Compensate
	h.Compensate = func(ctx context.Context, step recovery.Step) error {
		if step.MigrationID[15] == 2 {
			group.Isolate(group.Index(old))
		}
		return compensate(ctx, step)
	}
	term := old.Raft.CurrentTerm()
	err := p.Recover(ctx, stale, h)
	require.True(t, errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrNotLeader), err)
	require.Equal(t, []string{
		fmt.Sprintf("compensate 1: RemoveLearner, epoch %d", term),
		fmt.Sprintf("compensate 2: RemoveLearner, epoch %d", term),
	}, s.list)

	s = steps{}
	next := group.Leader()
	require.NoError(t, proposerOf(next, &ProposerOptions{Now: present}).Recover(ctx, stale, s.handlers()))
	term = next.Raft.CurrentTerm()
	require.Equal(t, []string{
		fmt.Sprintf("compensate 2: RemoveLearner, epoch %d", term), // carried out, and not recorded
		fmt.Sprintf("compensate 3: RemoveLearner, epoch %d", term),
	}, s.list)
	require.Zero(t, next.FSM.(*FSM).Store().Len())
}

// Recover stops before the next step of a leader that has stepped down, also if the step writes
// nothing.
func TestRecover_LeadershipVerified(t *testing.T) {
	group := newGroup(t, 3)
	old, ctx := group.Leader(), t.Context()
	p := proposerOf(old, &ProposerOptions{Now: present})
	for n := byte(1); n <= 3; n++ {
		_, err := p.Upsert(ctx, learnerOf(t, n))
		require.NoError(t, err)
	}
	var s steps
	h := s.handlers()
	resume := h.Resume
	h.Resume = func(ctx context.Context, d recovery.Decision, epoch uint64) error {
		if d.MigrationID()[15] == 2 {
			group.Isolate(group.Index(old))
			cluster.Wait(t, "the leader steps down", func() bool { return old.Raft.State() != raft.Leader })
		}
		return resume(ctx, d, epoch)
	}
	err := p.Recover(ctx, fresh, h)
	var notLeader *NotLeaderError
	require.ErrorAs(t, err, &notLeader)
	require.Len(t, s.list, 2)
}

// A step is not recorded if another writer has changed the migration meanwhile.
func TestRecover_OtherWriter(t *testing.T) {
	m := newGroup(t, 1).Leader()
	p, ctx := proposerOf(m, &ProposerOptions{Now: present}), t.Context()
	_, err := p.Upsert(ctx, learnerOf(t, 1))
	require.NoError(t, err)
	var s steps
	h := s.handlers()
	h.Compensate = func(ctx context.Context, step recovery.Step) error {
		_, err := p.Upsert(ctx, catchUpOf(t, 1), Confirm())
		return err
	}
	require.ErrorIs(t, p.Recover(ctx, stale, h), migrationlog.ErrConflict)
	row, _ := m.FSM.(*FSM).Store().Row(checkpoint.MigrationID{15: 1})
	require.Equal(t, []bool{false}, row.Facts.Abort.Done)
}

// Recover does nothing on a follower, and stops if the member leads again in another term.
func TestRecover_NotLeader(t *testing.T) {
	group := newGroup(t, 3)
	var s steps
	var notLeader *NotLeaderError
	require.ErrorAs(t, proposerOf(group.Follower(), nil).Recover(t.Context(), stale, s.handlers()), &notLeader)
	require.Equal(t, group.Leader().Addr, notLeader.Leader)
	require.Empty(t, s.list)

	leader := group.Leader()
	log := &recoveryLog{Proposer: proposerOf(leader, nil), term: leader.Raft.CurrentTerm()}
	require.NoError(t, log.Check(t.Context()))
	log.term--
	err := log.Check(t.Context())
	require.ErrorAs(t, err, &notLeader)
	require.ErrorIs(t, err, raft.ErrLeadershipLost)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, proposerOf(leader, nil).Recover(ended, stale, s.handlers()), context.Canceled)
}

var _ cluster.FSM = (*FSM)(nil)

// The rows of another group can have an epoch above raft's term. EpochBase makes all later epochs
// higher.
func TestRecover_EpochBase(t *testing.T) {
	m := newGroup(t, 1).Leader()
	p, ctx := proposerOf(m, &ProposerOptions{Now: present}), t.Context()
	_, err := p.Upsert(ctx, learnerOf(t, 1), Term(50))
	require.NoError(t, err)
	var s steps
	require.ErrorIs(t, p.Recover(ctx, fresh, s.handlers()), migrationlog.ErrFenced)

	p = proposerOf(m, &ProposerOptions{Now: present, EpochBase: 50})
	require.Equal(t, 50+m.Raft.CurrentTerm(), p.Epoch())
	for range 2 { // repeated in one leadership
		require.NoError(t, p.Recover(ctx, fresh, s.handlers()))
	}
	require.Equal(t, p.Epoch(), m.FSM.(*FSM).Store().Epoch())
	resume := fmt.Sprintf("resume 1, epoch %d", p.Epoch())
	require.Equal(t, []string{resume, resume}, s.list)
	_, err = p.Upsert(ctx, catchUpOf(t, 1), Term(p.Epoch()))
	require.NoError(t, err)
}
