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
	predecessor(dir)

	store, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: true})
	if err != nil {
		panic(err) // ErrLocked: the predecessor still runs
	}
	defer store.Close()
	for row := range store.Rows() {
		if err := takeOver(store, row); errors.Is(err, migrationlog.ErrFailed) {
			panic(err) // the outcome of the write is unknown: close the store and open it again
		} else if err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(store.Len(), "in flight")
	// Output:
	// vShard 1: finished
	// vShard 2: RemoveLearner 5 from group 20
	// vShard 2: aborted
	// vShard 3: resume with PromoteLearner, the target is node 4
	// vShard 4: ask: the history does not name the target
	// 2 in flight
}

// takeOver continues, undoes or finishes one migration. It assumes that no run went back to an
// earlier phase, because a row does not show the furthest phase of its migration.
func takeOver(store *migrationlog.Store, row projection.Row) error {
	c, facts, vshardID := row.Checkpoint, row.Facts, row.Checkpoint.Payload.Shard()
	ifSeq := migrationlog.IfSeq(row.Seq) // fails if another coordinator has written this row
	switch {
	case question(row) != "":
		// Find out the true state from the cluster and write it: see ExampleConfirm.
		fmt.Printf("vShard %d: ask: %s\n", vshardID, question(row))
		return nil
	case c.Phase() == checkpoint.PhaseComplete:
		fmt.Printf("vShard %d: finished\n", vshardID)
		_, err := store.Remove(c.MigrationID, ifSeq)
		return err
	case isMember(facts.TargetNode):
		fmt.Printf("vShard %d: resume with %s, the target is node %d\n", vshardID, c.Phase()+1, facts.TargetNode)
		return nil
	case c.Phase() >= checkpoint.PhaseLeadershipTransfer:
		// The target may lead the group: the transfer may have been committed after the row was
		// written. From Cutover on, a move is never undone.
		fmt.Printf("vShard %d: ask: who leads group %d\n", vshardID, facts.SourceGroup)
		return nil
	}
	undo := compensations(c.Phase(), facts)
	for _, u := range undo { // before Abort, and each must be safe to repeat: after Abort there is no row
		fmt.Printf("vShard %d: %s %d from group %d\n", vshardID, u.Kind, u.PeerID, u.GroupID)
	}
	fmt.Printf("vShard %d: aborted\n", vshardID)
	_, err := store.Abort(c.MigrationID, "the target is no longer a member", undo, ifSeq)
	return err
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
	}
	return ""
}

// compensations returns the steps that undo a move that reached this phase, in order. The target
// must be known and certain.
func compensations(reached checkpoint.Phase, facts projection.Facts) []checkpoint.Compensation {
	if reached < checkpoint.PhasePromoteLearner {
		return []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: facts.SourceGroup, PeerID: facts.TargetNode}}
	}
	undo := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: facts.SourceGroup, PeerID: facts.TargetNode}}
	if facts.HasSource && !facts.SourceUncertain {
		undo = append(undo, checkpoint.Compensation{Kind: checkpoint.RestoreLeaderHint, GroupID: facts.SourceGroup, PeerID: facts.SourceNode})
	}
	return undo
}

func isMember(node uint64) bool { return node != 5 }

// predecessor is a coordinator that stopped in the middle of four moves. The fourth move was
// imported from a table of latest rows, so that its AddLearner is missing.
func predecessor(dir string) {
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
}
