package main

import (
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"migrationlog/checkpoint"
	"migrationlog/raftlog/internal/cluster"
)

// migrations is the number of migrations that are in flight at the same time.
const migrations = 10_000

// checkpointOf returns the n-th checkpoint: the migrations take turns, and each repeats its six
// phases with the next attempt.
func checkpointOf(n uint64) checkpoint.Checkpoint {
	turn, m := n/migrations, n%migrations
	id := checkpoint.MigrationID{0: 1, 12: byte(m >> 24), 13: byte(m >> 16), 14: byte(m >> 8), 15: byte(m)}
	vshard := uint32(m)
	payload := []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: vshard, SourceNode: 1, TargetNode: 2, SourceGroup: 3},
		checkpoint.CatchUp{VShardID: vshard, LearnerLogIndexAtAdd: n},
		checkpoint.PromoteLearner{VShardID: vshard, TargetNode: 2, SourceGroup: 3},
		checkpoint.LeadershipTransfer{VShardID: vshard, NewLeaderNodeID: 2, SourceGroup: 3},
		checkpoint.Cutover{VShardID: vshard, NewLeaderNodeID: 2, SourceGroup: 3},
		checkpoint.Complete{VShardID: vshard, ActualPauseUS: 900, GhostStubInstalled: true},
	}[turn%6]
	c, err := checkpoint.New(id, uint32(turn/6), payload, 1_795_399_697_649+n)
	if err != nil {
		panic(err) // cannot happen: the checkpoint is valid
	}
	return c
}

// logCacheEntries is the number of entries that raft keeps in memory.
const logCacheEntries = 512

// config returns the configuration of a member: raft's defaults, with batches and a log cache.
func (b backend) config() cluster.Config {
	return cluster.Config{Open: b.open, Configure: b.configure, Logs: withCache, Tune: func(c *raft.Config) {
		d := raft.DefaultConfig()
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = d.HeartbeatTimeout, d.ElectionTimeout, d.LeaderLeaseTimeout, d.CommitTimeout
		c.BatchApplyCh = true
		c.SnapshotThreshold, c.SnapshotInterval = 1<<40, time.Hour
	}}
}

func withCache(logs raft.LogStore) raft.LogStore {
	cached, err := raft.NewLogCache(logCacheEntries, logs)
	if err != nil {
		panic(err) // cannot happen: the capacity is positive
	}
	return cached
}

// startGroup starts three members in this process, over TCP on loopback, and returns the leader.
func (b backend) startGroup(dir string) (leader *cluster.Member, stop func() error, err error) {
	var members []*cluster.Member
	stop = func() error {
		for _, m := range members {
			if err := m.Stop(); err != nil {
				return err
			}
		}
		return nil
	}
	servers, err := freeServers(3)
	if err != nil {
		return nil, stop, err
	}
	for _, s := range servers {
		task := cluster.Task{ID: s.ID, Addr: s.Address, Dir: filepath.Join(dir, string(s.ID)), Servers: servers}
		m, err := task.StartMember(b.config())
		if err != nil {
			return nil, stop, err
		}
		members = append(members, m)
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, m := range members {
			if m.Raft.State() == raft.Leader && m.Raft.Barrier(time.Second).Error() == nil {
				return m, stop, nil
			}
		}
	}
	return nil, stop, fmt.Errorf("%s: no leader within 30 s", b.name)
}

func freeServers(n int) (servers []raft.Server, err error) {
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		servers = append(servers, raft.Server{ID: raft.ServerID(fmt.Sprintf("m%d", i)), Address: raft.ServerAddress(l.Addr().String())})
	}
	return servers, nil
}

// measure returns the proposals per second of a number of proposers.
func measure(propose func(checkpoint.Checkpoint) error, next *atomic.Uint64, proposers int, duration time.Duration) (float64, error) {
	var acknowledged atomic.Uint64
	var failure atomic.Pointer[error]
	begin := time.Now()
	var running sync.WaitGroup
	for range proposers {
		running.Go(func() {
			for time.Since(begin) < duration && failure.Load() == nil {
				if err := propose(checkpointOf(next.Add(1) - 1)); err != nil {
					failure.CompareAndSwap(nil, &err)
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	running.Wait()
	if err := failure.Load(); err != nil {
		return 0, *err
	}
	return float64(acknowledged.Load()) / time.Since(begin).Seconds(), nil
}

// fill makes the files of a member that has applied a number of entries: its store, and a raft
// snapshot at the last entry.
func (b backend) fill(dir string, entries uint64) (err error) {
	m := &cluster.Member{ID: "m0", Addr: "m0", Dir: dir}
	if err := m.OpenFiles(b.config()); err != nil {
		return err
	}
	defer func() {
		if stopErr := m.Stop(); err == nil {
			err = stopErr
		}
	}()
	if err := b.apply(m.FSM.(raft.BatchingFSM), entries); err != nil {
		return err
	}
	snapshot, err := m.FSM.Snapshot()
	if err != nil {
		return err
	}
	defer snapshot.Release()
	_, trans := raft.NewInmemTransport(m.Addr)
	servers := []raft.Server{{ID: m.ID, Address: m.Addr}}
	sink, err := m.Snaps.Create(raft.SnapshotVersionMax, entries, 1, raft.Configuration{Servers: servers}, 1, trans)
	if err != nil {
		return err
	}
	return snapshot.Persist(sink)
}

// apply applies entries with the indexes from 1, in batches.
func (b backend) apply(fsm raft.BatchingFSM, entries uint64) error {
	const batch = 1024
	for at := uint64(0); at < entries; at += batch {
		logs := make([]*raft.Log, 0, batch)
		for n := at; n < min(entries, at+batch); n++ {
			data, err := b.encode(checkpointOf(n))
			if err != nil {
				return err
			}
			logs = append(logs, &raft.Log{Index: n + 1, Term: 1, Type: raft.LogCommand, Data: data})
		}
		for _, response := range fsm.ApplyBatch(logs) {
			if err, ok := response.(error); ok {
				return err
			}
		}
	}
	return nil
}

// start returns the time from the first file that a member opens until raft runs.
func (b backend) start(dir string) (time.Duration, error) {
	m := &cluster.Member{ID: "m0", Addr: "m0", Dir: dir}
	_, trans := raft.NewInmemTransport(m.Addr)
	begin := time.Now()
	if err := m.Start(b.config(), trans, nil); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, m.Stop()
}
