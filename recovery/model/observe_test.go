package model

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

func observe(c *Cluster, m Move, from, through checkpoint.Phase) {
	for p := from; p <= through; p++ {
		c.Observe(checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: m.MigrationID, Payload: m.Payload(p)}})
	}
}

func state(c *Cluster) string {
	leader, ok := c.Leader(9)
	return fmt.Sprint("voters ", c.Voters(9), " learners ", c.Learners(9), " leader ", leader, ok, " stub ", c.HasStub(7, 1))
}

// A checkpoint proves the effects before it. With its unrecorded effects, the cluster is where the
// next checkpoint finds it.
func TestCluster_Observe(t *testing.T) {
	for p := checkpoint.PhaseAddLearner; p <= checkpoint.PhaseComplete; p++ {
		done, observed := New(), New()
		done.AddGroup(9, 1, 1)
		do(t, done, move7, p)
		observe(observed, move7, checkpoint.PhaseAddLearner, p)
		require.Equal(t, state(done), state(observed), p)
		if p < checkpoint.PhaseComplete {
			do(t, done, move7, p+1)
			observed.Assume(move7.MigrationID, observed.Unrecorded(move7.MigrationID))
			require.Equal(t, state(done), state(observed), p)
		}
		m, ok := observed.Move(move7.MigrationID)
		require.True(t, ok)
		require.Equal(t, move7, m)
	}
}

// A later checkpoint does not take the leadership back from another move.
func TestCluster_ObserveLaterTransfer(t *testing.T) {
	c := New()
	observe(c, move7, checkpoint.PhaseAddLearner, checkpoint.PhaseCutover)
	observe(c, Move{MigrationID: migration(2), VShardID: 8, Group: 9, Source: 3, Target: 4}, checkpoint.PhaseAddLearner, checkpoint.PhaseCutover)
	observe(c, move7, checkpoint.PhaseComplete, checkpoint.PhaseComplete)
	leader, _ := c.Leader(9)
	require.EqualValues(t, 4, leader)
}

// The recorded steps of an abort have been carried out, and nothing else of it.
func TestCluster_ObserveAbort(t *testing.T) {
	id := move7.MigrationID
	steps := []checkpoint.Compensation{removePeer(checkpoint.RestoreLeaderHint, 1), removePeer(checkpoint.RemoveVoter, 3)}
	for _, events := range [][]checkpoint.Event{
		{checkpoint.Aborted{MigrationID: id, Compensations: steps}},
		{checkpoint.AbortBegun{MigrationID: id, Compensations: steps}, checkpoint.Compensated{MigrationID: id, Step: 1}},
	} {
		c := New()
		observe(c, move7, checkpoint.PhaseAddLearner, checkpoint.PhaseLeadershipTransfer)
		for i, e := range events {
			require.Equal(t, []uint64{1, 3}, c.Voters(9), i)
			c.Observe(e)
		}
		require.Equal(t, []uint64{1}, c.Voters(9))
		require.Empty(t, c.Unrecorded(id))
		require.Empty(t, c.Violations())
	}
}

// A node that is added again has left the group before, unless a migration in flight uses it.
func TestCluster_ObserveReturn(t *testing.T) {
	again := Move{MigrationID: migration(2), VShardID: 8, Group: 9, Source: 1, Target: 3}
	for through, inUse := range map[checkpoint.Phase]bool{checkpoint.PhaseCutover: true, checkpoint.PhaseComplete: false} {
		c := New()
		observe(c, move7, checkpoint.PhaseAddLearner, through)
		observe(c, again, checkpoint.PhaseAddLearner, checkpoint.PhaseCatchUp)
		require.NoError(t, c.Compensate(again, removePeer(checkpoint.RemoveLearner, 3), 0))
		require.Equal(t, inUse, len(c.Violations()) > 0)
	}
}

// A history without an AddLearner does not have the target. An abort then leaks it, and
// PromoteLearner names it.
func TestCluster_ObserveUnknownTarget(t *testing.T) {
	c := New()
	observe(c, move7, checkpoint.PhaseCatchUp, checkpoint.PhaseCatchUp)
	require.Empty(t, c.Unrecorded(move7.MigrationID))
	b := c.Branch()
	b.BeginAbort(move7.MigrationID)
	b.End(move7.MigrationID)
	require.Equal(t, []Kind{Leak}, kinds(b.Violations()))
	require.Equal(t, "is aborted, but the log does not name its target, so no peer was removed", b.Violations()[0].String())
	observe(c, move7, checkpoint.PhasePromoteLearner, checkpoint.PhasePromoteLearner)
	require.Equal(t, []uint64{3}, c.Voters(9))
}
