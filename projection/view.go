package projection

import (
	"bytes"
	"slices"

	"migrationlog/checkpoint"
)

// View is the state that a history of events has led to. It is not safe for
// concurrent use; rows that it has returned never change.
type View struct {
	rows    map[checkpoint.MigrationID]*Row
	lastSeq uint64
	losses  losses
}

// New returns the view of an empty history.
func New() *View {
	return &View{rows: make(map[checkpoint.MigrationID]*Row)}
}

// Apply folds in the event with that number. PrevSeq is the number that the
// event's frame gives for the migration's event before it. Events are applied
// in the order of their numbers.
func (v *View) Apply(seq, prevSeq uint64, e checkpoint.Event) {
	v.Skip(seq, prevSeq)
	before := v.rows[e.Migration()]
	v.put(e.Migration(), fold(before, seq, prevSeq, e, v.gap(before, prevSeq)))
}

// gap reports whether an event of the migration may have been lost between its
// row and an event whose frame names prevSeq as the one before.
func (v *View) gap(before *Row, prevSeq uint64) bool {
	return prevSeq != 0 && (before == nil || before.Seq != prevSeq || before.Seq < v.losses.newestUnclaimed())
}

// Skip notes an event with that number that changes no row.
func (v *View) Skip(seq, prevSeq uint64) {
	v.lastSeq = seq
	v.losses.claim(prevSeq)
}

// Lose notes that the events from first to last are lost.
func (v *View) Lose(first, last uint64) {
	v.lastSeq = max(v.lastSeq, last)
	v.losses.add(first, last)
}

func (v *View) put(id checkpoint.MigrationID, row *Row) {
	if row == nil {
		delete(v.rows, id)
	} else {
		v.rows[id] = row
	}
}

// Get returns a migration's row.
func (v *View) Get(id checkpoint.MigrationID) (Row, bool) {
	if row := v.rows[id]; row != nil {
		return *row, true
	}
	return Row{}, false
}

// All returns the rows in the order of their migration ids.
func (v *View) All() []Row {
	all := make([]Row, 0, len(v.rows))
	for _, row := range v.rows {
		all = append(all, *row)
	}
	slices.SortFunc(all, func(a, b Row) int { return compareIDs(a.Checkpoint.MigrationID, b.Checkpoint.MigrationID) })
	return all
}

func compareIDs(a, b checkpoint.MigrationID) int { return bytes.Compare(a[:], b[:]) }

// Len is the number of rows.
func (v *View) Len() int { return len(v.rows) }

// LastSeq is the number of the last event that was applied or lost.
func (v *View) LastSeq() uint64 { return v.lastSeq }

// InDoubt returns, in order, the migrations that have a row here but may have
// another or none in truth: an event that was lost after the row's own may have
// been the migration's. It cannot name a migration of which nothing is left.
func (v *View) InDoubt() []checkpoint.MigrationID {
	var ids []checkpoint.MigrationID
	newest := v.losses.newestUnclaimed()
	for id, row := range v.rows {
		if row.Seq < newest {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}
