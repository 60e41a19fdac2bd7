package torture

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
)

// load runs clients that propose to the leader of a group in this process, until they have at least
// a number of acknowledged proposals. Meanwhile it calls during, on the goroutine of the test, with a
// function that waits for a part of them.
func load(t *testing.T, r *rand.Rand, c *cluster.Cluster, h *cluster.History, clients, proposals int, during func(await func(acknowledged int))) {
	ctx, stop := context.WithCancel(within(t))
	var leader leaderHolder
	begin, _ := h.Counts()
	await := func(acknowledged int) {
		c.Wait("acknowledged proposals", func() bool {
			leader.set(c)
			n, _ := h.Counts()
			return n-begin >= acknowledged
		})
	}
	var running sync.WaitGroup
	for range clients {
		cl := &client{r: rand.New(rand.NewPCG(r.Uint64(), 0)), origin: r.Uint64(), proposer: leader.get, report: record(t, h)}
		running.Go(func() { cl.run(ctx) })
	}
	defer running.Wait()
	defer stop()
	if during != nil {
		during(await)
	}
	await(proposals)
}

// leaderHolder has the proposer of the member that leads, as far as the test knows.
type leaderHolder struct {
	mu sync.Mutex
	p  *raftlog.Proposer
	of *raft.Raft
}

func (l *leaderHolder) get() *raftlog.Proposer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.p
}

func (l *leaderHolder) set(c *cluster.Cluster) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range c.Members {
		if m.Running() && m.Raft.State() == raft.Leader {
			if m.Raft != l.of {
				l.p, l.of = proposerOf(m), m.Raft
			}
			return
		}
	}
	l.p, l.of = nil, nil
}

// 1: three members are restarted again and again under load, and raft takes a snapshot every 64
// entries. Each member applies each event once, all have equal digests at equal indexes, and the
// durable applied index of a member never falls.
func TestRaft01_Restarts(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	var h cluster.History
	c := cluster.New(t, newDir(t), 3, group{}.config())
	restarts := count(4, 20)
	proposals := count(1_000, 10_000)
	load(t, r, c, &h, 8, proposals, func(await func(int)) {
		for n := range restarts * len(c.Members) {
			await(n * proposals / (restarts * len(c.Members)))
			i := n % len(c.Members)
			before := fsmOf(c.Members[i].FSM).AppliedIndex()
			c.Stop(i)
			c.Start(i)
			require.GreaterOrEqual(t, fsmOf(c.Members[i].FSM).AppliedIndex(), before, "applied index of %s after its restart", c.Members[i].ID)
		}
	})
	checkMembers(t, c, &h)

	// A member that has everything keeps its history at a restart, also if the newest snapshot was
	// taken at an entry without an event.
	for i, m := range c.Members {
		require.NoError(t, c.Leader().Raft.Barrier(0).Error())
		c.Settle()
		require.NoError(t, m.Raft.Snapshot().Error())
		before, aside := readLog(t, string(m.ID), m.StoreDir()), setAside(t, m.StoreDir())
		c.Stop(i)
		c.Start(i)
		c.Settle()
		require.Equal(t, aside, setAside(t, m.StoreDir()), "member %s needs no other history", m.ID)
		require.Equal(t, before.bodies, readLog(t, string(m.ID), m.StoreDir()).bodies)
	}
	checkMembers(t, c, &h)
	acknowledged, unknown := h.Counts()
	t.Logf("%d restarts, %d proposals acknowledged, %d unknown", restarts*len(c.Members), acknowledged, unknown)
}
