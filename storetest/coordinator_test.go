package storetest_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/recovery/model"
	"migrationlog/storetest"
)

// coordinator moves vShards 1 and 2 from node 1 to node 3, and vShard 3 nowhere.
type coordinator struct {
	cluster *storetest.Cluster

	actsFirst    bool // it records a checkpoint after the effects that follow it
	ignoresAbort bool // it does not recover if an abort is unfinished
	beginsAnew   bool // it replaces the log by a new one after an error
	onlyRecovers bool // it begins no move
	goesOn       bool // it does not look at the errors of the store

	store *migrationlog.Store
	epoch uint64
}

// TestCoordinator tests the coordinator with every kind of fault.
func TestCoordinator(t *testing.T) {
	start := func() storetest.Trial { return newTrial(coordinator{}) }
	t.Run("crashes", func(t *testing.T) { storetest.CrashPoints(t, 1, start) })
	t.Run("kills", func(t *testing.T) { storetest.Kills(t, 20, start) })
	t.Run("failing syncs", func(t *testing.T) { storetest.FailingSyncs(t, start) })
	t.Run("file-size limits", func(t *testing.T) { storetest.FileSizeLimits(t, start) })
	t.Run("small disks", func(t *testing.T) { storetest.SmallDisks(t, 10, start) })
}

// newTrial returns the coordinator, a cluster with a group for each vShard, and a log with a stale
// move of vShard 3.
func newTrial(c coordinator) storetest.Trial {
	nodes := model.New()
	for vshardID := uint32(1); vshardID <= 3; vshardID++ {
		nodes.AddGroup(groupOf(vshardID), 1, 1, 2) // node 1 leads, and node 2 follows
	}
	c.cluster = storetest.NewCluster(nodes)
	return storetest.Trial{Run: c.run, Prepare: writeStale, Cluster: c.cluster}
}

func groupOf(vshardID uint32) uint64 { return 10 * uint64(vshardID) }

// writeStale writes the rows of a move that was left at CatchUp two hours ago.
func writeStale(store *migrationlog.Store) error {
	m := model.Move{MigrationID: checkpoint.NewMigrationID(), VShardID: 3, Group: groupOf(3), Source: 1, Target: 3}
	for _, phase := range []checkpoint.Phase{checkpoint.PhaseAddLearner, checkpoint.PhaseCatchUp} {
		row, err := checkpoint.New(m.MigrationID, 0, m.Payload(phase), uint64(time.Now().Add(-2*time.Hour).UnixMilli()))
		if err != nil {
			return err
		}
		if _, err := store.Upsert(row); err != nil {
			return err
		}
	}
	return nil
}

// run recovers, and then moves each vShard that is not yet where it belongs.
func (c coordinator) run(dir string) (err error) {
	if c.beginsAnew {
		defer func() {
			if err != nil {
				os.RemoveAll(dir)
				if store, failed := migrationlog.Open(dir, nil); failed == nil {
					store.Close()
				}
			}
		}()
	}
	c.store, err = migrationlog.Open(dir, &migrationlog.Options{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.store.Close()) }()
	c.epoch = c.store.Epoch() + 1
	unfinished := slices.ContainsFunc(slices.Collect(c.store.Rows()), func(row projection.Row) bool { return row.Facts.Abort != nil })
	if !c.ignoresAbort || !unfinished {
		results, err := c.store.Recover(context.Background(), recovery.Policy{
			Member: c.cluster.Member,
			Leader: func(group uint64) (uint64, bool) { return c.cluster.Leader(group, c.epoch) },
		}, migrationlog.Handlers{Epoch: c.epoch, Concurrency: 1, Compensate: c.compensate, Resume: c.resume})
		for _, result := range results {
			err = errors.Join(err, result.Err)
		}
		if err != nil {
			return err
		}
	}
	for vshardID := uint32(1); vshardID <= 2 && !c.onlyRecovers; vshardID++ {
		if leader, _ := c.cluster.Leader(groupOf(vshardID), c.epoch); leader == 3 {
			continue
		}
		m := model.Move{MigrationID: checkpoint.NewMigrationID(), VShardID: vshardID, Group: groupOf(vshardID), Source: 1, Target: 3}
		if err := c.drive(m, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func (c coordinator) compensate(_ context.Context, s migrationlog.Step) error {
	return c.cluster.Compensate(moveOf(s.Decision.Row), s.Compensation, s.Epoch)
}

func (c coordinator) resume(_ context.Context, d recovery.Decision, _ uint64) error {
	return c.drive(moveOf(d.Row), d.Row.Checkpoint.Phase(), d.Row.LastSeq)
}

func moveOf(row projection.Row) model.Move {
	return model.Move{
		MigrationID: row.Checkpoint.MigrationID, VShardID: row.Checkpoint.Payload.Shard(),
		Group: row.Facts.SourceGroup, Source: row.Facts.SourceNode, Target: row.Facts.TargetNode,
	}
}

// drive carries out the rest of a move. phase is the last one that was recorded, in event seq.
func (c coordinator) drive(m model.Move, phase checkpoint.Phase, seq uint64) (err error) {
	for {
		if !c.actsFirst {
			if err := c.act(m, phase); err != nil {
				return err
			}
		}
		if phase == checkpoint.PhaseComplete {
			_, err = c.store.Remove(m.MigrationID, migrationlog.IfSeq(seq), migrationlog.Epoch(c.epoch))
			return err
		}
		phase++
		if c.actsFirst {
			if err := c.act(m, phase); err != nil {
				return err
			}
		}
		row, err := checkpoint.New(m.MigrationID, 0, m.Payload(phase), uint64(time.Now().UnixMilli()))
		if err != nil {
			return err
		}
		receipt, err := c.store.Upsert(row, migrationlog.IfSeq(seq), migrationlog.Epoch(c.epoch))
		if err != nil && !c.goesOn {
			return err
		}
		seq = receipt.Seq
	}
}

// act carries out the effects after a phase.
func (c coordinator) act(m model.Move, phase checkpoint.Phase) error {
	for _, effect := range model.EffectsAfter(phase) {
		if err := c.cluster.Do(m, effect, c.epoch); err != nil {
			return err
		}
	}
	return nil
}
