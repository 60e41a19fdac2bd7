package raftlog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/raftlog/internal/cluster"
)

// newGroup starts a raft group of this many members.
func newGroup(t *testing.T, members int) *cluster.Cluster {
	return cluster.New(t, t.TempDir(), members, cluster.Config{
		Open: func(m *cluster.Member) (cluster.FSM, error) {
			return Open(m.StoreDir(), &Options{
				NodeID: string(m.ID), Logger: m.Log,
				OnFailure: func(err error) { t.Errorf("member %s has stopped: %v", m.ID, err) },
			})
		},
		Configure: func(conf *raft.Config, snaps raft.SnapshotStore, fsm cluster.FSM) error {
			return Configure(conf, snaps, fsm.(*FSM))
		},
	})
}

func proposerOf(m *cluster.Member, opts *ProposerOptions) *Proposer {
	return NewProposer(m.Raft, m.FSM.(*FSM), opts)
}

func checkpointOf(t testing.TB, n byte, attempt uint32, p checkpoint.Payload) checkpoint.Checkpoint {
	c, err := checkpoint.New(checkpoint.MigrationID{15: n}, attempt, p, 1700000000000)
	require.NoError(t, err)
	return c
}

// learnerOf and catchUpOf are the first two checkpoints of migration n.
func learnerOf(t testing.TB, n byte) checkpoint.Checkpoint {
	return checkpointOf(t, n, 0, checkpoint.AddLearner{VShardID: uint32(n), SourceNode: 1, TargetNode: 3, SourceGroup: 10 * uint64(n)})
}

func catchUpOf(t testing.TB, n byte) checkpoint.Checkpoint {
	return checkpointOf(t, n, 0, checkpoint.CatchUp{VShardID: uint32(n), LearnerLogIndexAtAdd: 42})
}

// The calls write the same events as those of a Store, and return its errors unchanged.
func TestProposer_Calls(t *testing.T) {
	m := newGroup(t, 1).Leader()
	p := proposerOf(m, &ProposerOptions{Now: func() time.Time { return time.UnixMilli(77) }})
	ctx, id, comps := t.Context(), checkpoint.MigrationID{15: 1}, testComps

	learner, err := p.Upsert(ctx, learnerOf(t, 1), IfIndex(0), IfVShardFree(), InOrder(), Strict(), Term(5))
	require.NoError(t, err)
	require.Equal(t, Receipt{Index: m.Raft.LastIndex()}, learner)
	again, err := p.Upsert(ctx, learnerOf(t, 1), IfIndex(0))
	require.NoError(t, err)
	require.Equal(t, Receipt{Index: learner.Index, Duplicate: true}, again)

	for name, test := range map[string]struct {
		call func() (Receipt, error)
		want error
	}{
		"another index":      {func() (Receipt, error) { return p.Upsert(ctx, catchUpOf(t, 1), IfIndex(0)) }, migrationlog.ErrConflict},
		"a lower term":       {func() (Receipt, error) { return p.Upsert(ctx, catchUpOf(t, 1), Term(4)) }, migrationlog.ErrFenced},
		"a skipped phase":    {func() (Receipt, error) { return p.Upsert(ctx, catchUpOf(t, 9), InOrder()) }, migrationlog.ErrOutOfOrder},
		"a vShard in flight": {func() (Receipt, error) { return p.Upsert(ctx, otherMigration(t), IfVShardFree()) }, migrationlog.ErrMigrationInProgress},
		"no abort under way": {func() (Receipt, error) { return p.Compensated(ctx, id, 0) }, migrationlog.ErrInvalid},
		"term 0":             {func() (Receipt, error) { return p.Remove(ctx, id, Term(0)) }, migrationlog.ErrInvalid},
		"a timestamp":        {func() (Receipt, error) { return p.Upsert(ctx, catchUpOf(t, 1), WithTimestamp(3)) }, migrationlog.ErrInvalid},
	} {
		_, err := test.call()
		require.ErrorIs(t, err, test.want, name)
		require.NotErrorIs(t, err, ErrNotProposed, name)
		require.NotErrorIs(t, err, ErrUnknownOutcome, name)
	}

	begun, err := p.BeginAbort(ctx, id, "stale", comps, IfIndex(learner.Index))
	require.NoError(t, err)
	_, err = p.Upsert(ctx, catchUpOf(t, 1))
	require.ErrorIs(t, err, migrationlog.ErrAborting)
	step, err := p.Compensated(ctx, id, 0, IfIndex(begun.Index), WithTimestamp(88))
	require.NoError(t, err)
	ended, err := p.Abort(ctx, id, "stale", comps, IfIndex(step.Index))
	require.NoError(t, err)
	require.Equal(t, []uint64{77, 88, 77}, timestampsAfter(t, m, learner.Index))
	require.Zero(t, m.FSM.(*FSM).Store().Len())

	removed, err := p.Remove(ctx, id)
	require.NoError(t, err)
	require.Equal(t, Receipt{}, removed)
	require.EqualValues(t, 5, m.FSM.(*FSM).Store().Epoch())
	require.Equal(t, ended.Index, m.FSM.(*FSM).AppliedIndex())
}

