package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
)

// lead makes a member the leader.
func lead(t testing.TB, c *cluster.Cluster, m *cluster.Member) {
	c.Wait("leadership of "+string(m.ID), func() bool {
		leader := c.Leader()
		if leader != m {
			leader.Raft.LeadershipTransferToServer(m.ID, m.Addr).Error() // it may fail although m is elected
		}
		return leader == m
	})
}

// 9: the members' clocks are an hour apart, and each of them leads for a while. All have the same
// events byte for byte, also the times of aborts, and equal snapshots.
func TestRaft09_Clocks(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	var h cluster.History
	offset := map[raft.ServerID]time.Duration{"m0": -time.Hour, "m1": 0, "m2": time.Hour}
	clock := func(m *cluster.Member) func() time.Time {
		return func() time.Time { return time.Now().Add(offset[m.ID]) }
	}
	c := cluster.New(t, newDir(t), 3, group{options: func(m *cluster.Member) *raftlog.Options {
		return &raftlog.Options{Store: migrationlog.Options{Now: clock(m)}}
	}, tune: manualSnapshots}.config())
	for round := range count(3, 30) {
		m := c.Members[round%3]
		lead(t, c, m)
		p := raftlog.NewProposer(m.Raft, fsmOf(m.FSM), &raftlog.ProposerOptions{Now: clock(m)})
		cl := &client{r: r, origin: uint64(round), proposer: func() *raftlog.Proposer { return p }, report: record(t, &h)}
		for n := range uint64(10) {
			id := idOf(cl.origin, n)
			index := uint64(0)
			u := upsertOf(id, checkpoint.PhaseAddLearner, uint32(n))
			require.True(t, cl.propose(within(t), checkpoint.Upserted{Checkpoint: u}, &index, true, func(ctx context.Context, p *raftlog.Proposer, opts ...raftlog.Option) (raftlog.Receipt, error) {
				return p.Upsert(ctx, u, opts...)
			}))
			cl.abort(within(t), id, index)
		}
	}
	checkMembers(t, c, &h)
	first := snapshotOf(t, fsmOf(c.Members[0].FSM))
	for _, m := range c.Members[1:] {
		require.Equal(t, first, snapshotOf(t, fsmOf(m.FSM)), "snapshots of members m0 and %s", m.ID)
	}
}

// 10: the leader is isolated in the middle of 64 proposals. Each acknowledged one is applied once,
// and each with an unknown outcome at most once. A retry at once is applied or a duplicate. A retry
// after the next phase is refused, and no row goes back.
func TestRaft10_IsolatedLeader(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	var h cluster.History
	c := cluster.New(t, newDir(t), 3, group{}.config())
	var acknowledged, unknown int
	for round := range count(3, 50) {
		p := newPartition(t, c, &h, uint64(round))
		p.run(r)
		acknowledged, unknown = acknowledged+p.acknowledged, unknown+len(p.unknown)
	}
	checkMembers(t, c, &h)
	t.Logf("%d acknowledged on the old leader, %d with an unknown outcome", acknowledged, unknown)
	require.NotZero(t, unknown)
}

// partition is one round of test 10.
type partition struct {
	t      *testing.T
	c      *cluster.Cluster
	h      *cluster.History
	origin uint64
	record func(cluster.Message)

	mu           sync.Mutex
	begun        []uint64 // index of the first phase of each migration
	acknowledged int
	unknown      []int // migrations whose second phase has an unknown outcome
}

func newPartition(t *testing.T, c *cluster.Cluster, h *cluster.History, origin uint64) *partition {
	return &partition{t: t, c: c, h: h, origin: origin, record: record(t, h), begun: make([]uint64, 64)}
}

