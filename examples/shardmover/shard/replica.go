package shard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"migrationlog/examples/shardmover/wire"
)

// applyTimeout is the time that a command may wait in raft's queue.
const applyTimeout = time.Second

// Options configures Open.
type Options struct {
	Dir     string
	ID      ReplicaID
	First   []ReplicaID // of a new group: all its replicas; otherwise empty
	Network *wire.Network
	Mux     *wire.Mux
	Log     io.Writer
	// OnServers is called with each committed configuration. It may be nil.
	OnServers func(servers []raft.Server)
}

// Replica is one replica of a group. It is safe for concurrent use.
type Replica struct {
	ID      ReplicaID
	raft    *raft.Raft
	machine *machine
	service *wire.Service
	closers []io.Closer

	effects sync.Mutex // held during each effect of a coordinator
}

// Open opens or creates a replica. A replica without Options.First waits for a leader that adds it.
func Open(opts Options) (*Replica, error) {
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}
	logs, err := raftboltdb.NewBoltStore(filepath.Join(opts.Dir, "raft.db"))
	if err != nil {
		return nil, err
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: opts.ID.String(), Output: opts.Log, Level: hclog.Warn})
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(opts.Dir, 1, logger)
	if err != nil {
		return nil, errors.Join(err, logs.Close())
	}
	if opts.OnServers == nil {
		opts.OnServers = func([]raft.Server) {}
	}
	r := &Replica{ID: opts.ID, machine: newMachine(opts.OnServers), service: opts.Mux.Service(opts.ID.String())}
	transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream{r.service, opts.Network}, MaxPool: 2, Timeout: time.Second, Logger: logger,
	})
	r.closers = []io.Closer{transport, logs}
	conf := config(opts.ID, logger)
	if len(opts.First) > 0 {
		err = raft.BootstrapCluster(conf, logs, logs, snapshots, transport, firstConfiguration(opts.First))
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return nil, errors.Join(err, r.closeAll())
		}
	}
	if r.raft, err = raft.NewRaft(conf, r.machine, logs, logs, snapshots, transport); err != nil {
		return nil, errors.Join(err, r.closeAll())
	}
	return r, nil
}

// config has short timeouts, so that the example shows many elections, and frequent snapshots, so that
// learners catch up by snapshot and by log.
func config(id ReplicaID, logger hclog.Logger) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(id.String())
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 300*time.Millisecond
	conf.SnapshotInterval, conf.SnapshotThreshold, conf.TrailingLogs = 2*time.Second, 512, 256
	conf.ShutdownOnRemove = false // the node closes a replica that was removed
	conf.Logger = logger
	return conf
}

func firstConfiguration(ids []ReplicaID) (c raft.Configuration) {
	for _, id := range ids {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id.String()), Address: raft.ServerAddress(id.String())})
	}
	return c
}

// stream is the raft.StreamLayer of a replica.
type stream struct {
	*wire.Service
	network *wire.Network
}

func (s stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, err := ParseReplicaID(string(address))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.network.Dial(ctx, wire.NodeName(id.Node), string(address))
}

// Hang makes the replica unreachable for its peers, as if its node hung.
func (r *Replica) Hang() { r.service.Refuse() }

// Close closes the replica. Its data stay.
func (r *Replica) Close() error {
	return errors.Join(r.raft.Shutdown().Error(), r.closeAll())
}

func (r *Replica) closeAll() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Write appends a write of a client. It returns after the write has been committed.
func (r *Replica) Write(client string, write uint64) error {
	_, err := r.apply(command{Client: client, Write: write})
	return err
}

// apply commits a command, and returns the group's epoch after it.
func (r *Replica) apply(c command) (epoch uint64, err error) {
	data, err := json.Marshal(c)
	if err != nil {
		return 0, err
	}
	future := r.raft.Apply(data, applyTimeout)
	if err := future.Error(); err != nil {
		return 0, r.failure(err)
	}
	return future.Response().(uint64), nil
}

// failure returns an error of raft with its code.
func (r *Replica) failure(err error) error {
	if errors.Is(err, raft.ErrNotLeader) {
		return r.notLeader()
	}
	return wire.Errorf(wire.Failed, r.leaderEndpoint(), "%s: %v", r.ID, err)
}

func (r *Replica) notLeader() error {
	return wire.Errorf(wire.NotLeader, r.leaderEndpoint(), "%s does not lead", r.ID)
}

// leaderEndpoint returns the endpoint of the node that probably leads the group, or "".
func (r *Replica) leaderEndpoint() string {
	if leader := r.Leader(); leader != (ReplicaID{}) {
		return wire.NodeName(leader.Node)
	}
	return ""
}

// Leader returns the replica that leads, as far as this one knows, or the zero id.
func (r *Replica) Leader() ReplicaID {
	_, text := r.raft.LeaderWithID()
	id, _ := ParseReplicaID(string(text)) // the server ids are replica ids
	return id
}

// State returns the state after all entries that were committed before the call. Only the leader can
// return it.
func (r *Replica) State() (State, error) {
	if err := r.raft.Barrier(applyTimeout).Error(); err != nil {
		return State{}, r.failure(err)
	}
	return r.machine.copyState(), nil
}

// LocalState returns the state that this replica has applied.
func (r *Replica) LocalState() State { return r.machine.copyState() }
