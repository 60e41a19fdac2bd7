package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"migrationlog/examples/shardmover/wire"
	"migrationlog/raftlog"
)

// metaService is the service of the metadata group's raft.
const metaService = "meta"

// StoreDir returns the directory of the store of a coordinator.
func StoreDir(dir string) string { return filepath.Join(dir, "checkpoints") }

// member is one member of the metadata group.
type member struct {
	raft     *raft.Raft
	fsm      *raftlog.FSM
	proposer *raftlog.Proposer
	closers  []io.Closer
}

// openMember opens a member of the metadata group. A raft application needs no other code to keep
// its checkpoints in a replicated store.
func openMember(opts Options) (*member, error) {
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}
	fsm, err := raftlog.Open(StoreDir(opts.Dir), &raftlog.Options{NodeID: wire.CoordinatorName(opts.Node)})
	if err != nil {
		return nil, err
	}
	logs, err := raftboltdb.NewBoltStore(filepath.Join(opts.Dir, "raft.db"))
	if err != nil {
		return nil, errors.Join(err, fsm.Close())
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: wire.CoordinatorName(opts.Node), Output: opts.Log, Level: hclog.Warn})
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(opts.Dir, 2, logger)
	if err != nil {
		return nil, errors.Join(err, logs.Close(), fsm.Close())
	}
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream{opts.Mux.Service(metaService), opts.Node, opts.Network}, MaxPool: 2, Timeout: time.Second, Logger: logger,
	})
	m := &member{fsm: fsm, closers: []io.Closer{transport, logs, fsm}}
	conf := metaConfig(opts.Node, logger)
	if err := raftlog.Configure(conf, snapshots, fsm); err != nil {
		return nil, errors.Join(err, m.closeAll())
	}
	err = raft.BootstrapCluster(conf, logs, logs, snapshots, transport, metaServers(opts.Members))
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return nil, errors.Join(err, m.closeAll())
	}
	if m.raft, err = raft.NewRaft(conf, fsm, logs, logs, snapshots, transport); err != nil {
		return nil, errors.Join(err, m.closeAll())
	}
	m.proposer = raftlog.NewProposer(m.raft, fsm, &raftlog.ProposerOptions{Timeout: time.Second})
	return m, nil
}

// metaConfig has short timeouts, so that a successor leads soon, and frequent snapshots. The log of
// raft keeps more entries than a run has, so no member is restored from a snapshot. Each member
// therefore has the whole history, which mover.outcome needs.
func metaConfig(node uint64, logger hclog.Logger) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(wire.CoordinatorName(node))
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	conf.SnapshotInterval, conf.SnapshotThreshold = time.Second, 128
	conf.Logger = logger
	return conf
}

func metaServers(nodes []uint64) (c raft.Configuration) {
	for _, node := range nodes {
		name := wire.CoordinatorName(node)
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(name), Address: raft.ServerAddress(name)})
	}
	return c
}

// stream is the raft.StreamLayer of a member.
type stream struct {
	*wire.Service
	node    uint64
	network *wire.Network
}

// Addr returns the endpoint, which is the address of the member in the configuration.
func (s stream) Addr() net.Addr { return memberAddr(wire.CoordinatorName(s.node)) }

func (s stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.network.Dial(ctx, string(address), metaService)
}

type memberAddr string

func (a memberAddr) Network() string { return "shardmover" }
func (a memberAddr) String() string  { return string(a) }

// leader returns the endpoint of the coordinator that probably leads, or "".
func (m *member) leader() string {
	_, id := m.raft.LeaderWithID()
	return string(id)
}

// leads reports whether the member leads in this term.
func (m *member) leads(term uint64) bool {
	return m.raft.State() == raft.Leader && m.raft.CurrentTerm() == term
}

// status returns the state of the member.
func (m *member) status() Status {
	s := Status{AppliedIndex: m.fsm.AppliedIndex(), InFlight: m.fsm.Store().Len()}
	index, sum := m.fsm.Digest()
	s.DigestIndex, s.Digest = index, fmt.Sprintf("%x", sum)
	return s
}

func (m *member) close() error { return errors.Join(m.raft.Shutdown().Error(), m.closeAll()) }

func (m *member) closeAll() error {
	var errs []error
	for _, c := range m.closers {
		if err := c.Close(); err != nil && !strings.Contains(err.Error(), "closed") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