// upsert proposes a phase of a migration once, and records the outcome.
func (p *partition) upsert(on *raftlog.Proposer, n int, phase checkpoint.Phase, index uint64) (raftlog.Receipt, error) {
	u := upsertOf(idOf(p.origin, uint64(n)), phase, uint32(n))
	key := keyOf(checkpoint.Upserted{Checkpoint: u})
	p.record(cluster.Message{Op: "issue", Key: key})
	receipt, err := on.Upsert(within(p.t), u, raftlog.IfIndex(index))
	switch {
	case err == nil:
		p.record(cluster.Message{Op: "ack", Key: key, Index: receipt.Index})
	case errors.Is(err, raftlog.ErrUnknownOutcome):
		p.record(cluster.Message{Op: "unknown", Key: key})
	default:
		p.record(cluster.Message{Op: "refused", Key: key})
	}
	return receipt, err
}

// must proposes on the present leader until the proposal is acknowledged.
func (p *partition) must(n int, phase checkpoint.Phase, index uint64) (receipt raftlog.Receipt) {
	p.c.Wait("an acknowledgement", func() (ok bool) {
		var err error
		receipt, err = p.upsert(proposerOf(p.c.Leader()), n, phase, index)
		require.True(p.t, err == nil || errors.Is(err, raftlog.ErrUnknownOutcome) || errors.Is(err, raftlog.ErrNotProposed), "%v", err)
		return err == nil
	})
	return receipt
}

func (p *partition) run(r *rand.Rand) {
	for n := range p.begun {
		p.begun[n] = p.must(n, checkpoint.PhaseAddLearner, 0).Index
	}
	old := p.c.Leader()
	var proposing sync.WaitGroup
	isolate := r.IntN(len(p.begun))
	on := proposerOf(old)
	for n := range p.begun {
		if n == isolate {
			p.c.Isolate(p.c.Index(old))
		}
		proposing.Go(func() { p.second(on, n) })
		if r.IntN(8) == 0 {
			time.Sleep(time.Duration(r.IntN(1000)) * time.Microsecond)
		}
	}
	proposing.Wait()
	for i, n := range p.unknown {
		switch i % 3 {
		case 0: // it is left
		case 1: // retried at once
			p.retry(n)
		case 2: // retried after another coordinator wrote the next phase
			receipt := p.retry(n)
			next := p.must(n, checkpoint.PhasePromoteLearner, receipt.Index)
			require.False(p.t, next.Duplicate)
			p.c.Wait("a refusal", func() bool {
				_, err := proposerOf(p.c.Leader()).Upsert(within(p.t), upsertOf(idOf(p.origin, uint64(n)), checkpoint.PhaseCatchUp, uint32(n)), raftlog.IfIndex(p.begun[n]))
				require.Error(p.t, err)
				return errors.Is(err, migrationlog.ErrConflict)
			})
			row, ok := fsmOf(p.c.Leader().FSM).Store().Get(idOf(p.origin, uint64(n)))
			require.True(p.t, ok)
			require.Equal(p.t, checkpoint.PhasePromoteLearner, row.Phase())
		}
	}
	p.c.Heal()
	p.c.Settle()
}

// second proposes the second phase on the old leader.
func (p *partition) second(on *raftlog.Proposer, n int) {
	_, err := p.upsert(on, n, checkpoint.PhaseCatchUp, p.begun[n])
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.acknowledged++
	case errors.Is(err, raftlog.ErrUnknownOutcome):
		var unknown *raftlog.UnknownOutcomeError
		if !errors.As(err, &unknown) || unknown.Index != p.begun[n] {
			p.t.Errorf("the error has another index for the retry: %v", err)
		}
		p.unknown = append(p.unknown, n)
	case !errors.Is(err, raftlog.ErrNotProposed):
		p.t.Errorf("migration %d: %v", n, err)
	}
}

// retry repeats the second phase on the new leader. It is applied, or a duplicate of the first try.
func (p *partition) retry(n int) raftlog.Receipt {
	receipt := p.must(n, checkpoint.PhaseCatchUp, p.begun[n])
	again := p.must(n, checkpoint.PhaseCatchUp, p.begun[n])
	require.Equal(p.t, raftlog.Receipt{Index: receipt.Index, Duplicate: true}, again)
	return receipt
}

