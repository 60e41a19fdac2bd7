package peer

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"migrationlog"
	"migrationlog/bench/eventgen"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// This file is also built against an older checkout of this repository (see -old). It uses only API
// that both checkouts have. It does not set the timestamp of an abort or a removal, because that
// option's name differs: the store's clock sets it.

var migrationLog = Peer{
	Name: "migrationlog", Keeps: KeepsHistoryAndRows, Setup: "default; WriteAll with NoSync for bulk", Open: openMigrationLog,
	takesEvents: true,
}

type migrationLogStore struct{ s *migrationlog.Store }

func openMigrationLog(dir string, o Options) (Store, error) {
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: o.Bulk})
	if err != nil {
		return nil, err
	}
	if r := s.Report(); len(r.Lost) > 0 || len(r.Damage) > 0 {
		return nil, fmt.Errorf("%s: lost %v, damaged %v", dir, r.Lost, r.Damage)
	}
	return migrationLogStore{s}, nil
}

func (m migrationLogStore) Apply(op *eventgen.Op) (err error) {
	var receipt migrationlog.Receipt
	switch e := op.Event.(type) {
	case checkpoint.Upserted:
		receipt, err = m.s.Upsert(e.Checkpoint)
	case checkpoint.Aborted:
		receipt, err = m.s.Abort(e.MigrationID, e.Reason, e.Compensations)
	case checkpoint.Removed:
		receipt, err = m.s.Remove(e.MigrationID)
	}
	if err == nil && (receipt.Seq == 0 || receipt.Duplicate) {
		return fmt.Errorf("nothing was written for %v", op.Event)
	}
	return err
}

func (m migrationLogStore) ApplyAll(ops []eventgen.Op) error {
	events := make([]checkpoint.Event, len(ops))
	for i := range ops {
		events[i] = ops[i].Event
	}
	receipts, err := m.s.WriteAll(events)
	for i, receipt := range receipts {
		if receipt.Seq == 0 || receipt.Duplicate {
			return fmt.Errorf("nothing was written for %v", events[i])
		}
	}
	return err
}

// Load returns no map of its own: the store holds the decoded rows in memory.
func (m migrationLogStore) Load() (any, int, error) { return nil, m.s.Len(), nil }

func (m migrationLogStore) Rows() (map[ID][]byte, error) {
	rows := map[ID][]byte{}
	for _, c := range m.s.All() {
		value, err := checkpoint.EncodeEvent(checkpoint.Upserted{Checkpoint: c})
		if err != nil {
			return nil, err
		}
		rows[c.MigrationID] = value
	}
	return rows, nil
}

func (m migrationLogStore) Get(id ID, buf []byte) ([]byte, bool, error) {
	_, ok := m.s.Get(id)
	return buf, ok, nil
}

func (m migrationLogStore) All() (int, error) { return len(m.s.All()), nil }

func (m migrationLogStore) History(id ID) (int, error) { return countHistory(m.s, id) }

// countHistory returns the number of events in a store's history of a migration. It supports both
// forms of Store.History, so that -old can build this file against a checkout in which History returns
// a slice.
func countHistory(store any, id ID) (n int, err error) {
	switch s := store.(type) {
	case interface {
		History(ID) ([]replay.Record, error)
	}:
		records, err := s.History(id)
		return len(records), err
	case interface {
		History(context.Context, ID) iter.Seq2[replay.Record, error]
	}:
		for _, err := range s.History(context.Background(), id) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	return 0, errors.New("this build's Store has no History that the bench can call")
}

func (m migrationLogStore) Close() error { return m.s.Close() }
