package migrationlog_test

import (
	"errors"
	"fmt"
	"os"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// A coordinator that starts decides what to do with each row of its predecessor. It asks a person
// if the history does not decide.
func ExampleStore_Rows() {
	dir, _ := os.MkdirTemp("", "coordinator-")
	defer os.RemoveAll(dir)
	raft := predecessor(dir)

	store, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: true})
	if err != nil {
		panic(err) // ErrLocked: the predecessor still runs
	}
	defer store.Close()
	takeOverAll(store, raft)
	for _, step := range raft.carriedOut {
		fmt.Println("carried out:", step.Kind, step.PeerID, "from group", step.GroupID)
	}
	fmt.Println(store.Len(), "in flight")
	// Output:
	// vShard 1: finished
	// vShard 2: undo
	// vShard 3: resume at CatchUp, the target is node 4
	// vShard 4: ask: the history does not name the target
	// vShard 5: the target leads group 50: record Cutover
	// carried out: RemoveLearner 5 from group 20
	// 3 in flight
}

func takeOverAll(store *migrationlog.Store, g groups) {
	for row := range store.Rows() {
		if err := takeOver(store, g, row); errors.Is(err, migrationlog.ErrFailed) {
			panic(err) // the outcome of the write is unknown: close the store and open it again
		} else if err != nil {
			fmt.Println(err)
		}
	}
}

// takeOver ends a migration that has finished or must be undone, and shows the decision about the
// others. It assumes that no run went back to an earlier phase, because a row does not show the
// furthest phase of its migration.
func takeOver(store *migrationlog.Store, g groups, row projection.Row) error {
	c, facts, vshardID := row.Checkpoint, row.Facts, row.Checkpoint.Payload.Shard()
	if q := question(row); q != "" {
		// Find out the true state from the cluster and write it: see ExampleConfirm.
		fmt.Printf("vShard %d: ask: %s\n", vshardID, q)
		return nil
	}
	if c.Phase() == checkpoint.PhaseComplete {
		fmt.Printf("vShard %d: finished\n", vshardID)
		_, err := store.Remove(c.MigrationID, migrationlog.IfSeq(row.LastSeq)) // fails if another coordinator has written this row
		return err
	}
	target, err := g.member(facts.SourceGroup, facts.TargetNode, c.MigrationID)
	if err != nil {
		return err
	}
	leader, err := g.leader(facts.SourceGroup)
	if err != nil {
		return err
	}
	switch {
	case target == absent:
		fmt.Printf("vShard %d: undo\n", vshardID)
		return undo(store, g, row, "the target is no longer a member")
	case c.Phase() == checkpoint.PhaseLeadershipTransfer && leader == facts.TargetNode:
		fmt.Printf("vShard %d: the target leads group %d: record Cutover\n", vshardID, facts.SourceGroup)
	default:
		fmt.Printf("vShard %d: resume at %s, the target is node %d\n", vshardID, c.Phase(), facts.TargetNode)
	}
	return nil
}

// question returns the reason why a coordinator cannot decide about a row without asking the cluster
// or a person. It returns "" if the row is enough.
func question(row projection.Row) string {
	switch {
	case row.Doubt == projection.InDoubt:
		return "a lost event may have been its last"
	case row.Checkpoint.Attempt == settling:
		return "settle was interrupted"
	case row.Checkpoint.Phase() == checkpoint.PhaseComplete:
		return "" // the only step left is to remove the row
	case !row.Facts.HasTarget:
		return "the history does not name the target"
	case row.Facts.TargetUncertain:
		// The fact may name a healthy peer of another migration, so nothing can be undone safely.
		return "a lost event may have named another target"
	case !row.Facts.HasSource: // SourceUncertain may be false here
		return "the history does not name the source"
	case row.Facts.SourceUncertain:
		return "a lost event may have named another source"
	}
	return ""
}

