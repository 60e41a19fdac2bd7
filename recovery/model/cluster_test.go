package model

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

func migration(n byte) checkpoint.MigrationID { return checkpoint.MigrationID{0: 1, 15: n} }

// move7 moves vShard 7 of group 9 from node 1 to node 3.
var move7 = Move{MigrationID: migration(1), VShardID: 7, Group: 9, Source: 1, Target: 3}

func newCluster() *Cluster {
	c := New()
	c.AddGroup(9, 1, 1, 2)
	return c
}

// do carries out all effects before the checkpoint of a phase.
func do(t *testing.T, c *Cluster, m Move, before checkpoint.Phase) {
	c.Begin(m)
	for p := checkpoint.PhaseAddLearner; p < before; p++ {
		for _, e := range EffectsAfter(p) {
			require.NoError(t, c.Do(m, e, 0))
			require.NoError(t, c.Do(m, e, 0)) // as after a crash before its record
		}
	}
}

func kinds(violations []Violation) (all []Kind) {
	for _, v := range violations {
		all = append(all, v.Kind)
	}
	return all
}

func removePeer(k checkpoint.CompensationKind, node uint64) checkpoint.Compensation {
	return checkpoint.Compensation{Kind: k, GroupID: 9, PeerID: node}
}

// Each phase of a move finds the cluster in the state that its checkpoint shows, and each effect
// can be carried out twice.
func TestCluster_Move(t *testing.T) {
	c := newCluster()
	do(t, c, move7, checkpoint.PhaseAddLearner)
	require.Equal(t, []uint64{1, 2}, c.Voters(9))
	do(t, c, move7, checkpoint.PhaseCatchUp)
	require.Equal(t, []uint64{3}, c.Learners(9))
	do(t, c, move7, checkpoint.PhasePromoteLearner)
	require.Equal(t, []uint64{1, 2, 3}, c.Voters(9))
	do(t, c, move7, checkpoint.PhaseLeadershipTransfer)
	leader, _ := c.Leader(9)
	require.EqualValues(t, 1, leader)
	do(t, c, move7, checkpoint.PhaseCutover)
	leader, _ = c.Leader(9)
	require.EqualValues(t, 3, leader)
	require.False(t, c.HasStub(7, 1))
	require.False(t, c.Completed(move7.MigrationID))
	do(t, c, move7, checkpoint.PhaseComplete)
	require.True(t, c.HasStub(7, 1))
	require.True(t, c.Completed(move7.MigrationID))
	c.End(move7.MigrationID)
	require.Empty(t, c.Leaks())
	require.Empty(t, c.Violations())

	back := Move{MigrationID: migration(2), VShardID: 7, Group: 9, Source: 3, Target: 1}
	do(t, c, back, checkpoint.PhaseCutover)
	require.False(t, c.HasStub(7, 1), "a leader does not forward")
}

// An effect is refused if its precondition does not hold, or if its node is gone.
func TestCluster_Preconditions(t *testing.T) {
	for _, e := range []Effect{CatchUp, PromoteLearner, TransferLeadership, InstallStub} {
		require.ErrorIs(t, newCluster().Do(move7, e, 0), ErrPrecondition)
	}
	c := newCluster()
	do(t, c, move7, checkpoint.PhaseCatchUp)
	require.ErrorIs(t, c.Do(move7, PromoteLearner, 0), ErrPrecondition)
	require.ErrorIs(t, c.Do(move7, TransferLeadership, 0), ErrPrecondition)
	c.RemoveNode(3)
	require.False(t, c.Member(3))
	require.ErrorIs(t, c.Do(move7, CatchUp, 0), ErrUnreachable)
	c.RestoreNode(3)
	do(t, c, move7, checkpoint.PhaseCutover)
	require.Empty(t, c.Violations())
}

// An abort undoes a move at each phase before the transfer, and each compensation can be repeated.
func TestCluster_Abort(t *testing.T) {
	for p := checkpoint.PhaseAddLearner; p <= checkpoint.PhaseLeadershipTransfer; p++ {
		for _, kind := range []checkpoint.CompensationKind{checkpoint.RemoveLearner, checkpoint.RemoveVoter} {
			c := newCluster()
			do(t, c, move7, p)
			c.BeginAbort(move7.MigrationID)
			for range 2 {
				require.NoError(t, c.Compensate(move7, removePeer(kind, 3), 0))
				require.NoError(t, c.Compensate(move7, removePeer(checkpoint.RestoreLeaderHint, 1), 0))
			}
			c.End(move7.MigrationID)
			require.Empty(t, c.Violations())
			require.Empty(t, c.Leaks())
			require.Equal(t, []uint64{1, 2}, c.Voters(9))
			leader, _ := c.Leader(9)
			require.EqualValues(t, 1, leader)
		}
	}
}

// RestoreLeaderHint gives the leadership back that the move has taken, and no other.
func TestCluster_RestoreLeaderHint(t *testing.T) {
	c := newCluster()
	do(t, c, move7, checkpoint.PhaseCutover)
	hint := removePeer(checkpoint.RestoreLeaderHint, 2)
	for _, test := range []struct {
		move Move
		want uint64
	}{{Move{MigrationID: migration(2), Group: 9, Source: 2, Target: 4}, 3}, {move7, 2}} {
		require.NoError(t, c.Compensate(test.move, hint, 0))
		leader, _ := c.Leader(9)
		require.Equal(t, test.want, leader)
	}
}