func otherMigration(t testing.TB) checkpoint.Checkpoint {
	c := learnerOf(t, 1)
	c.MigrationID = checkpoint.MigrationID{15: 2}
	return c
}

// timestampsAfter returns the timestamps of the events after an index.
func timestampsAfter(t testing.TB, m *cluster.Member, index uint64) (timestamps []uint64) {
	for r, err := range m.FSM.(*FSM).Store().History(t.Context(), checkpoint.MigrationID{15: 1}) {
		require.NoError(t, err)
		if r.RaftIndex > index {
			timestamps = append(timestamps, r.Event.WallMS())
		}
	}
	return timestamps
}

// Nothing is proposed by a follower, by a member that is shut down, or after ctx has ended.
func TestProposer_NotProposed(t *testing.T) {
	group := newGroup(t, 3)
	leader, follower := group.Leader(), group.Follower()
	before := leader.Raft.LastIndex()
	_, err := proposerOf(follower, nil).Upsert(t.Context(), learnerOf(t, 1))
	var notLeader *NotLeaderError
	require.ErrorAs(t, err, &notLeader)
	require.Equal(t, leader.Addr, notLeader.Leader)
	require.ErrorIs(t, err, ErrNotProposed)
	require.ErrorIs(t, err, raft.ErrNotLeader)
	require.ErrorContains(t, err, "propose on the leader, "+string(leader.Addr))

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = proposerOf(leader, nil).Upsert(ended, learnerOf(t, 1))
	require.ErrorIs(t, err, ErrNotProposed)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, leader.Raft.LastIndex())

	p := proposerOf(follower, nil)
	require.NoError(t, follower.Raft.Shutdown().Error())
	_, err = p.Upsert(t.Context(), learnerOf(t, 1))
	require.ErrorIs(t, err, ErrNotProposed)
	require.ErrorIs(t, err, raft.ErrRaftShutdown)
}

// Each error of raft is one of two results: nothing was proposed, or the outcome is unknown.
func TestProposer_ErrorsOfRaft(t *testing.T) {
	p := proposerOf(newGroup(t, 1).Leader(), nil)
	for err, proposed := range map[error]bool{
		raft.ErrNotLeader:                    false,
		raft.ErrLeadershipTransferInProgress: false,
		raft.ErrEnqueueTimeout:               false,
		raft.ErrAbortedByRestore:             false,
		raft.ErrLeadershipLost:               true,
		raft.ErrRaftShutdown:                 true,
		context.DeadlineExceeded:             true,
		errors.New("disk full"):              true,
	} {
		got := p.outcome(fmt.Errorf("raft: %w", err), 12)
		require.ErrorIs(t, got, err)
		require.Equal(t, proposed, errors.Is(got, ErrUnknownOutcome), err)
		require.Equal(t, !proposed, errors.Is(got, ErrNotProposed), err)
		if proposed {
			var unknown *UnknownOutcomeError
			require.ErrorAs(t, got, &unknown)
			require.EqualValues(t, 12, unknown.Index)
		}
	}
}

