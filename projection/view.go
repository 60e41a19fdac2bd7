package projection

import (
	"bytes"
	"slices"

	"migrationlog/checkpoint"
)

// View is the state that a history of events has led to. It is not safe for
// concurrent use; rows that it has returned never change.
type View struct {
	rows    map[checkpoint.MigrationID]*state
	ended   map[checkpoint.MigrationID]*state // how those ended that did so after a loss
	lastSeq uint64
	losses  losses
}

// New returns the view of an empty history.
func New() *View {
	return &View{rows: make(map[checkpoint.MigrationID]*state), ended: make(map[checkpoint.MigrationID]*state)}
}

// Apply folds in the event with that number. PrevSeq is the number that the
// event's frame gives for the migration's event before it. Events are applied
// in the order of their numbers.
func (v *View) Apply(seq, prevSeq uint64, e checkpoint.Event) {
	v.lastSeq = seq
	v.losses.claim(prevSeq)
	v.put(e.Migration(), v.fold(v.rows[e.Migration()], seq, prevSeq, e))
}

// fold returns what an event makes of a migration's row.
func (v *View) fold(before *state, seq, prevSeq uint64, e checkpoint.Event) *state {
	gap := prevSeq != 0 && (before == nil || before.last != prevSeq || before.last < v.losses.newestUnclaimed())
	row := fold(before, seq, prevSeq, e, gap)
	row.holes = v.losses.holesAfter(before, seq, prevSeq, e)
	return row
}

// Pass notes an event of a migration that is of a kind that is not known. It leaves
// the row as it is.
func (v *View) Pass(seq, prevSeq uint64, id checkpoint.MigrationID) {
	v.lastSeq = seq
	before := v.rows[id]
	if before == nil {
		return
	}
	v.losses.claim(prevSeq)
	row := *before
	row.holes = v.losses.holesAfter(before, seq, prevSeq, nil)
	row.shaken = row.shaken || prevSeq != row.last
	row.last = seq
	v.rows[id] = &row
}

// Lose notes that the events from first to last are lost.
func (v *View) Lose(first, last uint64) {
	v.lastSeq = max(v.lastSeq, last)
	v.losses.add(first, last)
}

func (v *View) put(id checkpoint.MigrationID, row *state) {
	if !row.ended {
		v.rows[id] = row
		delete(v.ended, id)
		return
	}
	delete(v.rows, id)
	if v.losses.any() {
		v.ended[id] = row
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

func (v *View) shown(row *state) Row {
	shown := row.Row
	shown.Doubt = v.losses.doubt(row)
	if shown.Doubt == InDoubt { // the lost event may have told them anew
		shown.Facts.TargetUncertain, shown.Facts.SourceUncertain = shown.Facts.HasTarget, shown.Facts.HasSource
	}
	return shown
}

// Len is the number of rows.
func (v *View) Len() int { return len(v.rows) }

// LastSeq is the number of the last event that was applied or lost.
func (v *View) LastSeq() uint64 { return v.lastSeq }

// Doubt is what the lost events mean for a migration. One of which the view knows
// nothing is in doubt as long as there is a lost event of which nobody knows whose
// it was.
func (v *View) Doubt(id checkpoint.MigrationID) Doubt {
	row := v.rows[id]
	if row == nil {
		row = v.ended[id]
	}
	return v.losses.doubt(row)
}
