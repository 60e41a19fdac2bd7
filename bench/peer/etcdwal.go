package peer

import (
	"path/filepath"
	"sync"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"migrationlog/bench/eventgen"
)

var etcdWAL = Peer{
	Name: "etcd WAL", Module: "go.etcd.io/etcd/server/v3", Keeps: KeepsHistory, Open: openEtcd(false),
	Setup: "default: 64 MB segments preallocated; one entry for each Save, as it locks",
}

var etcdWALGroup = Peer{
	Name: "etcd WAL, grouped", Module: "go.etcd.io/etcd/server/v3", Keeps: KeepsHistory, Open: openEtcd(true),
	Setup: "as etcd WAL; one Save for all writers that wait, as its Raft loop does",
}

type etcdLog struct {
	*rowMap
	dir    string
	log    *wal.WAL
	next   uint64
	mu     sync.Mutex       // held during a save; unused if grouped
	commit *group[[][]byte] // nil: not grouped
}

func openEtcd(grouped bool) func(string, Options) (Store, error) {
	return func(dir string, _ Options) (Store, error) {
		e := &etcdLog{rowMap: newRowMap(), dir: filepath.Join(dir, "wal"), next: 1}
		if grouped {
			e.commit = newGroup(e.save, func(values [][]byte) [][]byte { return values[:0] })
		}
		var err error
		if !wal.Exist(e.dir) {
			e.log, err = wal.Create(zap.NewNop(), e.dir, nil)
			return e, err
		}
		if e.log, err = wal.Open(zap.NewNop(), e.dir, &walpb.Snapshot{}); err != nil {
			return nil, err
		}
		_, _, entries, err := e.log.ReadAll()
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if err := e.rowMap.apply(entry.Data); err != nil {
				return nil, err
			}
		}
		e.next += uint64(len(entries))
		return e, nil
	}
}

// save writes the values as consecutive entries and syncs them.
func (e *etcdLog) save(values [][]byte) error {
	entries := make([]*raftpb.Entry, len(values))
	term := uint64(1)
	for i, value := range values {
		index := e.next + uint64(i)
		entries[i] = &raftpb.Entry{Term: &term, Index: &index, Data: value}
	}
	e.next += uint64(len(values))
	return e.log.Save(nil, entries)
}

func (e *etcdLog) Apply(op *eventgen.Op) error {
	var err error
	if e.commit != nil {
		err = e.commit.add(func(values [][]byte) [][]byte { return append(values, op.Value) })
	} else {
		e.mu.Lock()
		err = e.save([][]byte{op.Value})
		e.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return e.rowMap.apply(op.Value)
}

func (e *etcdLog) ApplyAll(ops []eventgen.Op) error {
	values := make([][]byte, len(ops))
	for i := range ops {
		values[i] = ops[i].Value
		if err := e.rowMap.apply(ops[i].Value); err != nil {
			return err
		}
	}
	return e.save(values)
}

func (e *etcdLog) History(id ID) (n int, err error) {
	log, err := wal.OpenForRead(zap.NewNop(), e.dir, &walpb.Snapshot{})
	if err != nil {
		return 0, err
	}
	defer log.Close()
	_, _, entries, err := log.ReadAll()
	for i := 0; err == nil && i < len(entries); i++ {
		err = countIf(id, entries[i].Data, &n)
	}
	return n, err
}

func (e *etcdLog) Close() error { return e.log.Close() }
