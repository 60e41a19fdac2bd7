package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// RunChild runs the member of a task until the process is killed. write is the program of one
// client. It proposes until ctx ends, and prints each proposal and its outcome (see Group). Each client
// of a child has another number, also if the clients are stopped and others are started. digest
// returns the index that the state machine has applied, and describes its state for a comparison with
// other members at the same index.
func RunChild(task Task, c Config, write func(ctx context.Context, m *Member, writer uint64), digest func(m *Member) (uint64, string)) {
	m, err := task.StartMember(c)
	if err != nil {
		Print(Message{Op: "failed", Text: err.Error()})
		os.Exit(1)
	}
	Print(Message{Op: "started"})
	var writers sync.WaitGroup
	stop := func() {}
	next := uint64(0)
	Commands(func(cmd Message) {
		switch cmd.Op {
		case "load":
			ctx, cancel := context.WithCancel(context.Background())
			stop = cancel
			for range cmd.Index {
				n := next
				next++
				writers.Go(func() { write(ctx, m, n) })
			}
		case "pause":
			stop()
			writers.Wait()
		case "stop":
			stop()
			writers.Wait()
			if err := m.Stop(); err != nil {
				cmd.Text = err.Error()
			}
			Print(cmd)
			os.Exit(0)
		case "snapshot":
			if err := m.Raft.Snapshot().Error(); err != nil {
				cmd.Text = err.Error()
			}
		case "barrier":
			if err := m.Raft.Barrier(5 * time.Second).Error(); err != nil {
				cmd.Text = err.Error()
			}
		case "status":
			s := Status{State: m.Raft.State().String(), Last: m.Raft.LastIndex(), Committed: m.Raft.AppliedIndex()}
			s.Applied, s.Digest = digest(m)
			text, err := json.Marshal(s)
			if err != nil {
				panic(err)
			}
			cmd.Text = string(text)
		}
		Print(cmd)
	})
}

// Status is the reply of a child to "status".
type Status struct {
	State     string
	Last      uint64 // index of the last entry in raft's log
	Committed uint64 // index up to which raft has passed entries on
	Applied   uint64 // index that the state machine has applied
	Digest    string
}

// A Group is a Raft group whose members are child processes. Each child runs RunChild. Its clients
// print "issue" before a proposal, and then "ack" with the index, "unknown" or "refused". The group
// records these in its History.
type Group struct {
	History  History
	Children []*Child // nil: the member does not run

	t     testing.TB
	tasks []Task

	mu       sync.Mutex
	failures []string
}

// NewGroup starts the members in subdirectories of dir.
func NewGroup(t testing.TB, dir string, members int, task Task) *Group {
	g := &Group{t: t, Children: make([]*Child, members)}
	addrs := FreeAddrs(t, members)
	for i, addr := range addrs {
		id := raft.ServerID(fmt.Sprintf("m%d", i))
		task.Servers = append(task.Servers, raft.Server{ID: id, Address: addr})
	}
	for i, server := range task.Servers {
		task.ID, task.Addr, task.Dir = server.ID, server.Address, filepath.Join(dir, string(server.ID))
		g.tasks = append(g.tasks, task)
		g.Start(i)
	}
	t.Cleanup(func() {
		for _, task := range g.tasks {
			if t.Failed() {
				t.Logf("messages of member %s:\n%s", task.ID, lastLines((&Member{Dir: task.Dir}).LogPath(), 40))
			}
		}
	})
	return g
}

// Dir returns the directory of a member.
func (g *Group) Dir(i int) string { return g.tasks[i].Dir }

// SetArg sets an argument of the next children of a member.
func (g *Group) SetArg(i int, name, value string) {
	args := map[string]string{name: value}
	for k, v := range g.tasks[i].Args {
		if k != name {
			args[k] = v
		}
	}
	g.tasks[i].Args = args
}

// Start starts a child of the member. It does not wait until raft runs.
func (g *Group) Start(i int) {
	g.Children[i] = StartChild(g.t, g.tasks[i], func(m Message) bool { return g.record(g.tasks[i], m) })
	g.tasks[i].Life++
}

func (g *Group) record(task Task, m Message) bool {
	switch m.Op {
	case "issue":
		g.History.Issue(m.Key)
	case "ack":
		if err := g.History.Ack(m.Key, m.Index); err != nil {
			g.fail(task, err.Error())
		}
	case "unknown":
		g.History.Unknown(m.Key)
	case "refused":
		g.History.Refused(m.Key)
	case "error":
		g.fail(task, m.Text)
	default:
		return false
	}
	return true
}

func (g *Group) fail(task Task, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures = append(g.failures, fmt.Sprintf("member %s, child %s: %s", task.ID, strconv.Itoa(task.Life), text))
}

// Failures returns the errors that the children have reported.
func (g *Group) Failures() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures
}

// Kill kills the child of a member.
func (g *Group) Kill(i int) {
	g.Children[i].Kill()
	g.Children[i] = nil
}

// Stop ends the child of a member in order.
func (g *Group) Stop(i int) {
	reply, err := g.Children[i].Ask(Message{Op: "stop"})
	require.NoError(g.t, err)
	require.Empty(g.t, reply.Text)
	g.Children[i].Wait()
	g.Children[i] = nil
}

// Load makes each running member propose with this number of clients. Those of followers wait
// until their member leads.
func (g *Group) Load(i, writers int) {
	g.ask(i, Message{Op: "load", Index: uint64(writers)})
}

// Pause stops the clients of all running members.
func (g *Group) Pause() {
	for i, child := range g.Children {
		if child != nil {
			g.ask(i, Message{Op: "pause"})
		}
	}
}

func (g *Group) ask(i int, m Message) Message {
	reply, err := g.Children[i].Ask(m)
	require.NoError(g.t, err, "member %s", g.tasks[i].ID)
	return reply
}

// AwaitStart waits until raft runs on a member.
func (g *Group) AwaitStart(i int) {
	child := g.Children[i]
	Wait(g.t, "start of "+string(child.Task.ID), func() bool { return child.Count("started") > 0 || child.Ended() })
	require.NotZero(g.t, child.Count("started"), "member %s has ended", child.Task.ID)
}

// Status returns the status of a running member.
func (g *Group) Status(i int) (s Status) {
	require.NoError(g.t, json.Unmarshal([]byte(g.ask(i, Message{Op: "status"}).Text), &s))
	return s
}

// Leader waits for a leader and returns its position.
func (g *Group) Leader() (leader int) {
	Wait(g.t, "a leader", func() bool {
		for i, child := range g.Children {
			if child != nil && g.Status(i).State == raft.Leader.String() && g.ask(i, Message{Op: "barrier"}).Text == "" {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

// Settle waits until all running members have applied the same entries, and returns their
// statuses. No client may run.
func (g *Group) Settle() (statuses []Status) {
	leader := g.Leader()
	Wait(g.t, "equal applied indexes", func() bool {
		statuses = statuses[:0]
		for i, child := range g.Children {
			if child == nil {
				continue
			}
			statuses = append(statuses, g.Status(i))
			if s := statuses[len(statuses)-1]; s.Committed != s.Last || s.Committed != statuses[0].Committed || s.Applied != statuses[0].Applied {
				leader = g.Leader()
				return false
			}
		}
		return g.Status(leader).State == raft.Leader.String()
	})
	return statuses
}
