package peer

import (
	"errors"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"migrationlog/bench/eventgen"
)

var raftWAL = Peer{
	Name: "raft-wal", Module: "github.com/hashicorp/raft-wal", Keeps: KeepsHistory, Open: openRaftWAL,
	Setup: "default: 64 MiB segments preallocated; one log for each StoreLogs, behind a mutex",
}

type raftLog struct {
	*rowMap
	mu   sync.Mutex
	log  *wal.WAL
	meta *metadb.BoltMetaDB // the log's Close leaves it open
	next uint64
}

func openRaftWAL(dir string, _ Options) (Store, error) {
	meta := &metadb.BoltMetaDB{}
	log, err := wal.Open(dir, wal.WithMetaStore(meta))
	if err != nil {
		return nil, err
	}
	r := &raftLog{rowMap: newRowMap(), log: log, meta: meta}
	return r, r.read(r.rowMap.apply)
}

func (r *raftLog) read(see func(value []byte) error) error {
	first, err := r.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := r.log.LastIndex()
	if err != nil {
		return err
	}
	r.next = last + 1
	for index := max(first, 1); index <= last; index++ {
		var entry raft.Log // its Data is the reader's to keep
		if err := r.log.GetLog(index, &entry); err != nil {
			return err
		}
		if err := see(entry.Data); err != nil {
			return err
		}
	}
	return nil
}

func (r *raftLog) Apply(op *eventgen.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.log.StoreLogs([]*raft.Log{{Index: r.next, Term: 1, Data: op.Value}}); err != nil {
		return err
	}
	r.next++
	return r.rowMap.apply(op.Value)
}

func (r *raftLog) ApplyAll(ops []eventgen.Op) error {
	logs := make([]*raft.Log, len(ops))
	for i := range ops {
		logs[i] = &raft.Log{Index: r.next, Term: 1, Data: ops[i].Value}
		r.next++
		if err := r.rowMap.apply(ops[i].Value); err != nil {
			return err
		}
	}
	return r.log.StoreLogs(logs)
}

func (r *raftLog) History(id ID) (n int, err error) {
	err = r.read(func(value []byte) error { return countIf(id, value, &n) })
	return n, err
}

func (r *raftLog) Close() error { return errors.Join(r.log.Close(), r.meta.Close()) }