// gate blocks the writes of a raft log while it is closed. Raft then takes no proposal.
type gate struct {
	raft.LogStore
	*gateState
}

type gateState struct {
	closed  sync.RWMutex
	waiting atomic.Int32
}

func (g gate) StoreLogs(logs []*raft.Log) error {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	g.closed.RLock()
	defer g.closed.RUnlock()
	return g.LogStore.StoreLogs(logs)
}

// 11: a proposal on a follower fails with the leader's address. During a transfer of the leadership,
// and if the queue is full, it fails too. None of these is in the log, and each may be repeated.
func TestRaft11_NotProposed(t *testing.T) {
	t.Parallel()
	newRand(t)
	var h cluster.History
	var gates [3]gateState
	opened := 0
	config := group{tune: calm}.config()
	config.Logs = func(logs raft.LogStore) raft.LogStore {
		opened++
		return gate{logs, &gates[(opened-1)%3]}
	}
	c := cluster.New(t, newDir(t), 3, config)
	n := uint64(0)
	// propose proposes a new migration.
	propose := func(p *raftlog.Proposer) error {
		n++
		u := upsertOf(idOf(1, n), checkpoint.PhaseAddLearner, uint32(n))
		key := keyOf(checkpoint.Upserted{Checkpoint: u})
		h.Issue(key)
		receipt, err := p.Upsert(within(t), u)
		switch {
		case err == nil:
			require.NoError(t, h.Ack(key, receipt.Index))
		case errors.Is(err, raftlog.ErrUnknownOutcome):
			h.Unknown(key)
		case errors.Is(err, raftlog.ErrNotProposed):
			h.Refused(key)
		default:
			require.NoError(t, err)
		}
		return err
	}
	leader := c.Leader()
	require.NoError(t, propose(proposerOf(leader)))
	c.Settle()

	// On a follower.
	follower := c.Follower()
	err := propose(proposerOf(follower))
	var notLeader *raftlog.NotLeaderError
	require.ErrorAs(t, err, &notLeader)
	require.Equal(t, leader.Addr, notLeader.Leader)
	require.ErrorIs(t, err, raftlog.ErrNotProposed)

	// With a full queue.
	leader = c.Leader()
	i := c.Index(leader)
	gates[i].closed.Lock()
	blocked := make(chan error, 1)
	go func() { blocked <- propose(proposerOf(leader)) }()
	c.Wait("a blocked leader", func() bool { return gates[i].waiting.Load() > 0 })
	hasty := raftlog.NewProposer(leader.Raft, fsmOf(leader.FSM), &raftlog.ProposerOptions{Timeout: time.Millisecond})
	u := upsertOf(idOf(2, n), checkpoint.PhaseAddLearner, 1)
	_, full := hasty.Upsert(within(t), u)
	h.Refused(keyOf(checkpoint.Upserted{Checkpoint: u}))
	gates[i].closed.Unlock()
	require.ErrorIs(t, full, raft.ErrEnqueueTimeout)
	require.ErrorIs(t, full, raftlog.ErrNotProposed)
	<-blocked
	require.NoError(t, propose(proposerOf(c.Leader())))

	// During a transfer to a member that cannot be reached.
	leader = c.Leader()
	follower = c.Follower()
	c.Isolate(c.Index(follower))
	transferred := make(chan error, 1)
	go func() { transferred <- leader.Raft.LeadershipTransferToServer(follower.ID, follower.Addr).Error() }()
	var during error
	for end := time.Now().Add(10 * time.Second); during == nil && time.Now().Before(end); {
		if err := propose(proposerOf(leader)); errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			during = err
		}
	}
	require.ErrorIs(t, during, raftlog.ErrNotProposed)
	<-transferred
	c.Heal()
	require.NoError(t, propose(proposerOf(c.Leader())))
	checkMembers(t, c, &h)
}

