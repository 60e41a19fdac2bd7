package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// Patience is the time after which a wait fails the test. It is long, because the machine may be
// busy. A test that succeeds does not wait for it.
const Patience = 60 * time.Second

// A Cluster is a Raft group in one process. Its methods must be called on one goroutine.
type Cluster struct {
	Members []*Member
	Config  Config

	t      testing.TB
	links  []*raft.InmemTransport // of the running members
	cut    [][]bool
	config raft.Configuration
}

// New starts members in subdirectories of dir. When the test ends, they are stopped. If it has
// failed, the ends of their messages are printed.
func New(t testing.TB, dir string, members int, config Config) *Cluster {
	c := &Cluster{Config: config, t: t, links: make([]*raft.InmemTransport, members), cut: make([][]bool, members)}
	for i := range members {
		name := fmt.Sprintf("m%d", i)
		c.cut[i] = make([]bool, members)
		c.Members = append(c.Members, &Member{ID: raft.ServerID(name), Addr: raft.ServerAddress(name), Dir: filepath.Join(dir, name)})
		c.config.Servers = append(c.config.Servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)})
	}
	t.Cleanup(c.stop)
	for i := range members {
		c.Start(i)
	}
	return c
}

func (c *Cluster) stop() {
	for i, m := range c.Members {
		if m.Running() {
			c.Disconnect(i)
			if err := m.Stop(); err != nil && !c.t.Failed() {
				c.t.Errorf("stop of member %s: %v", m.ID, err)
			}
		}
		if c.t.Failed() {
			c.t.Logf("messages of member %s:\n%s", m.ID, lastLines(m.LogPath(), 40))
		}
	}
}

func lastLines(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Start starts a member that does not run.
func (c *Cluster) Start(i int) { require.NoError(c.t, c.TryStart(i)) }

// TryStart is like Start, and returns the error.
func (c *Cluster) TryStart(i int) error {
	m := c.Members[i]
	_, trans := raft.NewInmemTransportWithTimeout(m.Addr, 500*time.Millisecond)
	c.links[i] = trans
	if err := m.Start(c.Config, trans, c.config.Servers); err != nil {
		c.links[i] = nil
		return err
	}
	c.connect()
	return nil
}

// Stop stops a member.
func (c *Cluster) Stop(i int) {
	c.Disconnect(i)
	c.links[i] = nil
	require.NoError(c.t, c.Members[i].Stop())
}

// Disconnect removes the links of a member until the next Start, Isolate or Heal.
func (c *Cluster) Disconnect(i int) {
	for j, link := range c.links {
		if link != nil && c.links[i] != nil {
			link.Disconnect(c.Members[i].Addr)
			c.links[i].Disconnect(c.Members[j].Addr)
		}
	}
}

// Isolate cuts the links between a member and all others.
func (c *Cluster) Isolate(i int) {
	for j := range c.cut {
		if j != i {
			c.cut[i][j], c.cut[j][i] = true, true
		}
	}
	c.connect()
}

// Heal restores all links.
func (c *Cluster) Heal() {
	for i := range c.cut {
		clear(c.cut[i])
	}
	c.connect()
}

// connect connects the running members, except over the links that are cut.
func (c *Cluster) connect() {
	for i, from := range c.links {
		for j, to := range c.links {
			if from == nil || to == nil {
				continue
			}
			if c.cut[i][j] {
				from.Disconnect(c.Members[j].Addr)
			} else {
				from.Connect(c.Members[j].Addr, to)
			}
		}
	}
}

// Index returns the position of a member in Members.
func (c *Cluster) Index(m *Member) int {
	for i, other := range c.Members {
		if other == m {
			return i
		}
	}
	panic("not a member of this cluster")
}

// Leader waits for a leader that has applied all entries of earlier terms, among the running
// members that are connected to a majority.
func (c *Cluster) Leader() *Member {
	var leader *Member
	c.Wait("a leader", func() bool {
		leader = c.leader()
		return leader != nil && leader.Raft.Barrier(time.Second).Error() == nil
	})
	return leader
}

// leader returns the present leader, or nil.
func (c *Cluster) leader() *Member {
	for i, m := range c.Members {
		if m.Running() && m.Raft.State() == raft.Leader && c.reaches(i) > len(c.Members)/2 {
			return m
		}
	}
	return nil
}

// reaches counts the running members that a member is connected to, and itself.
func (c *Cluster) reaches(i int) (n int) {
	for j, m := range c.Members {
		if m.Running() && !c.cut[i][j] {
			n++
		}
	}
	return n
}

// Follower returns a running member that is not the leader.
func (c *Cluster) Follower() *Member {
	leader := c.Leader()
	for _, m := range c.Members {
		if m != leader && m.Running() {
			return m
		}
	}
	c.t.Fatal("no follower runs")
	return nil
}

// Settle waits until all running members have committed the same entries, and their state machines
// have applied the same ones (see Config.Applied). It returns the index of the last entry.
func (c *Cluster) Settle() (index uint64) {
	applied := c.Config.Applied
	if applied == nil {
		applied = func(*Member) uint64 { return 0 }
	}
	c.Leader()
	c.Wait("equal applied indexes", func() bool {
		leader := c.leader()
		if leader == nil {
			return false
		}
		index = leader.Raft.LastIndex()
		for _, m := range c.Members {
			if m.Running() && (m.Raft.AppliedIndex() != index || m.Raft.LastIndex() != index || applied(m) != applied(leader)) {
				return false
			}
		}
		return true
	})
	return index
}

// Wait waits until a condition holds.
func (c *Cluster) Wait(condition string, holds func() bool) { Wait(c.t, condition, holds) }

// Wait waits until a condition holds, and fails the test after Patience.
func Wait(t testing.TB, condition string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", condition, Patience)
		}
	}
}
