package migrationlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/recovery"
)

// A coordinator starts after the one before it has crashed in the middle of three moves. The rows
// show that the first is complete, the second has made no progress for two hours, and the third was
// under way a minute ago.
func ExampleStore_Recover() {
	dir, _ := os.MkdirTemp("", "coordinator-")
	defer os.RemoveAll(dir)
	crashed(dir)

	store, err := startCoordinator(context.Background(), dir, new(fakeCluster))
	if err != nil {
		panic(err)
	}
	defer store.Close()
	fmt.Println("epoch", store.Epoch())
	for row := range store.Rows() {
		fmt.Println("in flight: vShard", row.Checkpoint.Payload.Shard())
	}
	// Unordered output:
	// vShard 2: RemoveLearner, node 3 of group 20
	// vShard 3: continue with PromoteLearner
	// epoch 1
	// in flight: vShard 3
}

// startCoordinator opens the log and takes over the moves of the coordinator before this one.
func startCoordinator(ctx context.Context, dir string, c cluster) (*migrationlog.Store, error) {
	store, err := migrationlog.Open(dir, &migrationlog.Options{MustExist: true, LockTimeout: 5 * time.Second})
	if err != nil {
		return nil, err // ErrLocked: another coordinator is running
	}
	epoch := 1 + max(store.Epoch(), c.highestEpoch()) // no other coordinator can choose it, because this one has the lock
	results, err := store.Recover(ctx, recovery.Policy{
		Member: c.isMember,
		Leader: func(group uint64) (uint64, bool) { return c.fenceAndReadLeader(ctx, group, epoch) },
	}, migrationlog.Handlers{
		Epoch:      epoch,
		Compensate: c.compensate,
		Resume:     c.resume,
		Ask:        c.ask,
	})
	for _, result := range results {
		if result.Err != nil {
			slog.Error("a migration was not recovered: the next start continues with it", "error", result.Err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

// cluster is the coordinator's access to the nodes and the raft groups. Every effect carries the
// epoch. A group refuses an effect with an epoch below the highest one that it has seen, and the
// method then returns an error that wraps migrationlog.ErrFenced.
type cluster interface {
	// highestEpoch returns the highest epoch that the cluster has seen. The log may have lost it.
	highestEpoch() uint64
	isMember(node uint64) bool
	// fenceAndReadLeader makes the group refuse all lower epochs, and returns its leader after that.
	fenceAndReadLeader(ctx context.Context, group, epoch uint64) (node uint64, ok bool)
	// compensate succeeds if there is nothing left to undo.
	compensate(context.Context, migrationlog.Step) error
	// resume continues the move in a goroutine of its own, with another context: ctx ends with Recover.
	resume(ctx context.Context, d recovery.Decision, epoch uint64) error
	// ask passes the questions to an operator.
	ask(ctx context.Context, d recovery.Decision, epoch uint64) error
}

// fakeCluster is a cluster in which node 1 leads every group.
type fakeCluster struct{ epoch atomic.Uint64 }

func (c *fakeCluster) highestEpoch() uint64 { return c.epoch.Load() }

func (c *fakeCluster) isMember(node uint64) bool { return node <= 3 }

func (c *fakeCluster) fenceAndReadLeader(_ context.Context, _, epoch uint64) (uint64, bool) {
	return 1, c.fence(epoch) == nil
}

func (c *fakeCluster) fence(epoch uint64) error {
	for {
		highest := c.epoch.Load()
		if epoch < highest {
			return fmt.Errorf("%w: the cluster has epoch %d", migrationlog.ErrFenced, highest)
		}
		if c.epoch.CompareAndSwap(highest, epoch) {
			return nil
		}
	}
}

func (c *fakeCluster) compensate(_ context.Context, s migrationlog.Step) error {
	if err := c.fence(s.Epoch); err != nil {
		return err
	}
	fmt.Printf("vShard %d: %s, node %d of group %d\n", s.Decision.Row.Checkpoint.Payload.Shard(), s.Compensation.Kind, s.Compensation.PeerID, s.Compensation.GroupID)
	return nil
}

func (c *fakeCluster) resume(_ context.Context, d recovery.Decision, _ uint64) error {
	fmt.Printf("vShard %d: continue with %s\n", d.Row.Checkpoint.Payload.Shard(), d.NextPhase)
	return nil
}

func (c *fakeCluster) ask(_ context.Context, d recovery.Decision, _ uint64) error {
	fmt.Println("a person must decide:", d.Reason, d.Asks)
	return nil
}

// crashed leaves the log of a coordinator that has crashed.
func crashed(dir string) {
	store, err := migrationlog.Open(dir, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	for vshardID, age := range map[uint32]time.Duration{1: time.Minute, 2: 2 * time.Hour, 3: time.Minute} {
		steps := []checkpoint.Payload{
			checkpoint.AddLearner{VShardID: vshardID, SourceNode: 1, TargetNode: 3, SourceGroup: uint64(10 * vshardID)},
			checkpoint.CatchUp{VShardID: vshardID, LearnerLogIndexAtAdd: 42},
		}
		if vshardID == 1 {
			steps = append(steps, checkpoint.Complete{VShardID: vshardID, GhostStubInstalled: true})
		}
		id := checkpoint.NewMigrationID()
		for _, step := range steps {
			c, err := checkpoint.New(id, 0, step, uint64(time.Now().Add(-age).UnixMilli()))
			if err != nil {
				panic(err)
			}
			if _, err := store.Upsert(c); err != nil {
				panic(err)
			}
		}
	}
}
