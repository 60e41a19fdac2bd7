package torture

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
	"migrationlog/replay"
)

func TestMain(m *testing.M) {
	task, ok := cluster.ChildTask()
	if !ok {
		os.Exit(m.Run())
	}
	cluster.RunChild(task, childGroup(task).config(), writeInChild(task), func(m *cluster.Member) (uint64, string) {
		index, sum := fsmOf(m.FSM).Digest()
		return index, fmt.Sprintf("%d %s", index, hex.EncodeToString(sum[:]))
	})
}

// childGroup configures the member of a child by its arguments.
func childGroup(task cluster.Task) group {
	return group{
		options: func(*cluster.Member) *raftlog.Options {
			return &raftlog.Options{
				Store:       migrationlog.Options{SegmentSize: 16 << 10},
				RelaxedSync: task.Args["relaxed"] != "",
				AcceptLoss:  task.Args["accept"] != "",
				OnFailure: func(err error) {
					cluster.Print(cluster.Message{Op: "error", Text: "the member must stop: " + err.Error()})
					os.Exit(1)
				},
			}
		},
		wrap: func(m *cluster.Member, fsm *raftlog.FSM) cluster.FSM {
			if task.Args["kill"] != "" {
				return &killedRestore{FSM: fsm, r: rand.New(rand.NewPCG(task.Seed, uint64(task.Life)))}
			}
			return fsm
		},
		tune: func(c *raft.Config) {
			if task.Args["snapshots"] == "manual" {
				calmManual(c)
			}
			c.MaxAppendEntries = 512
			c.BatchApplyCh = true
		},
	}
}

// writeInChild returns the program of a client in a child. It proposes while the member leads.
func writeInChild(task cluster.Task) func(context.Context, *cluster.Member, uint64) {
	return func(ctx context.Context, m *cluster.Member, writer uint64) {
		p := proposerOf(m)
		id := uint64(m.ID[1]-'0')<<28 | uint64(task.Life)<<18 | writer
		cl := &client{r: rand.New(rand.NewPCG(task.Seed, id)), origin: id, report: cluster.Print, proposer: func() *raftlog.Proposer {
			if m.Raft.State() != raft.Leader {
				return nil
			}
			return p
		}}
		cl.run(ctx)
	}
}

// killedRestore kills the process at a random moment between the beginning and the end of Restore.
type killedRestore struct {
	*raftlog.FSM
	r *rand.Rand
}

func (k *killedRestore) unwrap() *raftlog.FSM { return k.FSM }

func (k *killedRestore) Restore(snapshot io.ReadCloser) error {
	cluster.Print(cluster.Message{Op: "restoring"})
	if k.r.IntN(4) == 0 { // while the snapshot is read
		return k.FSM.Restore(&killedReader{ReadCloser: snapshot, left: k.r.IntN(40_000)})
	}
	go func() {
		time.Sleep(time.Duration(k.r.IntN(1<<(8+k.r.IntN(11)))) * time.Microsecond) // at most 262 ms
		kill()
	}()
	_ = k.FSM.Restore(snapshot)
	kill()
	return nil // not reached
}

func kill() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

type killedReader struct {
	io.ReadCloser
	left int
}

func (r *killedReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b[:min(len(b), 512)])
	if r.left -= n; r.left < 0 || err != nil {
		kill()
	}
	return n, err
}

// checkGroup waits until all members have applied the same entries, ends them, and compares their
// digests, their logs and the proposals.
func checkGroup(t *testing.T, g *cluster.Group) (logs []keptLog) {
	t.Helper()
	g.Pause()
	statuses := g.Settle()
	for i, s := range statuses {
		require.Equal(t, statuses[0].Digest, s.Digest, "digest of member %d", i)
	}
	for i := range g.Children {
		g.Stop(i)
		logs = append(logs, readLog(t, fmt.Sprintf("m%d", i), storeOf(g, i)))
	}
	require.Empty(t, g.Failures())
	checkLogs(t, &g.History, logs...)
	return logs
}

// Three members run as processes, and the leader is killed under load again and again, sometimes
// together with all others. No
// acknowledged proposal is lost, none is applied twice, and all members have equal digests at equal
// indexes. This holds with the store's default sync, and with relaxed sync.
func TestRaft_KillLeader(t *testing.T) {
	t.Parallel()
	for _, relaxed := range []string{"", "relaxed"} {
		t.Run("sync "+map[string]string{"": "of each batch", "relaxed": "relaxed"}[relaxed], func(t *testing.T) {
			r := newRand(t)
			g := cluster.NewGroup(t, newDir(t), 3, cluster.Task{Seed: r.Uint64(), Args: map[string]string{"relaxed": relaxed}})
			for i := range g.Children {
				g.AwaitStart(i)
				g.Load(i, 16)
			}
			for range count(3, 20) {
				leader := g.Leader()
				acks := g.Children[leader].Count("ack") + 50 + r.IntN(500)
				cluster.Wait(t, "load", func() bool {
					return g.Children[leader].Count("ack") >= acks || g.Status(leader).State != "Leader"
				})
				killed := []int{leader}
				if r.IntN(4) == 0 { // the others too, as in a power cut of the whole group
					killed = []int{0, 1, 2}
				}
				for _, i := range killed {
					g.Kill(i)
				}
				if len(killed) == 1 && r.IntN(2) == 0 {
					g.Leader() // another one is elected before the killed member is back
				}
				for _, i := range killed {
					g.Start(i)
				}
				for _, i := range killed {
					g.AwaitStart(i)
					g.Load(i, 16)
				}
			}
			checkGroup(t, g)
			acknowledged, unknown := g.History.Counts()
			t.Logf("acknowledged: %d, unknown: %d", acknowledged, unknown)
		})
	}
}

