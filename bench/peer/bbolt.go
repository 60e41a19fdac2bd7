package peer

import (
	"bytes"
	"errors"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"migrationlog/bench/eventgen"
)

var bboltUpdate = Peer{
	Name: "bbolt Update", Module: "go.etcd.io/bbolt", Keeps: KeepsRows, Open: openBbolt(false),
	Setup: "freelist as a map and not synced; a transaction for each write",
}

var bboltBatch = Peer{
	Name: "bbolt Batch", Module: "go.etcd.io/bbolt", Keeps: KeepsRows, Open: openBbolt(true),
	Setup: "as bbolt Update; MaxBatchSize is the number of writers, MaxBatchDelay 1 ms",
}

var bboltRows = []byte("rows")

type bboltStore struct {
	db    *bbolt.DB
	write func(func(*bbolt.Tx) error) error
}

func openBbolt(batch bool) func(string, Options) (Store, error) {
	return func(dir string, o Options) (Store, error) {
		db, err := bbolt.Open(filepath.Join(dir, "rows.db"), 0o600, &bbolt.Options{
			FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, NoSync: o.Bulk,
		})
		if err != nil {
			return nil, err
		}
		s := &bboltStore{db: db, write: db.Update}
		if batch {
			// A batch is begun when it is full or old: with all writers in it there is no
			// reason to wait on.
			db.MaxBatchSize, db.MaxBatchDelay = max(1, o.Writers), time.Millisecond
			s.write = db.Batch
		}
		return s, db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(bboltRows)
			return err
		})
	}
}

func bboltPut(tx *bbolt.Tx, op *eventgen.Op) error {
	if op.Ends {
		return tx.Bucket(bboltRows).Delete(op.ID[:])
	}
	return tx.Bucket(bboltRows).Put(op.ID[:], op.Value)
}

func (b *bboltStore) Apply(op *eventgen.Op) error {
	return b.write(func(tx *bbolt.Tx) error { return bboltPut(tx, op) })
}

func (b *bboltStore) ApplyAll(ops []eventgen.Op) error {
	return b.db.Update(func(tx *bbolt.Tx) (err error) {
		for i := 0; err == nil && i < len(ops); i++ {
			err = bboltPut(tx, &ops[i])
		}
		return err
	})
}

func (b *bboltStore) Rows() (map[ID][]byte, error) {
	rows := map[ID][]byte{}
	return rows, b.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bboltRows).ForEach(func(k, v []byte) error {
			rows[ID(k)] = bytes.Clone(v)
			return nil
		})
	})
}

func (b *bboltStore) Load() (any, int, error) { return counted(b.Rows()) }

func (b *bboltStore) Get(id ID, buf []byte) ([]byte, bool, error) {
	err := b.db.View(func(tx *bbolt.Tx) error {
		buf = append(buf, tx.Bucket(bboltRows).Get(id[:])...)
		return nil
	})
	return buf, len(buf) > 0, err
}

func (b *bboltStore) All() (int, error) {
	rows, err := b.Rows()
	return len(rows), err
}

func (b *bboltStore) Close() error { return errors.Join(b.db.Sync(), b.db.Close()) }