// 12: two coordinators race for a vShard, and then for the next phase of the winner. There is one
// winner each time, the same on all members, also on a member that was restored on the way.
func TestRaft12_Races(t *testing.T) {
	t.Parallel()
	newRand(t)
	var h cluster.History
	c := cluster.New(t, newDir(t), 3, group{tune: calm}.config())
	rounds := count(150, 1000)
	down := c.Index(c.Follower())
	report := record(t, &h)
	// race proposes two checkpoints at the same time, and returns the index and the position of the
	// winner. The loser's error must be the expected one. If the leadership changes meanwhile, the
	// result is not known.
	race := func(a, b checkpoint.Checkpoint, refusal error, opts ...raftlog.Option) (index uint64, winner int, known bool) {
		p := proposerOf(c.Leader())
		var racing sync.WaitGroup
		var receipts [2]raftlog.Receipt
		var errs [2]error
		for i, u := range []checkpoint.Checkpoint{a, b} {
			report(cluster.Message{Op: "issue", Key: keyOf(checkpoint.Upserted{Checkpoint: u})})
			racing.Go(func() { receipts[i], errs[i] = p.Upsert(within(t), u, opts...) })
		}
		racing.Wait()
		won := 0
		known = true
		for i, u := range []checkpoint.Checkpoint{a, b} {
			key := keyOf(checkpoint.Upserted{Checkpoint: u})
			switch err := errs[i]; {
			case err == nil:
				report(cluster.Message{Op: "ack", Key: key, Index: receipts[i].Index})
				index, winner, won = receipts[i].Index, i, won+1
			case errors.Is(err, raftlog.ErrUnknownOutcome):
				report(cluster.Message{Op: "unknown", Key: key})
				known = false
			case errors.Is(err, raftlog.ErrNotProposed):
				report(cluster.Message{Op: "refused", Key: key})
				known = false
			default:
				require.ErrorIs(t, err, refusal)
				report(cluster.Message{Op: "refused", Key: key})
			}
		}
		require.LessOrEqual(t, won, 1)
		require.True(t, won == 1 || !known, "one winner: %v, %v", errs[0], errs[1])
		return index, winner, won == 1
	}
	for n := range uint64(rounds) {
		switch int(n) {
		case rounds * 4 / 10:
			c.Stop(down)
		case rounds / 2:
			require.NoError(t, c.Leader().Raft.Snapshot().Error())
			c.Start(down)
		}
		ids := []checkpoint.MigrationID{idOf(1, n), idOf(2, n)}
		vshard := uint32(n)
		index, winner, known := race(upsertOf(ids[0], checkpoint.PhaseAddLearner, vshard), upsertOf(ids[1], checkpoint.PhaseAddLearner, vshard),
			migrationlog.ErrMigrationInProgress, raftlog.IfVShardFree())
		if !known {
			continue
		}
		next := upsertOf(ids[winner], checkpoint.PhaseCatchUp, vshard)
		other := next
		other.Attempt++
		race(next, other, migrationlog.ErrConflict, raftlog.IfIndex(index))
	}
	checkMembers(t, c, &h)
	require.NotEmpty(t, setAside(t, c.Members[down].StoreDir()), "the member was restored from a snapshot")
}

