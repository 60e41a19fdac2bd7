package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// FSM is the state machine of a member.
type FSM interface {
	raft.FSM
	Close() error
}

// Config configures a member.
type Config struct {
	// Open opens the state machine of a member. It may keep files below Member.StoreDir.
	Open func(m *Member) (FSM, error)
	// Configure is called before raft starts. Nil: nothing.
	Configure func(conf *raft.Config, snaps raft.SnapshotStore, fsm FSM) error
	// Tune changes raft's configuration. Nil: nothing.
	Tune func(conf *raft.Config)
	// Applied returns the index that a state machine has applied. It may be lower than raft's, because
	// raft keeps some entries for itself. Nil: Cluster.Settle waits only until raft has passed the
	// entries on.
	Applied func(m *Member) uint64
	// Logs wraps raft's own log. Nil: it is used as it is.
	Logs func(logs raft.LogStore) raft.LogStore
}

// A Member is one raft node. Its directory contains raft's log and stable store (bolt), raft's
// snapshots, and the files of the state machine.
type Member struct {
	ID   raft.ServerID
	Addr raft.ServerAddress
	Dir  string

	// These are set while the member runs.
	Raft  *raft.Raft
	FSM   FSM
	Snaps *raft.FileSnapshotStore
	Bolt  *raftboltdb.BoltStore
	Conf  raft.Config // raft's configuration at the start
	Log   *slog.Logger

	trans   raft.Transport
	logFile *os.File
}

// StoreDir is the directory for the files of the state machine. Its parent has nothing else, so it
// can be a disk of its own.
func (m *Member) StoreDir() string { return filepath.Join(m.Dir, "disk", "store") }

// Start opens the member's files and starts raft. At its first start the member gets the servers as
// its configuration.
func (m *Member) Start(c Config, trans raft.Transport, servers []raft.Server) (err error) {
	m.trans = trans
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start of member %s: %w", m.ID, err), m.Stop())
		}
	}()
	if err := m.OpenFiles(c); err != nil {
		return err
	}
	conf := m.newConfig(c)
	if c.Configure != nil {
		if err := c.Configure(conf, m.Snaps, m.FSM); err != nil {
			return err
		}
	}
	var logs raft.LogStore = m.Bolt
	if c.Logs != nil {
		logs = c.Logs(logs)
	}
	known, err := raft.HasExistingState(logs, m.Bolt, m.Snaps)
	if err != nil {
		return err
	}
	if !known && len(servers) > 0 {
		if err := raft.BootstrapCluster(conf, logs, m.Bolt, m.Snaps, trans, raft.Configuration{Servers: servers}); err != nil {
			return err
		}
	}
	m.Conf = *conf
	m.Raft, err = raft.NewRaft(conf, m.FSM, logs, m.Bolt, m.Snaps, trans)
	return err
}

// OpenFiles opens the member's files and state machine without raft. Stop closes them.
func (m *Member) OpenFiles(c Config) (err error) {
	if err := os.MkdirAll(filepath.Dir(m.StoreDir()), 0o700); err != nil {
		return err
	}
	if m.logFile, err = os.OpenFile(m.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	m.Log = slog.New(slog.NewTextHandler(m.logFile, nil))
	logger := m.raftLogger()
	m.Bolt, err = raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(m.Dir, "raft.db"),
		BoltOptions: &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return err
	}
	if m.Snaps, err = raft.NewFileSnapshotStoreWithLogger(m.Dir, 2, logger); err != nil {
		return err
	}
	m.FSM, err = c.Open(m)
	return err
}

// newConfig returns a configuration with short timeouts, so that an election takes less than a
// second.
func (m *Member) newConfig(c Config) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = m.ID
	conf.HeartbeatTimeout = 300 * time.Millisecond
	conf.ElectionTimeout = 300 * time.Millisecond
	conf.LeaderLeaseTimeout = 200 * time.Millisecond
	conf.CommitTimeout = 5 * time.Millisecond
	conf.NoLegacyTelemetry = true
	conf.Logger = m.raftLogger()
	if c.Tune != nil {
		c.Tune(conf)
	}
	return conf
}

func (m *Member) raftLogger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: m.logFile})
}

// LogPath is the file with the messages of raft and of the state machine.
func (m *Member) LogPath() string { return filepath.Join(m.Dir, "messages.log") }

// Stop stops raft and closes the files. The member can be started again.
func (m *Member) Stop() error {
	var errs []error
	if m.Raft != nil {
		errs = append(errs, m.Raft.Shutdown().Error())
	}
	if closer, ok := m.trans.(raft.WithClose); ok {
		errs = append(errs, closer.Close())
	}
	if m.FSM != nil {
		errs = append(errs, m.FSM.Close())
	}
	if m.Bolt != nil {
		errs = append(errs, m.Bolt.Close())
	}
	if m.logFile != nil {
		errs = append(errs, m.logFile.Close())
	}
	m.Raft, m.FSM, m.Bolt, m.Snaps, m.logFile, m.trans = nil, nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// Running reports whether the member runs.
func (m *Member) Running() bool { return m.Raft != nil }
