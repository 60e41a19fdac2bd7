package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/raftlog"
	"migrationlog/recovery"
)

// member is one server of the group that has the cluster's metadata.
type member struct {
	raft     *raft.Raft
	fsm      *raftlog.FSM
	proposer *raftlog.Proposer
}

// startMember starts a member with the configuration, stores and transport that a raft program has.
func startMember(dir string, conf *raft.Config, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) (*member, error) {
	fsm, err := raftlog.Open(filepath.Join(dir, "migrations"), &raftlog.Options{NodeID: string(conf.LocalID), Logger: slog.Default()})
	if err != nil {
		return nil, err // ErrUnfit: the store has lost events
	}
	if err := raftlog.Configure(conf, snaps, fsm); err != nil { // always, and before NewRaft
		return nil, errors.Join(err, fsm.Close())
	}
	r, err := raft.NewRaft(conf, fsm, logs, stable, snaps, trans)
	if err != nil {
		return nil, errors.Join(err, fsm.Close())
	}
	return &member{r, fsm, raftlog.NewProposer(r, fsm, nil)}, nil
}

// lead takes over the moves of earlier leaders. Call it when this member has become the leader.
func (m *member) lead(ctx context.Context, policy recovery.Policy, h recovery.Handlers) error {
	return m.proposer.Recover(ctx, policy, h)
}

// stop stops the member: first raft, then the store.
func (m *member) stop() error {
	return errors.Join(m.raft.Shutdown().Error(), m.fsm.Close())
}

// record records a step of a move, on the leader. The argument previous is the Index of the receipt of
// the step before it, or 0 for the first step. The argument epoch is that of Proposer.Epoch when this
// member became the leader.
func (m *member) record(ctx context.Context, c checkpoint.Checkpoint, previous, epoch uint64) (raftlog.Receipt, error) {
	guards := []raftlog.Option{raftlog.IfIndex(previous), raftlog.InOrder(), raftlog.Term(epoch)}
	if previous == 0 {
		guards = append(guards, raftlog.IfVShardFree())
	}
	return m.proposer.Upsert(ctx, c, guards...)
}

// exportState writes the rows of a store that no member has open, for raft.Restore. If the store has
// lost events, it writes the rows that are left. It does not use a snapshot of the log whose last
// event is lost.
func exportState(dir string, w io.Writer) (*raft.SnapshotMeta, error) {
	replica, err := migrationlog.OpenReplica(dir, &migrationlog.ReplicaOptions{AcceptLoss: true})
	if err != nil {
		return nil, err
	}
	state := replica.State()
	sizeBytes, err := state.WriteTo(w)
	index, term := state.Position()
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index, Term: term, Size: sizeBytes}
	return meta, errors.Join(err, replica.Close())
}

// Three servers run a group over TCP. The leader records the first step of a move and ends. The next
// leader continues the move.
func Example() {
	dir, _ := os.MkdirTemp("", "group-")
	defer os.RemoveAll(dir)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	members := startGroup(dir, "a", "b", "c")
	first := waitForLeader(members)

	learner, err := checkpoint.New(checkpoint.NewMigrationID(), 0,
		checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 4, SourceGroup: 70}, uint64(time.Now().UnixMilli()))
	if err != nil {
		panic(err)
	}
	receipt, err := first.record(context.Background(), learner, 0, first.proposer.Epoch())
	if err != nil {
		panic(err)
	}
	fmt.Println("recorded:", learner.Phase(), "duplicate:", receipt.Duplicate)

	if err := first.stop(); err != nil {
		panic(err)
	}
	next := waitForLeader(members)
	err = next.lead(context.Background(), recovery.Policy{AbortTimeout: time.Hour}, recovery.Handlers{
		Compensate: func(context.Context, recovery.Step) error { return nil },
		Resume: func(_ context.Context, d recovery.Decision, epoch uint64) error {
			fmt.Println("the next leader continues with", d.NextPhase)
			return nil
		},
	})
	if err != nil {
		panic(err)
	}
	_, err = first.proposer.Remove(context.Background(), learner.MigrationID)
	fmt.Println("the first one proposes nothing:", errors.Is(err, raftlog.ErrNotProposed))
	for _, m := range members {
		if m != first {
			_ = m.stop()
		}
	}
	// Output:
	// recorded: AddLearner duplicate: false
	// the next leader continues with CatchUp
	// the first one proposes nothing: true
}

// startGroup starts the members of a new group.
func startGroup(dir string, names ...string) []*member {
	var transports []raft.Transport
	var servers []raft.Server
	for _, name := range names {
		trans, err := raft.NewTCPTransport("127.0.0.1:0", nil, 2, time.Second, io.Discard)
		if err != nil {
			panic(err)
		}
		transports = append(transports, trans)
		servers = append(servers, raft.Server{ID: raft.ServerID(name), Address: trans.LocalAddr()})
	}
	var members []*member
	for i, name := range names {
		m, err := startServer(filepath.Join(dir, name), name, transports[i], servers)
		if err != nil {
			panic(err)
		}
		members = append(members, m)
	}
	return members
}

// startServer is the raft part of a server: its log, its snapshots and its configuration.
func startServer(dir, name string, trans raft.Transport, servers []raft.Server) (*member, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	logs, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	if err != nil {
		return nil, err
	}
	snaps, err := raft.NewFileSnapshotStore(dir, 2, io.Discard)
	if err != nil {
		return nil, err
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.LogOutput = raft.ServerID(name), io.Discard
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 150*time.Millisecond
	if err := raft.BootstrapCluster(conf, logs, logs, snaps, trans, raft.Configuration{Servers: servers}); err != nil {
		return nil, err
	}
	return startMember(dir, conf, logs, logs, snaps, trans)
}

// waitForLeader returns the member that leads.
func waitForLeader(members []*member) *member {
	for {
		for _, m := range members {
			if m.raft.State() == raft.Leader {
				return m
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}
