package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"migrationlog/examples/shardmover/shard"
	"migrationlog/examples/shardmover/wire"
)

// Options configures Open.
type Options struct {
	Dir     string // of this node
	Node    uint64
	First   [][]shard.ReplicaID // for each group that the node hosts from the beginning, all replicas
	Network *wire.Network
	Mux     *wire.Mux
	Log     io.Writer
}

// Node hosts at most one replica of each group.
type Node struct {
	opts    Options
	stubs   *stubs
	journal *journal

	mu       sync.Mutex
	replicas map[uint64]*shard.Replica // by group
	hangs    map[shard.ReplicaID]Hang
}

// Open opens a node with the replicas that it has hosted before, or with its first ones.
func Open(opts Options) (*Node, error) {
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}
	stubs, err := openStubs(opts.Dir)
	if err != nil {
		return nil, err
	}
	journal, err := openJournal(opts.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{opts: opts, stubs: stubs, journal: journal, replicas: map[uint64]*shard.Replica{}, hangs: map[shard.ReplicaID]Hang{}}
	for _, ids := range opts.First {
		for _, id := range ids {
			if id.Node == opts.Node {
				if _, err := n.open(id, ids); err != nil {
					return nil, errors.Join(err, n.Close())
				}
			}
		}
	}
	return n, nil
}

// Close closes all replicas.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	errs := []error{n.journal.file.Close()}
	for _, replica := range n.replicas {
		errs = append(errs, replica.Close())
	}
	return errors.Join(errs...)
}

// dir returns the directory of a replica.
func (n *Node) dir(id shard.ReplicaID) string {
	return filepath.Join(n.opts.Dir, strings.ReplaceAll(id.String(), "/", "_"))
}

// open opens a replica. first is empty, except for a replica of a new group.
func (n *Node) open(id shard.ReplicaID, first []shard.ReplicaID) (*shard.Replica, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if replica := n.replicas[id.Group]; replica != nil {
		if replica.ID == id {
			return replica, nil
		}
		return nil, fmt.Errorf("node %d hosts %s, and cannot host %s", n.opts.Node, replica.ID, id)
	}
	if _, err := os.Stat(n.tombstone(id)); err == nil {
		return nil, fmt.Errorf("node %d has dropped %s: a move that was undone cannot go on", n.opts.Node, id)
	}
	replica, err := shard.Open(shard.Options{
		Dir: n.dir(id), ID: id, First: first, Network: n.opts.Network, Mux: n.opts.Mux, Log: n.opts.Log,
		OnServers: func(servers []raft.Server) { n.hangIfVoter(id, servers) },
	})
	if err != nil {
		return nil, err
	}
	n.replicas[id.Group] = replica
	if hang, found := n.hangs[id]; found && !hang.Voter {
		replica.Hang()
	}
	return replica, nil
}

// tombstone returns the file that exists after a replica was dropped. A late request of a dead
// coordinator can then not bring the replica back.
func (n *Node) tombstone(id shard.ReplicaID) string { return n.dir(id) + ".dropped" }

// drop closes a replica and deletes its data. It succeeds if the node does not host it.
func (n *Node) drop(id shard.ReplicaID) error {
	if err := os.WriteFile(n.tombstone(id), nil, 0o644); err != nil {
		return err
	}
	n.mu.Lock()
	replica := n.replicas[id.Group]
	if replica == nil || replica.ID != id {
		n.mu.Unlock()
		return nil
	}
	delete(n.replicas, id.Group)
	n.mu.Unlock()
	return errors.Join(replica.Close(), os.RemoveAll(n.dir(id)))
}

// replica returns the node's replica of a group.
func (n *Node) replica(group uint64) (*shard.Replica, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if replica := n.replicas[group]; replica != nil {
		return replica, nil
	}
	leader := ""
	if target := n.stubs.of(group); target != 0 {
		leader = wire.NodeName(target)
	}
	return nil, wire.Errorf(wire.NotHosted, leader, "node %d does not host group %d", n.opts.Node, group)
}

// hang makes a replica hang now, or later.
func (n *Node) hang(h Hang) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hangs[h.Replica] = h
}

// hangIfVoter makes a replica hang if it is to hang as a voter, and has become one.
func (n *Node) hangIfVoter(id shard.ReplicaID, servers []raft.Server) {
	for _, server := range servers {
		if string(server.ID) != id.String() || server.Suffrage != raft.Voter {
			continue
		}
		go func() { // raft waits for this function, and open holds the lock while it starts raft
			n.mu.Lock()
			defer n.mu.Unlock()
			if replica := n.replicas[id.Group]; n.hangs[id].Voter && replica != nil && replica.ID == id {
				replica.Hang()
			}
		}()
	}
}
