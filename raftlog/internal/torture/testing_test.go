package torture

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the random choices; 0: the clock gives it")
	fullFlag = flag.Bool("full", false, "run each test with its full counts, which takes about ten minutes")
)

// count is the number of repetitions: a few in go test, all of them with -full.
func count(few, full int) int {
	if *fullFlag {
		return full
	}
	return few
}

// newRand returns the random choices of a test. If the test fails, it prints the command that runs
// it again with the same choices. The order in which goroutines and processes run is not repeated.
func newRand(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	full := ""
	if *fullFlag {
		full = " -full"
	}
	command := fmt.Sprintf("go test ./internal/torture -run '^%s$' -count=1 -seed=%d%s", t.Name(), seed, full)
	t.Logf("-seed=%d", seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: (cd raftlog && %s)", command)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// newDir returns a new directory: in memory in go test, if the system has a file system in memory,
// and on a disk with -full.
func newDir(t testing.TB) string {
	if *fullFlag {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "raftlog-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// group configures the members of a group. Tests change the fields before the first start.
type group struct {
	options func(m *cluster.Member) *raftlog.Options
	wrap    func(m *cluster.Member, fsm *raftlog.FSM) cluster.FSM
	tune    func(c *raft.Config)
}

// config returns the configuration of members with short snapshots: raft takes one after 64 entries
// and keeps 8 entries before it.
func (g group) config() cluster.Config {
	return cluster.Config{
		Open: func(m *cluster.Member) (cluster.FSM, error) {
			opts := &raftlog.Options{}
			if g.options != nil {
				opts = g.options(m)
			}
			opts.NodeID, opts.Logger = string(m.ID), m.Log
			fsm, err := raftlog.Open(m.StoreDir(), opts)
			if err != nil {
				return nil, err
			}
			if g.wrap != nil {
				return g.wrap(m, fsm), nil
			}
			return fsm, nil
		},
		Configure: func(conf *raft.Config, snaps raft.SnapshotStore, fsm cluster.FSM) error {
			return raftlog.Configure(conf, snaps, fsmOf(fsm))
		},
		Applied: func(m *cluster.Member) uint64 {
			index, _ := fsmOf(m.FSM).Digest()
			return index
		},
		Tune: func(c *raft.Config) {
			c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = 64, 8, 20*time.Millisecond
			if g.tune != nil {
				g.tune(c)
			}
		},
	}
}

// manualSnapshots is a group.tune with which raft takes a snapshot only if it is asked to.
func manualSnapshots(c *raft.Config) {
	c.SnapshotThreshold, c.SnapshotInterval = 1<<40, time.Hour
}

// calm is a group.tune for tests in which the leader should stay, also on a busy machine.
func calm(c *raft.Config) {
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 2*time.Second, 2*time.Second, 2*time.Second
}

// unwrapper is a wrapped FSM.
type unwrapper interface{ unwrap() *raftlog.FSM }

func fsmOf(fsm cluster.FSM) *raftlog.FSM {
	if w, ok := fsm.(unwrapper); ok {
		return w.unwrap()
	}
	return fsm.(*raftlog.FSM)
}

func proposerOf(m *cluster.Member) *raftlog.Proposer {
	return raftlog.NewProposer(m.Raft, fsmOf(m.FSM), nil)
}

// within returns a context that ends before the test's patience does.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
	t.Cleanup(cancel)
	return ctx
}

// idOf returns the migration with a number.
func idOf(origin, n uint64) checkpoint.MigrationID {
	id := checkpoint.MigrationID{0: 1, 6: 0x40, 8: 0x80}
	for i := range 4 {
		id[2+i], id[12+i] = byte(origin>>(24-8*i)), byte(n>>(24-8*i))
	}
	return id
}

const firstMS = 1_795_399_697_649 // time of the first checkpoint

// upsertOf returns the checkpoint of a phase of the migration with a number.
func upsertOf(id checkpoint.MigrationID, phase checkpoint.Phase, vshard uint32) checkpoint.Checkpoint {
	payload := map[checkpoint.Phase]checkpoint.Payload{
		checkpoint.PhaseAddLearner:         checkpoint.AddLearner{VShardID: vshard, SourceNode: 1, TargetNode: 2, SourceGroup: 3},
		checkpoint.PhaseCatchUp:            checkpoint.CatchUp{VShardID: vshard, LearnerLogIndexAtAdd: 40},
		checkpoint.PhasePromoteLearner:     checkpoint.PromoteLearner{VShardID: vshard, TargetNode: 2, SourceGroup: 3},
		checkpoint.PhaseLeadershipTransfer: checkpoint.LeadershipTransfer{VShardID: vshard, TargetIsVoter: true, NewLeaderNodeID: 2, SourceGroup: 3},
		checkpoint.PhaseCutover:            checkpoint.Cutover{VShardID: vshard, NewLeaderNodeID: 2, SourceGroup: 3},
		checkpoint.PhaseComplete:           checkpoint.Complete{VShardID: vshard, ActualPauseUS: 900, GhostStubInstalled: true},
	}[phase]
	c, err := checkpoint.New(id, 1, payload, firstMS+uint64(phase))
	if err != nil {
		panic(err) // cannot happen: the checkpoint is valid
	}
	return c
}

// keyOf identifies the event of a proposal. It returns "" for the store's own events. The proposals
// of a test have different keys: each migration has each phase, step and end once.
func keyOf(e checkpoint.Event) string {
	switch e := e.(type) {
	case checkpoint.Upserted:
		return fmt.Sprintf("%s %s %d", e.Checkpoint.MigrationID, e.Checkpoint.Phase(), e.Checkpoint.Attempt)
	case checkpoint.Compensated:
		return fmt.Sprintf("%s compensated %d", e.MigrationID, e.Step)
	case checkpoint.EpochRaised, checkpoint.Digest, checkpoint.Restored:
		return ""
	}
	return fmt.Sprintf("%s %s", e.Migration(), checkpoint.KindOf(e))
}

// keptLog is the history that a member keeps: the events by their keys and by their bodies, the
// digests by their indexes, and the rows that were restored when the history began.
type keptLog struct {
	keys, bodies cluster.Log
	digests      map[uint64]checkpoint.Digest
	restored     map[checkpoint.MigrationID]checkpoint.Restored
}

// readLog reads the log in a directory, which a member may have open.
func readLog(t testing.TB, member, dir string) keptLog {
	fsys := os.DirFS(dir)
	held, err := segment.ReadDirectory(fsys)
	require.NoError(t, err)
	l := keptLog{digests: map[uint64]checkpoint.Digest{}, restored: map[checkpoint.MigrationID]checkpoint.Restored{}}
	l.keys.Member, l.bodies.Member = member, member
	if h := held.Manifest.History; h != nil {
		l.keys.Begins, l.bodies.Begins = h.Index, h.Index
	}
	for item, err := range segment.NewScan(fsys, held, segment.ScanOptions{}).Items() {
		require.NoError(t, err)
		if item.Damage != nil {
			require.True(t, item.Damage.Torn, "member %s: %v", member, item.Damage)
			continue
		}
		body := item.Frame.Body
		index, _, ok := checkpoint.PeekPosition(body)
		require.True(t, ok, "member %s, seq %d: an event without a position", member, item.Frame.Seq)
		event, err := checkpoint.DecodeEvent(body)
		if unknown := (*checkpoint.UnknownKindError)(nil); errors.As(err, &unknown) {
			l.bodies.Entries = append(l.bodies.Entries, cluster.Entry{Index: index, Key: string(body)})
			continue
		}
		require.NoError(t, err)
		switch e := event.(type) {
		case checkpoint.Digest:
			l.digests[index] = e
		case checkpoint.Restored:
			l.restored[event.Migration()] = e
		default:
			if key := keyOf(event); key != "" {
				l.keys.Entries = append(l.keys.Entries, cluster.Entry{Index: index, Key: key})
			}
			l.bodies.Entries = append(l.bodies.Entries, cluster.Entry{Index: index, Key: string(body)})
		}
	}
	return l
}

// checkLogs compares the members' logs with the proposals, and with each other: every member has the
// same event, byte for byte, at the same index, and the same digests.
func checkLogs(t testing.TB, h *cluster.History, logs ...keptLog) {
	t.Helper()
	for _, l := range logs {
		require.Empty(t, h.Check(l.keys))
		for _, other := range logs {
			require.Empty(t, cluster.Compare(l.bodies, other.bodies))
			for index, d := range l.digests {
				if o, ok := other.digests[index]; ok {
					require.Equal(t, d, o, "digest of members %s and %s at index %d", l.keys.Member, other.keys.Member, index)
				}
			}
		}
	}
}

// checkMembers waits until all running members have applied everything. It compares their logs
// with the proposals and with each other, and their digests.
func checkMembers(t testing.TB, c *cluster.Cluster, h *cluster.History) {
	t.Helper()
	c.Settle()
	var logs []keptLog
	var index uint64
	var digest [32]byte
	for _, m := range c.Members {
		if !m.Running() {
			continue
		}
		i, sum := fsmOf(m.FSM).Digest()
		if logs != nil {
			require.Equal(t, index, i, "last applied index of member %s", m.ID)
			require.Equal(t, digest, sum, "digest of member %s at index %d", m.ID, i)
		}
		index, digest = i, sum
		logs = append(logs, readLog(t, string(m.ID), m.StoreDir()))
		requireRows(t, m, logs[len(logs)-1])
	}
	checkLogs(t, h, logs...)
}

// requireRows checks that the rows are those of the events that the log keeps, on top of the
// restored rows.
func requireRows(t testing.TB, m *cluster.Member, l keptLog) {
	want := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	for id, r := range l.restored {
		want[id] = r.Checkpoint
	}
	for _, e := range l.bodies.Entries {
		event, err := checkpoint.DecodeEvent([]byte(e.Key))
		if unknown := (*checkpoint.UnknownKindError)(nil); errors.As(err, &unknown) {
			continue
		}
		require.NoError(t, err)
		switch {
		case checkpoint.KindOf(event).Effect() == checkpoint.EffectRow:
			want[event.Migration()] = event.(checkpoint.Upserted).Checkpoint
		case checkpoint.KindOf(event).Effect() == checkpoint.EffectEnd:
			delete(want, event.Migration())
		}
	}
	got := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	for _, c := range fsmOf(m.FSM).Store().All() {
		got[c.MigrationID] = c
	}
	require.Equal(t, want, got, "rows of member %s", m.ID)
}

// copyDir copies a directory with files that nobody writes.
func copyDir(t testing.TB, from, to string) {
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

// copyLive copies the directory of a store that has no write under way. The store may save a snapshot
// of its own meanwhile, and then the copy is made again.
func copyLive(t testing.TB, from, to string) {
	cluster.Wait(t, "a copy", func() bool {
		require.NoError(t, os.RemoveAll(to))
		err := os.CopyFS(to, os.DirFS(from))
		require.True(t, err == nil || errors.Is(err, fs.ErrNotExist), "%v", err)
		return err == nil
	})
}

// setAside returns the directories that were set aside when a member's log was replaced.
func setAside(t testing.TB, dir string) []string {
	found, err := filepath.Glob(dir + ".replaced-*")
	require.NoError(t, err)
	return found
}

// client moves migrations, one after the other, through all phases. Each of its proposals has the
// index of the migration's last event as a guard.
type client struct {
	r      *rand.Rand
	origin uint64 // differs between the clients of a test
	n      uint64 // number of the migration

	// proposer returns the proposer of the leader, or nil if none is known.
	proposer func() *raftlog.Proposer
	report   func(cluster.Message)
}

// run moves migrations until ctx ends. It finishes the call that is under way.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.n++
		c.migrate(ctx, idOf(c.origin, c.n))
	}
}

// migrate moves one migration: to its end, or to a random phase at which it is aborted, removed or
// left.
func (c *client) migrate(ctx context.Context, id checkpoint.MigrationID) {
	last := checkpoint.Phase(1 + c.r.IntN(int(checkpoint.PhaseComplete)))
	index := uint64(0)
	for phase := checkpoint.PhaseAddLearner; phase <= last; phase++ {
		u := upsertOf(id, phase, uint32(c.n))
		ok := c.propose(ctx, checkpoint.Upserted{Checkpoint: u}, &index, true, func(call context.Context, p *raftlog.Proposer, opts ...raftlog.Option) (raftlog.Receipt, error) {
			return p.Upsert(call, u, opts...)
		})
		if !ok {
			return
		}
	}
	switch c.r.IntN(4) {
	case 0: // leave it
	case 1:
		c.abort(ctx, id, index)
	default:
		c.propose(ctx, checkpoint.Removed{MigrationID: id}, &index, false, func(call context.Context, p *raftlog.Proposer, opts ...raftlog.Option) (raftlog.Receipt, error) {
			return p.Remove(call, id, opts...)
		})
	}
}

var compensations = []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 3, PeerID: 2}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 3, PeerID: 1}}

