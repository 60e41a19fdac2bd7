package peer

import (
	"fmt"

	"migrationlog"
	"migrationlog/bench/eventgen"
	"migrationlog/checkpoint"
)

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
		receipt, err = m.s.Abort(e.MigrationID, e.Reason, e.Compensations, migrationlog.At(e.TimestampMS))
	case checkpoint.Removed:
		receipt, err = m.s.Remove(e.MigrationID, migrationlog.At(e.TimestampMS))
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

func (m migrationLogStore) Load() (int, error) { return m.s.Len(), nil }

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

func (m migrationLogStore) History(id ID) (int, error) {
	records, err := m.s.History(id)
	return len(records), err
}

func (m migrationLogStore) Close() error { return m.s.Close() }