// Each kind of violation is found.
func TestCluster_Violations(t *testing.T) {
	other := Move{MigrationID: migration(2), VShardID: 8, Group: 9, Source: 1, Target: 3}
	sameShard := Move{MigrationID: migration(2), VShardID: 7, Group: 9, Source: 1, Target: 4}
	for _, test := range []struct {
		name string
		act  func(*Cluster) error
		want []Kind
		text string
	}{
		{"removes a voter of the group", func(c *Cluster) error {
			return c.Compensate(move7, removePeer(checkpoint.RemoveVoter, 2), 0)
		}, []Kind{PeerInUse}, "removes node 2 from group 9, which uses it"},
		{"removes a peer that another migration has added too", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseCatchUp)
			do(t, c, other, checkpoint.PhaseCatchUp)
			return c.Compensate(move7, removePeer(checkpoint.RemoveLearner, 3), 0)
		}, []Kind{PeerInUse}, "removes node 3 from group 9, in use by 01000000-0000-0000-0000-000000000002"},
		{"removes a peer of another migration that is aborted too", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseCatchUp)
			do(t, c, other, checkpoint.PhaseCatchUp)
			c.BeginAbort(other.MigrationID)
			return c.Compensate(move7, removePeer(checkpoint.RemoveLearner, 3), 0)
		}, nil, ""},
		{"removes a peer that another migration has moved to", func(c *Cluster) error {
			do(t, c, other, checkpoint.PhaseComplete)
			c.End(other.MigrationID)
			do(t, c, move7, checkpoint.PhaseCatchUp)
			return c.Compensate(move7, removePeer(checkpoint.RemoveVoter, 3), 0)
		}, []Kind{PeerInUse}, "removes node 3 from group 9, which uses it"},
		{"removes a peer that left and was added again", func(c *Cluster) error {
			do(t, c, other, checkpoint.PhaseComplete)
			c.End(other.MigrationID)
			c.Leave(9, 3)
			do(t, c, move7, checkpoint.PhaseCatchUp)
			return c.Compensate(move7, removePeer(checkpoint.RemoveVoter, 3), 0)
		}, nil, ""},
		{"undoes after the transfer", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseCutover)
			return c.Compensate(move7, removePeer(checkpoint.RemoveVoter, 3), 0)
		}, []Kind{PastCutover}, "undoes the move of vShard 7, which node 3 leads"},
		{"ends without removing the learner", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseCatchUp)
			c.End(move7.MigrationID)
			return nil
		}, []Kind{Leak}, "leaves node 3 in group 9"},
		{"ends without removing the learner that another migration uses", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseCatchUp)
			do(t, c, other, checkpoint.PhaseCatchUp)
			c.End(move7.MigrationID)
			return nil
		}, nil, ""},
		{"adds a learner after its end", func(c *Cluster) error {
			c.Begin(move7)
			c.End(move7.MigrationID)
			return c.Do(move7, AddLearner, 0)
		}, []Kind{Leak}, "leaves node 3 in group 9"},
		{"aborts and leaves the ghost stub", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseComplete)
			c.BeginAbort(move7.MigrationID)
			c.End(move7.MigrationID)
			return nil
		}, []Kind{Leak}, "leaves the ghost stub of vShard 7 on node 1"},
		{"drives two migrations of one vShard", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseCatchUp)
			c.Begin(sameShard)
			return c.Drive(sameShard, 0)
		}, []Kind{TwoCoordinators}, "acts on vShard 7 together with 01000000-0000-0000-0000-000000000001"},
		{"drives another migration of the vShard after a restart", func(c *Cluster) error {
			do(t, c, move7, checkpoint.PhaseCatchUp)
			c.Restart()
			return c.Drive(sameShard, 0)
		}, nil, ""},
		{"acts after a higher epoch", func(c *Cluster) error {
			require.NoError(t, c.Drive(move7, 2))
			c.Restart()
			return c.Drive(move7, 1)
		}, []Kind{TwoCoordinators}, "acts on vShard 7 after its coordinator was superseded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, c := range []*Cluster{newCluster(), newCluster().Branch()} {
				require.NoError(t, test.act(c))
				found := append(c.Violations(), c.Leaks()...)
				require.Equal(t, test.want, kinds(found))
				if len(found) > 0 {
					require.Equal(t, test.text, found[0].String())
				}
			}
		})
	}
}

// A fence refuses an effect and a compensation of a superseded coordinator.
func TestCluster_Fence(t *testing.T) {
	c := newCluster()
	c.Fence = true
	c.Begin(move7)
	require.NoError(t, c.Do(move7, AddLearner, 2))
	require.ErrorIs(t, c.Do(move7, CatchUp, 1), ErrFenced)
	require.ErrorIs(t, c.Compensate(move7, removePeer(checkpoint.RemoveLearner, 3), 1), ErrFenced)
	require.NoError(t, c.Compensate(move7, removePeer(checkpoint.RemoveLearner, 3), 3))
	require.Empty(t, c.Violations())
}

// A branch does not change the cluster below it.
func TestCluster_Branch(t *testing.T) {
	c := newCluster()
	do(t, c, move7, checkpoint.PhaseCatchUp)
	b := c.Branch()
	do(t, b, move7, checkpoint.PhaseComplete)
	b.RemoveNode(3)
	b.End(move7.MigrationID)
	b.Leave(9, 2)
	require.Equal(t, []uint64{3}, c.Learners(9))
	require.Equal(t, []uint64{1, 2}, c.Voters(9))
	require.Equal(t, []uint64{1, 3}, b.Voters(9))
	require.True(t, c.Member(3))
	require.False(t, c.HasStub(7, 1))
	require.NoError(t, c.Do(move7, CatchUp, 0))
	require.NoError(t, c.Compensate(move7, removePeer(checkpoint.RemoveLearner, 3), 0))
	require.Empty(t, c.Violations())
}
