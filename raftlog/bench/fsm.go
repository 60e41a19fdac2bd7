package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"migrationlog/checkpoint"
	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
)

// backend is one kind of state machine.
type backend struct {
	name string
	note string
	open func(m *cluster.Member) (cluster.FSM, error)
	// configure is called before raft starts.
	configure func(conf *raft.Config, snaps raft.SnapshotStore, fsm cluster.FSM) error
	// encode returns the raft entry of a checkpoint.
	encode func(c checkpoint.Checkpoint) ([]byte, error)
	// propose proposes a checkpoint on the leader, and waits until it is applied.
	propose func(m *cluster.Member) func(c checkpoint.Checkpoint) error
}

var backends = []backend{
	raftlogBackend("raftlog", "syncs each batch", raftlog.Options{}),
	raftlogBackend("raftlog, relaxed sync", "syncs at intervals", raftlog.Options{RelaxedSync: true}),
	{
		name: "bbolt", note: "one transaction per batch, synced; the latest rows only",
		open:      func(m *cluster.Member) (cluster.FSM, error) { return openTable(m.StoreDir()) },
		configure: keepState,
		encode:    encodeEvent,
		propose:   proposeEvent,
	},
	{
		name: "raft alone", note: "a state machine that does nothing",
		open:      func(*cluster.Member) (cluster.FSM, error) { return nothing{}, nil },
		configure: keepState,
		encode:    encodeEvent,
		propose:   proposeEvent,
	},
}

func raftlogBackend(name, note string, opts raftlog.Options) backend {
	return backend{
		name: name, note: note,
		open: func(m *cluster.Member) (cluster.FSM, error) {
			return raftlog.Open(m.StoreDir(), &opts)
		},
		configure: func(conf *raft.Config, snaps raft.SnapshotStore, fsm cluster.FSM) error {
			return raftlog.Configure(conf, snaps, fsm.(*raftlog.FSM))
		},
		encode: func(c checkpoint.Checkpoint) ([]byte, error) {
			return raftlog.EncodeEntry(checkpoint.Upserted{Checkpoint: c})
		},
		propose: func(m *cluster.Member) func(checkpoint.Checkpoint) error {
			p := raftlog.NewProposer(m.Raft, m.FSM.(*raftlog.FSM), nil)
			return func(c checkpoint.Checkpoint) error {
				_, err := p.Upsert(context.Background(), c)
				return err
			}
		},
	}
}

// keepState starts raft with the state that the state machine has kept. In the measurement it has
// always applied the newest snapshot.
func keepState(conf *raft.Config, _ raft.SnapshotStore, _ cluster.FSM) error {
	conf.NoSnapshotRestoreOnStart = true
	return nil
}

func encodeEvent(c checkpoint.Checkpoint) ([]byte, error) { return checkpoint.AppendUpserted(nil, &c) }

func proposeEvent(m *cluster.Member) func(checkpoint.Checkpoint) error {
	return func(c checkpoint.Checkpoint) error {
		b, err := encodeEvent(c)
		if err != nil {
			return err
		}
		f := m.Raft.Apply(b, 10*time.Second)
		if err := f.Error(); err != nil {
			return err
		}
		if err, ok := f.Response().(error); ok {
			return err
		}
		return nil
	}
}

// nothing is a state machine that does nothing.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                           { return nil }
func (nothing) ApplyBatch(logs []*raft.Log) []any             { return make([]any, len(logs)) }
func (nothing) Snapshot() (raft.FSMSnapshot, error)           { return nil, errors.ErrUnsupported }
func (nothing) Restore(io.ReadCloser) error                   { return nil }
func (nothing) StoreConfiguration(uint64, raft.Configuration) {}
func (nothing) Close() error                                  { return nil }

// table is a state machine that keeps the latest row of each migration in bbolt, and the applied
// index beside them.
type table struct{ db *bbolt.DB }

var (
	rowsBucket = []byte("rows")
	metaBucket = []byte("meta")
	appliedKey = []byte("applied")
)

func openTable(dir string) (*table, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "rows.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	return &table{db}, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(rowsBucket)
		if err == nil {
			_, err = tx.CreateBucketIfNotExists(metaBucket)
		}
		return err
	})
}

func (s *table) Apply(l *raft.Log) any { return s.ApplyBatch([]*raft.Log{l})[0] }

func (s *table) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	err := s.db.Update(func(tx *bbolt.Tx) error {
		rows, meta := tx.Bucket(rowsBucket), tx.Bucket(metaBucket)
		if at := meta.Get(appliedKey); at != nil && binary.BigEndian.Uint64(at) >= logs[len(logs)-1].Index {
			return nil
		}
		for i, l := range logs {
			if l.Type != raft.LogCommand {
				continue
			}
			_, id, ok := checkpoint.Peek(l.Data)
			if !ok {
				responses[i] = fmt.Errorf("entry %d is not an event", l.Index)
				continue
			}
			if err := rows.Put(id[:], l.Data); err != nil {
				return err
			}
		}
		return meta.Put(appliedKey, binary.BigEndian.AppendUint64(nil, logs[len(logs)-1].Index))
	})
	if err != nil {
		panic(err)
	}
	return responses
}

func (s *table) StoreConfiguration(uint64, raft.Configuration) {}
func (s *table) Close() error                                  { return s.db.Close() }
func (s *table) Restore(io.ReadCloser) error                   { return errors.ErrUnsupported }

func (s *table) Snapshot() (raft.FSMSnapshot, error) {
	tx, err := s.db.Begin(false)
	return tableSnapshot{tx}, err
}

type tableSnapshot struct{ tx *bbolt.Tx }

func (s tableSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := s.tx.WriteTo(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s tableSnapshot) Release() { s.tx.Rollback() }