// 13: when a coordinator with the next epoch has written, every proposal of the one before is
// refused: on each leader, also after a restart, and on a member that was restored from a snapshot.
func TestRaft13_Fenced(t *testing.T) {
	t.Parallel()
	newRand(t)
	var h cluster.History
	c := cluster.New(t, newDir(t), 3, group{tune: calm}.config())
	n := uint64(0)
	// upsert proposes a new migration with an epoch, until the outcome is known.
	upsert := func(term uint64) (err error) {
		n++
		u := upsertOf(idOf(1, n), checkpoint.PhaseAddLearner, uint32(n))
		key := keyOf(checkpoint.Upserted{Checkpoint: u})
		c.Wait("an outcome", func() bool {
			h.Issue(key)
			var receipt raftlog.Receipt
			receipt, err = proposerOf(c.Leader()).Upsert(within(t), u, raftlog.Term(term), raftlog.IfIndex(0))
			switch {
			case err == nil:
				require.NoError(t, h.Ack(key, receipt.Index))
			case errors.Is(err, raftlog.ErrUnknownOutcome):
				h.Unknown(key)
				return false
			default:
				h.Refused(key)
				return !errors.Is(err, raftlog.ErrNotProposed)
			}
			return true
		})
		return err
	}
	require.NoError(t, upsert(5))
	require.NoError(t, upsert(6))
	fenced := func() {
		for _, m := range c.Members {
			lead(t, c, m)
			require.ErrorIs(t, upsert(5), migrationlog.ErrFenced, "leader %s", m.ID)
			require.NoError(t, upsert(6))
			require.EqualValues(t, 6, fsmOf(m.FSM).Store().Epoch())
		}
		checkMembers(t, c, &h)
	}
	fenced()
	for i := range c.Members {
		c.Stop(i)
	}
	for i := range c.Members {
		c.Start(i)
	}
	fenced()

	// A member without files is restored from a snapshot.
	lost := c.Follower()
	c.Stop(c.Index(lost))
	require.NoError(t, os.RemoveAll(lost.Dir))
	for range 100 {
		require.NoError(t, upsert(6))
	}
	require.NoError(t, c.Leader().Raft.Snapshot().Error())
	c.Start(c.Index(lost))
	c.Settle()
	require.NotZero(t, readLog(t, string(lost.ID), lost.StoreDir()).keys.Begins, "restored from a snapshot")
	fenced()
}

// calmManual has a leader that stays, because raft.Restore must not be interrupted by an election.
func calmManual(c *raft.Config) {
	calm(c)
	manualSnapshots(c)
}

// backup is a raft snapshot that an operator keeps.
type backup struct {
	meta  raft.SnapshotMeta
	bytes []byte
}

func takeBackup(t testing.TB, m *cluster.Member) backup {
	future := m.Raft.Snapshot()
	require.NoError(t, future.Error())
	meta, r, err := future.Open()
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return backup{*meta, b}
}

// 15: an operator restores an older backup on the leader. All members get its rows, and set their
// histories aside. The next proposal works, also if all members are restarted.
func TestRaft15_OlderBackup(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	for _, restartFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted first: %v", restartFirst), func(t *testing.T) {
			var before, after cluster.History
			c := cluster.New(t, newDir(t), 3, group{tune: calmManual}.config())
			load(t, r, c, &before, 4, 100, nil)
			c.Settle()
			rows := rowsOf(fsmOf(c.Leader().FSM))
			saved := takeBackup(t, c.Leader())
			load(t, r, c, &before, 4, 200, nil)
			c.Settle()
			checkMembers(t, c, &before)
			last := c.Leader().Raft.LastIndex()
			require.NoError(t, c.Leader().Raft.Restore(&saved.meta, bytes.NewReader(saved.bytes), 10*time.Second))
			c.Settle()
			restart := func() {
				for i := range c.Members {
					c.Stop(i)
				}
				for i := range c.Members {
					c.Start(i)
				}
				c.Settle()
			}
			requireBackup := func() {
				for _, m := range c.Members {
					require.Equal(t, rows, rowsOf(fsmOf(m.FSM)), "rows of member %s", m.ID)
					require.Equal(t, digestOf(fsmOf(c.Members[0].FSM)).Sum, digestOf(fsmOf(m.FSM)).Sum)
					require.Len(t, setAside(t, m.StoreDir()), 1, "the history of member %s before the restore", m.ID)
				}
			}
			requireBackup()
			if restartFirst {
				restart()
				requireBackup()
			}
			load(t, r, c, &after, 4, 50, nil)
			c.Settle()
			checkMembers(t, c, &after)
			restart()
			checkMembers(t, c, &after)
			for _, m := range c.Members {
				require.Greater(t, fsmOf(m.FSM).AppliedIndex(), last)
				require.Len(t, setAside(t, m.StoreDir()), 1, "a restart sets nothing aside")
			}
		})
	}
}

