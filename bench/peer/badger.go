package peer

import (
	"errors"

	"github.com/dgraph-io/badger/v4"

	"migrationlog/bench/eventgen"
)

var badgerPeer = Peer{
	Name: "badger", Module: "github.com/dgraph-io/badger/v4", Keeps: KeepsRows, Open: openBadger,
	Setup: "SyncWrites; no conflict detection, as each migration has one writer; no metrics",
}

type badgerStore struct{ db *badger.DB }

func openBadger(dir string, o Options) (Store, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).
		WithSyncWrites(!o.Bulk).WithDetectConflicts(false).WithMetricsEnabled(false).WithLogger(nil))
	if err != nil {
		return nil, err
	}
	return badgerStore{db}, nil
}

func (b badgerStore) Apply(op *eventgen.Op) error {
	return b.db.Update(func(tx *badger.Txn) error {
		if op.Ends {
			return tx.Delete(op.ID[:])
		}
		return tx.Set(op.ID[:], op.Value)
	})
}

func (b badgerStore) ApplyAll(ops []eventgen.Op) error {
	batch := b.db.NewWriteBatch()
	defer batch.Cancel()
	for i := range ops {
		var err error
		if op := &ops[i]; op.Ends {
			err = batch.Delete(op.ID[:])
		} else {
			err = batch.Set(op.ID[:], op.Value)
		}
		if err != nil {
			return err
		}
	}
	return batch.Flush()
}

func (b badgerStore) Rows() (map[ID][]byte, error) {
	rows := map[ID][]byte{}
	return rows, b.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			rows[ID(it.Item().Key())] = value
		}
		return nil
	})
}

func (b badgerStore) Load() (any, int, error) { return counted(b.Rows()) }

func (b badgerStore) Get(id ID, buf []byte) ([]byte, bool, error) {
	err := b.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get(id[:])
		if err != nil {
			return err
		}
		buf, err = item.ValueCopy(buf)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return buf, false, nil
	}
	return buf, err == nil, err
}

func (b badgerStore) All() (int, error) {
	rows, err := b.Rows()
	return len(rows), err
}

func (b badgerStore) Close() error { return errors.Join(b.db.Sync(), b.db.Close()) }