// fakeGroups is a cluster in which each group has at most one move.
type fakeGroups struct {
	targets    map[uint64]membership // by group
	leaders    map[uint64]uint64     // by group
	late       func()                // a proposal of a dead coordinator that has not committed yet
	carriedOut []checkpoint.Compensation
}

func newFakeGroups() *fakeGroups {
	return &fakeGroups{targets: map[uint64]membership{}, leaders: map[uint64]uint64{}}
}

// fence waits for a barrier in the group's log: all earlier proposals have then committed.
func (g *fakeGroups) fence(uint64, checkpoint.MigrationID) error {
	g.commitLate()
	return nil
}

func (g *fakeGroups) commitLate() {
	if g.late != nil {
		g.late()
		g.late = nil
	}
}

func (g *fakeGroups) member(group, _ uint64, _ checkpoint.MigrationID) (membership, error) {
	return g.targets[group], nil
}

func (g *fakeGroups) leader(group uint64) (uint64, error) { return g.leaders[group], nil }

// carryOut removes a target only if it is of the compensation's kind.
func (g *fakeGroups) carryOut(step checkpoint.Compensation) error {
	g.carriedOut = append(g.carriedOut, step)
	target := g.targets[step.GroupID]
	if target == learner && step.Kind == checkpoint.RemoveLearner || target == voter && step.Kind == checkpoint.RemoveVoter {
		delete(g.targets, step.GroupID)
	}
	return nil
}

// predecessor is a coordinator that stopped in the middle of five moves. The fourth move was
// imported from a table of latest rows, so that its AddLearner is missing. predecessor returns the
// cluster, in which the second move's learner is gone and the fifth move's transfer has committed.
func predecessor(dir string) *fakeGroups {
	raft := newFakeGroups()
	raft.targets[30], raft.targets[50], raft.leaders[50] = learner, voter, 4
	store, err := migrationlog.Open(dir, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	for _, steps := range [][]checkpoint.Payload{
		{
			checkpoint.AddLearner{VShardID: 1, SourceNode: 1, TargetNode: 4, SourceGroup: 10},
			checkpoint.CatchUp{VShardID: 1, LearnerLogIndexAtAdd: 42},
			checkpoint.PromoteLearner{VShardID: 1, TargetNode: 4, SourceGroup: 10},
			checkpoint.LeadershipTransfer{VShardID: 1, TargetIsVoter: true, NewLeaderNodeID: 4, SourceGroup: 10},
			checkpoint.Cutover{VShardID: 1, NewLeaderNodeID: 4, SourceGroup: 10},
			checkpoint.Complete{VShardID: 1, ActualPauseUS: 900, GhostStubInstalled: true},
		},
		{
			checkpoint.AddLearner{VShardID: 2, SourceNode: 1, TargetNode: 5, SourceGroup: 20},
			checkpoint.CatchUp{VShardID: 2, LearnerLogIndexAtAdd: 42},
		},
		{
			checkpoint.AddLearner{VShardID: 3, SourceNode: 1, TargetNode: 4, SourceGroup: 30},
			checkpoint.CatchUp{VShardID: 3, LearnerLogIndexAtAdd: 42},
		},
		{
			checkpoint.CatchUp{VShardID: 4, LearnerLogIndexAtAdd: 42},
		},
		{
			checkpoint.AddLearner{VShardID: 5, SourceNode: 1, TargetNode: 4, SourceGroup: 50},
			checkpoint.LeadershipTransfer{VShardID: 5, TargetIsVoter: true, NewLeaderNodeID: 4, SourceGroup: 50},
		},
	} {
		id := checkpoint.NewMigrationID()
		for _, step := range steps {
			c, err := checkpoint.New(id, 0, step, 1795399697649)
			if err != nil {
				panic(err)
			}
			// If two coordinators start to move one vShard, one of them fails.
			if _, err := store.Upsert(c, migrationlog.IfVShardFree()); err != nil {
				panic(err)
			}
		}
	}
	return raft
}
