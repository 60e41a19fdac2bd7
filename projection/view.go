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
	v.put(e.Migration(), v.fold(v.rows[e.Migration()], seq, prevSeq, e))
}

// fold returns what an event makes of a migration's row.
func (v *View) fold(before *Row, seq, prevSeq uint64, e checkpoint.Event) *Row {
	gap := prevSeq != 0 && (before == nil || before.Seq != prevSeq || before.Seq < v.losses.newestUnclaimed())
	row := fold(before, seq, prevSeq, e, gap)
	if row != nil {
		row.holes = v.losses.holesAfter(before, row)
	}
	return row
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
		return v.shown(row), true
	}
	return Row{}, false
}

// All returns the rows in the order of their migration ids.
func (v *View) All() []Row {
	all := make([]Row, 0, len(v.rows))
	for _, row := range v.rows {
		all = append(all, v.shown(row))
	}
	slices.SortFunc(all, func(a, b Row) int {
		return bytes.Compare(a.Checkpoint.MigrationID[:], b.Checkpoint.MigrationID[:])
	})
	return all
}

func (v *View) shown(row *Row) Row {
	shown := *row
	shown.Doubt = v.losses.doubt(row)
	return shown
}

// Len is the number of rows.
func (v *View) Len() int { return len(v.rows) }

// LastSeq is the number of the last event that was applied or lost.
func (v *View) LastSeq() uint64 { return v.lastSeq }

// Doubt is what the lost events mean for a migration. One that has no row is in
// doubt as long as there is a lost event of which nobody knows whose it was.
func (v *View) Doubt(id checkpoint.MigrationID) Doubt { return v.losses.doubt(v.rows[id]) }