// A member ends after raft has stored the backup as its newest snapshot, and before it restored it.
// The member has a higher index than the backup, and must not go on with its old rows.
func TestRaft15_OlderBackupBeforeRestore(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	var before, after cluster.History
	c := cluster.New(t, newDir(t), 1, group{tune: manualSnapshots}.config())
	load(t, r, c, &before, 4, 100, nil)
	m := c.Leader()
	rows := rowsOf(fsmOf(m.FSM))
	saved := takeBackup(t, m)
	load(t, r, c, &before, 4, 100, nil)
	c.Settle()
	last := m.Raft.LastIndex()
	sink, err := m.Snaps.Create(raft.SnapshotVersionMax, last+1, saved.meta.Term, saved.meta.Configuration, saved.meta.ConfigurationIndex, inmem())
	require.NoError(t, err)
	_, err = sink.Write(saved.bytes)
	require.NoError(t, err)
	require.NoError(t, sink.Close())
	c.Stop(0)
	c.Start(0)
	c.Leader()
	require.Equal(t, rows, rowsOf(fsmOf(m.FSM)))
	load(t, r, c, &after, 4, 20, nil)
	checkMembers(t, c, &after)
}

// A follower is isolated while an operator restores an older backup, and proposals follow. It then has
// the same state as the others, and nothing of its old history.
func TestRaft15_OlderBackupIsolated(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	var before, after cluster.History
	c := cluster.New(t, newDir(t), 3, group{tune: calmManual}.config())
	load(t, r, c, &before, 4, 100, nil)
	saved := takeBackup(t, c.Leader())
	load(t, r, c, &before, 4, 100, nil)
	c.Settle()
	isolated := c.Follower()
	c.Isolate(c.Index(isolated))
	leader := c.Leader()
	require.NoError(t, leader.Raft.Restore(&saved.meta, bytes.NewReader(saved.bytes), 10*time.Second))
	load(t, r, c, &after, 4, 100, nil)
	if r.IntN(2) == 0 {
		c.Stop(c.Index(isolated))
		c.Heal()
		c.Start(c.Index(isolated))
	} else {
		c.Heal()
	}
	checkMembers(t, c, &after)
	load(t, r, c, &after, 4, 50, nil)
	checkMembers(t, c, &after)
}

// A member loses raft's own files, and keeps its store. Raft delivers everything again, or its leader
// sends a snapshot. The member applies nothing twice.
func TestRaft_RaftFilesLost(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	for _, trailing := range []uint64{8, 1 << 40} {
		var h cluster.History
		c := cluster.New(t, newDir(t), 3, group{tune: func(conf *raft.Config) {
			manualSnapshots(conf)
			conf.TrailingLogs = trailing
		}}.config())
		load(t, r, c, &h, 4, 200, nil)
		c.Settle()
		require.NoError(t, c.Leader().Raft.Snapshot().Error())
		load(t, r, c, &h, 4, 100, nil)
		c.Settle()
		m := c.Follower()
		c.Stop(c.Index(m))
		for _, name := range names(t, m.Dir) {
			if name != "disk" {
				require.NoError(t, os.RemoveAll(filepath.Join(m.Dir, name)))
			}
		}
		c.Start(c.Index(m))
		checkMembers(t, c, &h)
		load(t, r, c, &h, 4, 100, nil)
		checkMembers(t, c, &h)
	}
}

func inmem() raft.Transport {
	_, trans := raft.NewInmemTransport("")
	return trans
}
