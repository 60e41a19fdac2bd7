package peer

import (
	"path/filepath"
	"sync"

	"github.com/tidwall/wal"

	"migrationlog/bench/eventgen"
)

var tidwallWAL = Peer{
	Name: "tidwall/wal", Module: "github.com/tidwall/wal", Keeps: KeepsHistory, Open: openTidwall,
	Setup: "default: an fsync for each Write, behind a mutex; NoCopy",
}

type tidwallLog struct {
	*rowMap
	mu   sync.Mutex
	log  *wal.Log
	next uint64
}

func openTidwall(dir string, o Options) (Store, error) {
	opts := *wal.DefaultOptions
	opts.NoSync, opts.NoCopy = o.Bulk, true // each entry that is read is copied once, below
	log, err := wal.Open(filepath.Join(dir, "wal"), &opts)
	if err != nil {
		return nil, err
	}
	t := &tidwallLog{rowMap: newRowMap(), log: log}
	if err := t.read(func(value []byte) error { return t.rowMap.apply(append([]byte(nil), value...)) }); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *tidwallLog) read(see func(value []byte) error) error {
	first, err := t.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := t.log.LastIndex()
	if err != nil {
		return err
	}
	t.next = last + 1
	for index := max(first, 1); index <= last; index++ {
		value, err := t.log.Read(index)
		if err != nil {
			return err
		}
		if err := see(value); err != nil {
			return err
		}
	}
	return nil
}

func (t *tidwallLog) Apply(op *eventgen.Op) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.log.Write(t.next, op.Value); err != nil {
		return err
	}
	t.next++
	return t.rowMap.apply(op.Value)
}

func (t *tidwallLog) ApplyAll(ops []eventgen.Op) error {
	var batch wal.Batch
	for i := range ops {
		batch.Write(t.next, ops[i].Value)
		t.next++
		if err := t.rowMap.apply(ops[i].Value); err != nil {
			return err
		}
	}
	return t.log.WriteBatch(&batch)
}

func (t *tidwallLog) History(id ID) (n int, err error) {
	err = t.read(func(value []byte) error { return countIf(id, value, &n) })
	return n, err
}

func (t *tidwallLog) Close() error {
	if err := t.log.Sync(); err != nil {
		return err
	}
	return t.log.Close()
}