// 3: a follower is killed between the moment at which raft has stored a snapshot of the leader, and the
// end of Restore. It starts with the old or the new state, and then catches up.
func TestRaft03_KillInRestore(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	g := cluster.NewGroup(t, newDir(t), 3, cluster.Task{Seed: r.Uint64(), Args: map[string]string{"snapshots": "manual"}})
	for i := range g.Children {
		g.AwaitStart(i)
	}
	outcomes := map[string]int{}
	for range count(5, 50) {
		leader := g.Leader()
		victim := (leader + 1 + r.IntN(2)) % 3
		g.Settle()
		before := g.Status(victim).Digest
		g.Stop(victim)
		acks := g.Children[leader].Count("ack") + 300
		g.Load(leader, 32)
		cluster.Wait(t, "load", func() bool { return g.Children[leader].Count("ack") >= acks })
		g.Pause()
		g.Settle()
		require.Equal(t, leader, g.Leader())
		_, err := g.Children[leader].Ask(cluster.Message{Op: "snapshot"})
		require.NoError(t, err)
		after := g.Status(leader).Digest

		g.SetArg(victim, "kill", "yes")
		g.Start(victim)
		require.Error(t, g.Children[victim].Wait(), "the member was killed")
		require.NotZero(t, g.Children[victim].Count("restoring"))
		g.SetArg(victim, "kill", "")

		// A copy shows the state that the member starts with.
		copied := filepath.Join(newDir(t), "copy")
		copyTree(t, storeOf(g, victim), copied)
		fsm := openFSM(t, filepath.Join(copied, filepath.Base(storeOf(g, victim))), raftlog.Options{})
		index, sum := fsm.Digest()
		require.NoError(t, fsm.Close())
		switch found := fmt.Sprintf("%d %s", index, hex.EncodeToString(sum[:])); found {
		case before:
			outcomes["old state"]++
		case after:
			outcomes["new state"]++
		default:
			t.Fatalf("the member starts with %s, which is neither the old state %s nor the new state %s", found, before, after)
		}
		g.Start(victim)
		g.AwaitStart(victim)
		statuses := g.Settle()
		for _, s := range statuses {
			require.Equal(t, after, s.Digest)
		}
	}
	checkGroup(t, g)
	t.Logf("killed: %v", outcomes)
}

// copyTree copies a store, and the directories next to it that a Restore makes.
func copyTree(t testing.TB, from, to string) {
	for _, name := range names(t, filepath.Dir(from)) {
		copyDir(t, filepath.Join(filepath.Dir(from), name), filepath.Join(to, name))
	}
}

func storeOf(g *cluster.Group, i int) string {
	return (&cluster.Member{Dir: g.Dir(i)}).StoreDir()
}

// A member that was down for 100,000 entries catches up by a snapshot, and has the same digest.
func TestRaft_CatchUp(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	g := cluster.NewGroup(t, newDir(t), 3, cluster.Task{Seed: r.Uint64(), Args: map[string]string{"snapshots": "manual", "relaxed": "relaxed"}})
	for i := range g.Children {
		g.AwaitStart(i)
	}
	leader := g.Leader()
	down := (leader + 1) % 3
	g.Load(leader, 16)
	cluster.Wait(t, "load", func() bool { return g.Children[leader].Count("ack") > 100 })
	g.Pause()
	g.Settle()
	g.Kill(down)
	begin := g.Status(leader).Last
	entries := uint64(count(2_000, 100_000))
	for g.Status(leader).Last < begin+entries {
		g.Load(leader, 256)
		acks := g.Children[leader].Count("ack")
		cluster.Wait(t, "load", func() bool { return g.Children[leader].Count("ack") > acks+2_000 })
		g.Pause()
		require.Equal(t, leader, g.Leader())
	}
	g.Settle()
	for i, child := range g.Children {
		if child != nil {
			reply, err := child.Ask(cluster.Message{Op: "snapshot"})
			require.NoError(t, err)
			require.Empty(t, reply.Text, "member %d", i)
		}
	}
	g.Start(down)
	started := time.Now()
	g.AwaitStart(down)
	g.Settle()
	t.Logf("%d entries, caught up in %.1f s", g.Status(leader).Last-begin, time.Since(started).Seconds())
	logs := checkGroup(t, g)
	require.Greater(t, logs[down].keys.Begins, begin+entries/2, "it was restored from a snapshot")
	require.Len(t, setAside(t, storeOf(g, down)), 1, "its own history was set aside")
}