// A leader without a majority cannot know the outcome. The retry with the index of the error is
// applied exactly once, and not after the next phase.
func TestProposer_UnknownOutcome(t *testing.T) {
	group := newGroup(t, 3)
	old := group.Leader()
	learner, err := proposerOf(old, nil).Upsert(t.Context(), learnerOf(t, 1))
	require.NoError(t, err)
	group.Isolate(group.Index(old))

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := proposerOf(old, nil).Upsert(short, learnerOf(t, 2), IfIndex(99))
		ended <- err
	}()
	_, err = proposerOf(old, nil).Upsert(t.Context(), catchUpOf(t, 1))
	var unknown *UnknownOutcomeError
	require.ErrorAs(t, err, &unknown)
	require.ErrorIs(t, err, ErrUnknownOutcome)
	require.ErrorIs(t, err, raft.ErrLeadershipLost)
	require.Equal(t, learner.Index, unknown.Index)
	err = <-ended
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualValues(t, 99, errorIndex(t, err))

	p := proposerOf(group.Leader(), nil)
	receipt, err := p.Upsert(t.Context(), catchUpOf(t, 1), IfIndex(unknown.Index))
	require.NoError(t, err)
	require.False(t, receipt.Duplicate)
	again, err := p.Upsert(t.Context(), catchUpOf(t, 1), IfIndex(unknown.Index))
	require.NoError(t, err)
	require.Equal(t, Receipt{Index: receipt.Index, Duplicate: true}, again)
	_, err = p.Upsert(t.Context(), checkpointOf(t, 1, 0, checkpoint.PromoteLearner{VShardID: 1, TargetNode: 3, SourceGroup: 10}))
	require.NoError(t, err)
	_, err = p.Upsert(t.Context(), catchUpOf(t, 1), IfIndex(unknown.Index))
	require.ErrorIs(t, err, migrationlog.ErrConflict)
}

// If a member has stopped, the outcome is unknown, because the other members continue.
func TestProposer_StoppedMember(t *testing.T) {
	m := newGroup(t, 1).Leader()
	require.NoError(t, m.FSM.Close())
	_, err := proposerOf(m, nil).Upsert(t.Context(), learnerOf(t, 1))
	require.ErrorIs(t, err, ErrUnknownOutcome)
	require.ErrorIs(t, err, migrationlog.ErrClosed)
	require.Zero(t, errorIndex(t, err))
}

func errorIndex(t testing.TB, err error) uint64 {
	var unknown *UnknownOutcomeError
	require.ErrorAs(t, err, &unknown)
	return unknown.Index
}

// If the state machine skips the entry or changes the response, the outcome is unknown.
func TestProposer_WrongResponse(t *testing.T) {
	group := cluster.New(t, t.TempDir(), 1, cluster.Config{
		Open: func(m *cluster.Member) (cluster.FSM, error) {
			fsm, err := Open(m.StoreDir(), nil)
			return &responder{FSM: fsm}, err
		},
	})
	m := group.Leader()
	fsm := m.FSM.(*responder)
	p := NewProposer(m.Raft, fsm.FSM, nil)
	for response, want := range map[any]string{nil: "the store has skipped the new entry", "ok": "responded with string"} {
		fsm.response = response
		_, err := p.Upsert(t.Context(), learnerOf(t, 1))
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.ErrorContains(t, err, want)
	}
}

// responder is a state machine that replaces each response.
type responder struct {
	*FSM
	response any
}

func (r *responder) ApplyBatch(logs []*raft.Log) []any {
	responses := r.FSM.ApplyBatch(logs)
	for i := range responses {
		responses[i] = r.response
	}
	return responses
}
