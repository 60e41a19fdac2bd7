package peer

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"migrationlog/bench/eventgen"
)

var pebblePeer = Peer{
	Name: "pebble", Module: "github.com/cockroachdb/pebble/v2", Keeps: KeepsRows, Open: openPebble,
	Setup: "Sync writes, which it groups; 64 MiB memtable; newest format",
}

type pebbleStore struct {
	db   *pebble.DB
	bulk bool
}

// quiet discards pebble's routine log messages.
type quiet struct{ pebble.Logger }

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

func openPebble(dir string, o Options) (Store, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		MemTableSize: 64 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{pebble.DefaultLogger},
	})
	if err != nil {
		return nil, err
	}
	return &pebbleStore{db, o.Bulk}, nil
}

func (p *pebbleStore) Apply(op *eventgen.Op) error {
	if op.Ends {
		return p.db.Delete(op.ID[:], pebble.Sync)
	}
	return p.db.Set(op.ID[:], op.Value, pebble.Sync)
}

func (p *pebbleStore) ApplyAll(ops []eventgen.Op) error {
	batch := p.db.NewBatch()
	for i := range ops {
		var err error
		if op := &ops[i]; op.Ends {
			err = batch.Delete(op.ID[:], nil)
		} else {
			err = batch.Set(op.ID[:], op.Value, nil)
		}
		if err != nil {
			return err
		}
	}
	return batch.Commit(pebble.NoSync)
}

func (p *pebbleStore) Rows() (map[ID][]byte, error) {
	rows := map[ID][]byte{}
	it, err := p.db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		rows[ID(it.Key())] = bytes.Clone(it.Value())
	}
	return rows, it.Close()
}

func (p *pebbleStore) Load() (any, int, error) { return counted(p.Rows()) }

func (p *pebbleStore) Get(id ID, buf []byte) ([]byte, bool, error) {
	value, closer, err := p.db.Get(id[:])
	if errors.Is(err, pebble.ErrNotFound) {
		return buf, false, nil
	}
	if err != nil {
		return buf, false, err
	}
	return append(buf, value...), true, closer.Close()
}

func (p *pebbleStore) All() (int, error) {
	rows, err := p.Rows()
	return len(rows), err
}

// Close flushes bulk writes, so that they are durable and the next opening has no log to replay.
func (p *pebbleStore) Close() error {
	var err error
	if p.bulk {
		err = p.db.Flush()
	}
	return errors.Join(err, p.db.Close())
}
