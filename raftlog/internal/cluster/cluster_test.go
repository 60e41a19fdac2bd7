package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// list is a state machine that remembers every command. It can be made faulty, so that a test can
// check that the faults are found.
type list struct {
	mu      sync.Mutex
	entries []Entry
	fault   string
}

func (l *list) Apply(log *raft.Log) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := Entry{Index: log.Index, Key: string(log.Data)}
	switch l.fault {
	case "loses":
		if log.Index%10 == 0 {
			return nil
		}
	case "repeats":
		if log.Index%10 == 0 {
			l.entries = append(l.entries, e)
		}
	}
	l.entries = append(l.entries, e)
	return nil
}

func (l *list) Snapshot() (raft.FSMSnapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return listSnapshot(slices.Clone(l.entries)), nil
}

func (l *list) Restore(r io.ReadCloser) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
	return json.NewDecoder(r).Decode(&l.entries)
}

func (l *list) Close() error { return nil }

func (l *list) log(member string) Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Log{Member: member, Entries: slices.Clone(l.entries)}
}

type listSnapshot []Entry

func (s listSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode([]Entry(s)); err != nil {
		return err
	}
	return sink.Close()
}

func (s listSnapshot) Release() {}

func listConfig(fault func(m *Member) string) Config {
	return Config{
		Open:    func(m *Member) (FSM, error) { return &list{fault: fault(m)}, nil },
		Applied: lastApplied,
		Tune: func(c *raft.Config) {
			c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = 64, 8, 20*time.Millisecond
		},
	}
}

// proposeKey proposes one key and returns the operation that says how it ended.
func proposeKey(m *Member, key string) Message {
	f := m.Raft.Apply([]byte(key), time.Second)
	switch err := f.Error(); {
	case err == nil:
		return Message{Op: "ack", Key: key, Index: f.Index()}
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout):
		return Message{Op: "refused", Key: key}
	}
	return Message{Op: "unknown", Key: key}
}

func TestMain(m *testing.M) {
	task, ok := ChildTask()
	if !ok {
		os.Exit(m.Run())
	}
	RunChild(task, listConfig(func(*Member) string { return "" }), func(ctx context.Context, m *Member, writer uint64) {
		for n := 0; ctx.Err() == nil; n++ {
			if m.Raft.State() != raft.Leader {
				time.Sleep(time.Millisecond)
				continue
			}
			key := fmt.Sprintf("%s-%d-%d-%d", task.ID, task.Life, writer, n)
			Print(Message{Op: "issue", Key: key})
			Print(proposeKey(m, key))
		}
	}, func(m *Member) (uint64, string) {
		text, err := json.Marshal(m.FSM.(*list).log(""))
		if err != nil {
			panic(err)
		}
		return lastApplied(m), string(text)
	})
}

// A group whose members apply every entry once passes, also if its leader was isolated, and if its
// members were restarted. A member that loses an entry or applies one twice is found.
func TestCluster_FindsFaults(t *testing.T) {
	for _, fault := range []string{"", "loses", "repeats"} {
		t.Run("a member "+fault, func(t *testing.T) {
			var h History
			c := New(t, t.TempDir(), 3, listConfig(func(m *Member) string {
				if m.ID == "m1" {
					return fault
				}
				return ""
			}))
			n := 0
			load := func(leader *Member, count int) {
				for range count {
					n++
					key := strconv.Itoa(n)
					h.Issue(key)
					m := proposeKey(leader, key)
					switch m.Op {
					case "ack":
						require.NoError(t, h.Ack(key, m.Index))
					case "unknown":
						h.Unknown(key)
					case "refused":
						h.Refused(key)
					}
				}
			}
			load(c.Leader(), 100)
			isolated := c.Leader()
			c.Isolate(c.Index(isolated))
			load(isolated, 1)
			load(c.Leader(), 100)
			c.Heal()
			c.Settle()
			violations := check(&h, c) // a snapshot of another member would repair the state
			c.Stop(1)
			load(c.Leader(), 100)
			c.Start(1)
			c.Settle()
			violations = append(violations, check(&h, c)...)
			require.Equal(t, fault == "", len(violations) == 0, "%v", violations)
			acknowledged, _ := h.Counts()
			require.GreaterOrEqual(t, acknowledged, 200)
		})
	}
}

func lastApplied(m *Member) uint64 {
	entries := m.FSM.(*list).log("").Entries
	if len(entries) == 0 {
		return 0
	}
	return entries[len(entries)-1].Index
}

func check(h *History, c *Cluster) (violations []string) {
	for _, m := range c.Members {
		violations = append(violations, h.Check(m.FSM.(*list).log(string(m.ID)))...)
	}
	return violations
}

// Children are killed while they lead, and lose nothing.
func TestGroup_KillLeader(t *testing.T) {
	g := NewGroup(t, t.TempDir(), 3, Task{Role: "list"})
	for i := range g.Children {
		g.AwaitStart(i)
		g.Load(i, 2)
	}
	for range 3 {
		leader := g.Leader()
		acks := g.Children[leader].Count("ack")
		Wait(t, "load", func() bool { return g.Children[leader].Count("ack") > acks+20 })
		g.Kill(leader)
		g.Start(leader)
		g.AwaitStart(leader)
		g.Load(leader, 2)
	}
	g.Pause()
	statuses := g.Settle()
	require.Empty(t, g.Failures())
	for i, s := range statuses {
		var log Log
		require.NoError(t, json.Unmarshal([]byte(s.Digest), &log))
		log.Member = strconv.Itoa(i)
		require.Empty(t, g.History.Check(log))
		require.Equal(t, statuses[0].Digest, s.Digest)
	}
	acknowledged, unknown := g.History.Counts()
	t.Logf("acknowledged: %d, unknown: %d", acknowledged, unknown)
}