func (c *client) abort(ctx context.Context, id checkpoint.MigrationID, index uint64) {
	if !c.propose(ctx, checkpoint.AbortBegun{MigrationID: id}, &index, true, func(call context.Context, p *raftlog.Proposer, opts ...raftlog.Option) (raftlog.Receipt, error) {
		return p.BeginAbort(call, id, "a test", compensations, opts...)
	}) {
		return
	}
	for step := range compensations {
		if !c.propose(ctx, checkpoint.Compensated{MigrationID: id, Step: uint32(step)}, &index, true, func(call context.Context, p *raftlog.Proposer, opts ...raftlog.Option) (raftlog.Receipt, error) {
			return p.Compensated(call, id, uint32(step), opts...)
		}) {
			return
		}
	}
	c.propose(ctx, checkpoint.Aborted{MigrationID: id}, &index, false, func(call context.Context, p *raftlog.Proposer, opts ...raftlog.Option) (raftlog.Receipt, error) {
		return p.Abort(call, id, "a test", compensations, opts...)
	})
}

// propose proposes an event until it is acknowledged or ctx ends, and sets the index of the
// migration's last event. It reports whether the event is in the log. If the outcome of an event that
// ends the migration is unknown, it is not tried again: nothing would show whose event ended it.
func (c *client) propose(ctx context.Context, e checkpoint.Event, index *uint64, again bool, try func(context.Context, *raftlog.Proposer, ...raftlog.Option) (raftlog.Receipt, error)) bool {
	key := keyOf(e)
	for ctx.Err() == nil {
		p := c.proposer()
		if p == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		c.report(cluster.Message{Op: "issue", Key: key})
		receipt, err := try(context.WithoutCancel(ctx), p, raftlog.IfIndex(*index))
		switch {
		case err == nil:
			c.report(cluster.Message{Op: "ack", Key: key, Index: receipt.Index})
			*index = receipt.Index
			return true
		case errors.Is(err, raftlog.ErrNotProposed):
			c.report(cluster.Message{Op: "refused", Key: key})
			time.Sleep(2 * time.Millisecond)
		case errors.Is(err, raftlog.ErrUnknownOutcome):
			c.report(cluster.Message{Op: "unknown", Key: key})
			if !again {
				return false
			}
		default:
			c.report(cluster.Message{Op: "error", Key: key, Text: fmt.Sprintf("%s: %v", key, err)})
			return false
		}
	}
	return false
}

// record returns a client.report that records in a history.
func record(t testing.TB, h *cluster.History) func(cluster.Message) {
	return func(m cluster.Message) {
		switch m.Op {
		case "issue":
			h.Issue(m.Key)
		case "ack":
			if err := h.Ack(m.Key, m.Index); err != nil {
				t.Error(err)
			}
		case "unknown":
			h.Unknown(m.Key)
		case "refused":
			h.Refused(m.Key)
		case "error":
			t.Error(m.Text)
		}
	}
}
