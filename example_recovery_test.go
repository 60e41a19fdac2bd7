package migrationlog_test

import (
	"errors"
	"fmt"
	"os"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// A coordinator starts: what its predecessor has left is finished, undone or taken on.
func ExampleStore_Rows() {
	dir, _ := os.MkdirTemp("", "coordinator-")
	defer os.RemoveAll(dir)
	predecessor(dir)

	store, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: true})
	if err != nil {
		panic(err) // or, with ErrLocked, the predecessor is still there
	}
	defer store.Close()
	for row := range store.Rows() {
		if err := takeOver(store, row); errors.Is(err, migrationlog.ErrFailed) {
			panic(err) // whether it was written is unknown: close the store, open it again, and look
		} else if err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(store.Len(), "in flight")
	// Output:
	// vShard 1: finished
	// vShard 2: RemoveLearner 5 from group 20
	// vShard 2: aborted
	// vShard 3: goes on with PromoteLearner, the target is node 4
	// 1 in flight
}

func takeOver(store *migrationlog.Store, row projection.Row) error {
	c, vshardID := row.Checkpoint, row.Checkpoint.Payload.Shard()
	ifSeq := migrationlog.IfSeq(row.Seq) // nobody else has taken it over meanwhile
	switch {
	case row.Doubt == projection.InDoubt: // its last event may be lost: only the cluster knows
		fmt.Printf("vShard %d: find out where it stands, and write that, with Confirm\n", vshardID)
		return nil
	case c.Phase() == checkpoint.PhaseComplete:
		fmt.Printf("vShard %d: finished\n", vshardID)
		_, err := store.Remove(c.MigrationID, ifSeq)
		return err
	case c.Phase() < checkpoint.PhaseCutover && !isMember(row.Facts.TargetNode): // beyond, there is no way back
		var undo []checkpoint.Compensation
		if c.Phase() < checkpoint.PhasePromoteLearner {
			undo = append(undo, checkpoint.Compensation{Kind: checkpoint.RemoveLearner, GroupID: row.Facts.SourceGroup, PeerID: row.Facts.TargetNode})
		} else {
			undo = append(undo, checkpoint.Compensation{Kind: checkpoint.RemoveVoter, GroupID: row.Facts.SourceGroup, PeerID: row.Facts.TargetNode})
			if row.Facts.HasSource {
				undo = append(undo, checkpoint.Compensation{Kind: checkpoint.RestoreLeaderHint, GroupID: row.Facts.SourceGroup, PeerID: row.Facts.SourceNode})
			}
		}
		for _, u := range undo { // first, and so that it may be done again: after the abort there is no row to tell of it
			fmt.Printf("vShard %d: %s %d from group %d\n", vshardID, u.Kind, u.PeerID, u.GroupID)
		}
		fmt.Printf("vShard %d: aborted\n", vshardID)
		_, err := store.Abort(c.MigrationID, "the target is no member any more", undo, ifSeq)
		return err
	}
	fmt.Printf("vShard %d: goes on with %s, the target is node %d\n", vshardID, c.Phase()+1, row.Facts.TargetNode)
	return nil
}

func isMember(node uint64) bool { return node != 5 }

// predecessor is a coordinator that stopped in the middle of three moves.
func predecessor(dir string) {
	store, err := migrationlog.Open(dir, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	for vshardID, target := range []uint64{1: 4, 2: 5, 3: 4} {
		if target == 0 {
			continue
		}
		v := uint32(vshardID)
		steps := []checkpoint.Payload{
			checkpoint.AddLearner{VShardID: v, SourceNode: 1, TargetNode: target, SourceGroup: uint64(10 * v)},
			checkpoint.CatchUp{VShardID: v, LearnerLogIndexAtAdd: 42},
		}
		if v == 1 {
			steps = append(steps, checkpoint.Complete{VShardID: v, ActualPauseUS: 900, GhostStubInstalled: true})
		}
		id := checkpoint.NewMigrationID()
		for _, step := range steps {
			c, err := checkpoint.New(id, 0, step, 1795399697649)
			if err != nil {
				panic(err)
			}
			// Of two that begin to move one vShard, one fails.
			if _, err := store.Upsert(c, migrationlog.IfVShardFree()); err != nil {
				panic(err)
			}
		}
	}
}