// tailCase is a member whose newest raft snapshot is at about 500, and whose store lost its tail.
type tailCase struct {
	t    *testing.T
	h    cluster.History
	c    *cluster.Cluster
	m    *cluster.Member
	i    int
	dir  string // of the member's store
	old  string // a copy of the store at about 430
	last uint64 // index of the state in the newest snapshot
}

func newTailCase(t *testing.T, r *rand.Rand, relaxed bool) *tailCase {
	c := &tailCase{t: t}
	dir := newDir(t)
	c.c = cluster.New(t, dir, 3, group{tune: manualSnapshots, options: func(*cluster.Member) *raftlog.Options {
		return &raftlog.Options{RelaxedSync: relaxed, Store: migrationlog.Options{SegmentSize: 4 << 10}}
	}}.config())
	load(t, r, c.c, &c.h, 8, 430, nil)
	c.c.Settle()
	c.m = c.c.Follower()
	c.i, c.dir, c.old = c.c.Index(c.m), c.m.StoreDir(), filepath.Join(dir, "old")
	c.c.Stop(c.i)
	copyDir(t, c.dir, c.old)
	c.c.Start(c.i)
	load(t, r, c.c, &c.h, 8, 70+r.IntN(30), nil)
	c.c.Settle()
	require.NoError(t, c.m.Raft.Snapshot().Error())
	c.last = digestOf(fsmOf(c.m.FSM)).Index
	c.c.Stop(c.i)
	load(t, r, c.c, &c.h, 8, 20, nil)
	return c
}

// cutTail cuts the store's log at the first frame with a higher raft index.
func (c *tailCase) cutTail(index uint64) {
	fsys := os.DirFS(c.dir)
	held, err := segment.ReadDirectory(fsys)
	require.NoError(c.t, err)
	cut := ""
	for item, err := range segment.NewScan(fsys, held, segment.ScanOptions{}).Items() {
		require.NoError(c.t, err)
		if item.Damage != nil {
			continue
		}
		at, _, _ := checkpoint.PeekPosition(item.Frame.Body)
		path := filepath.Join(c.dir, segment.WALDir, item.Frame.Segment)
		switch {
		case cut == "" && at > index:
			require.NoError(c.t, os.Truncate(path, replay.Decode(item).EntryOffset()))
			cut = item.Frame.Segment
		case cut != "" && item.Frame.Segment != cut:
			os.Remove(path)
		}
	}
	require.NotEmpty(c.t, cut)
}

// 2: the newest raft snapshot of a member is at about 500, and its store ends at about 430. It is restored
// to at least 500 and catches up, or it refuses to start. It never applies 501 on top of 430.
func TestRaft02_LostTail(t *testing.T) {
	t.Parallel()
	for _, relaxed := range []bool{false, true} {
		t.Run(fmt.Sprintf("relaxed sync: %v", relaxed), func(t *testing.T) {
			r := newRand(t)
			for range count(1, 10) {
				c := newTailCase(t, r, relaxed)
				c.startOldCopy()
				c.startCut()
			}
		})
	}
}

// startOldCopy starts the member with the older copy of its store.
func (c *tailCase) startOldCopy() {
	require.NoError(c.t, os.RemoveAll(c.dir))
	copyDir(c.t, c.old, c.dir)
	c.c.Start(c.i)
	require.GreaterOrEqual(c.t, digestOf(fsmOf(c.m.FSM)).Index, c.last, "restored from the snapshot")
	checkMembers(c.t, c.c, &c.h)
	require.GreaterOrEqual(c.t, readLog(c.t, "", c.dir).keys.Begins, c.last)
	require.Len(c.t, setAside(c.t, c.dir), 1)
}

// startCut cuts the log of the member's store below the newest snapshot, and starts the member.
func (c *tailCase) startCut() {
	require.NoError(c.t, c.m.Raft.Snapshot().Error())
	c.c.Stop(c.i)
	replaced := setAside(c.t, c.dir)
	c.cutTail(readLog(c.t, "", c.dir).keys.Begins + 5)
	err := c.c.TryStart(c.i)
	if err == nil {
		checkMembers(c.t, c.c, &c.h)
		return
	}
	require.ErrorIs(c.t, err, migrationlog.ErrUnfit)
	require.Equal(c.t, replaced, setAside(c.t, c.dir), "a refused start changes nothing")
	c.t.Logf("refused: %v", err)

	// An operator moves the store away, and the member is restored from its own snapshot.
	require.NoError(c.t, os.Rename(c.dir, c.dir+".lost"))
	c.c.Start(c.i)
	checkMembers(c.t, c.c, &c.h)
}
