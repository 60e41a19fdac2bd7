package projection

import (
	"bytes"
	"iter"
	"slices"

	"migrationlog/checkpoint"
)

// View is the state that a history of events has led to. It may be read by any
// number of goroutines as long as nobody changes it; rows that it has returned never
// change.
type View struct {
	rows    trie[idKey, *state]
	ended   trie[idKey, *state]      // how those ended that did so after a loss
	shards  trie[shardKey, struct{}] // the migrations with a row
	lastSeq uint64
	losses  losses
}

// New returns the view of an empty history.
func New() *View { return &View{} }

// begin returns a view of the same history, to which events can be added while this
// one is read. From then on this one must not change: nor does what is known of lost
// events, which both have, as new events claim none of them.
func (v *View) begin() *View {
	o := &owner{}
	return &View{rows: v.rows.begin(o), ended: v.ended.begin(o), shards: v.shards.begin(o), lastSeq: v.lastSeq, losses: v.losses}
}

// Place is where a migration's row is in a view, or would be. It is good until the view
// is changed.
type Place struct {
	view *View
	id   checkpoint.MigrationID
	row  *state // nil for none
}

// Place returns a migration's place.
func (v *View) Place(id checkpoint.MigrationID) Place {
	row, _ := v.rows.get(idKey(id))
	return Place{v, id, row}
}

// Latest is the row without what lost events mean for it, nil for none. It must not be
// changed.
func (p Place) Latest() *Row {
	if p.row == nil {
		return nil
	}
	return &p.row.Row
}

// LastSeq is the number of the migration's last event, 0 for one without a row.
func (p Place) LastSeq() uint64 {
	if p.row == nil {
		return 0
	}
	return p.row.last
}

// Apply folds in the event with that number. PrevSeq is the number that the
// event's frame gives for the migration's event before it. Events are applied
// in the order of their numbers.
func (v *View) Apply(seq, prevSeq uint64, e checkpoint.Event) {
	v.Place(e.Migration()).apply(seq, prevSeq, ChangeOf(e).state)
}

func (p Place) apply(seq, prevSeq uint64, row *state) {
	v, before := p.view, p.row
	v.lastSeq = seq
	v.losses.claim(prevSeq)
	gap := prevSeq != 0 && (before == nil || before.last != prevSeq || before.last < v.losses.newestUnclaimed())
	row.follow(before, seq, prevSeq, gap)
	row.holes = v.losses.holesAfter(before, seq, prevSeq, row.begins())
	v.put(p.id, before, row)
}

// Sequenced is a checkpoint and its place in the history.
type Sequenced struct {
	Seq, PrevSeq uint64
	Checkpoint   checkpoint.Checkpoint
}

// Put makes a migration's row what its history of these checkpoints, oldest first, has led
// to. They follow without a gap on the row that there is, or else begin with the
// first of a life or with an AddLearner, which tells all that an earlier phase does.
func (v *View) Put(history []Sequenced) {
	latest := history[len(history)-1]
	row := &state{last: latest.Seq, Row: Row{Checkpoint: latest.Checkpoint, Seq: latest.Seq, PrevSeq: latest.PrevSeq}}
	before := v.Place(latest.Checkpoint.MigrationID).row
	if before != nil && history[0].PrevSeq != 0 {
		row.Facts = before.Facts
	}
	for _, s := range history {
		row.Facts = row.Facts.after(s.Checkpoint.Payload)
	}
	v.put(latest.Checkpoint.MigrationID, before, row)
}

// Through notes that the history goes on to that number.
func (v *View) Through(seq uint64) { v.lastSeq = seq }

// End takes away a migration's row, if there is one.
func (v *View) End(id checkpoint.MigrationID) {
	v.put(id, v.Place(id).row, Ends(id).state)
}

// Pass notes an event of a migration that is of a kind that is not known. It leaves
// the row as it is.
func (v *View) Pass(seq, prevSeq uint64, id checkpoint.MigrationID) {
	v.lastSeq = seq
	before := v.Place(id).row
	if before == nil {
		return
	}
	v.losses.claim(prevSeq)
	row := *before
	row.holes = v.losses.holesAfter(before, seq, prevSeq, false)
	row.shaken = row.shaken || prevSeq != row.last
	row.last = seq
	v.rows.set(idKey(id), &row)
}

// Lose notes that the events from first to last are lost.
func (v *View) Lose(first, last uint64) {
	v.lastSeq = max(v.lastSeq, last)
	v.losses.add(first, last)
}

// put makes a row the migration's in the place of the one before, nil for none.
func (v *View) put(id checkpoint.MigrationID, before, row *state) {
	key := idKey(id)
	if before != nil && (row.ended || row.shard() != before.shard()) {
		v.shards.delete(shardKey{before.shard(), key})
		before = nil
	}
	if row.ended {
		v.rows.delete(key)
		if v.losses.any() {
			v.ended.set(key, row)
		}
		return
	}
	v.rows.set(key, row)
	v.ended.delete(key)
	if before == nil {
		v.shards.set(shardKey{row.shard(), key}, struct{}{})
	}
}

// Get returns a migration's row.
func (v *View) Get(id checkpoint.MigrationID) (Row, bool) {
	if row, ok := v.rows.get(idKey(id)); ok {
		return v.shown(row), true
	}
	return Row{}, false
}

// Rows yields the rows in the order of their migration ids.
func (v *View) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, e := range v.ordered() {
			if !yield(v.shown(e.value)) {
				return
			}
		}
	}
}

func (v *View) ordered() []entry[idKey, *state] {
	all := make([]entry[idKey, *state], 0, v.Len())
	for id, row := range v.rows.all() {
		all = append(all, entry[idKey, *state]{id, row})
	}
	slices.SortFunc(all, func(a, b entry[idKey, *state]) int { return bytes.Compare(a.key[:], b.key[:]) })
	return all
}

// VShard returns the rows of the migrations of one vShard, in the order of their ids.
func (v *View) VShard(vshardID uint32) []Row {
	var rows []Row
	for at := range v.shards.within(shardHash(vshardID), shardBits) {
		if at.vshardID == vshardID {
			row, _ := v.rows.get(at.id)
			rows = append(rows, v.shown(row))
		}
	}
	return inOrder(rows)
}

// Doubtful returns the rows that lost events mean something for, in the order of their
// migration ids.
func (v *View) Doubtful() []Row {
	var rows []Row
	for _, row := range v.rows.all() {
		if v.losses.doubt(row) != Untouched {
			rows = append(rows, v.shown(row))
		}
	}
	return inOrder(rows)
}

// inOrder sorts the rows by their migration ids.
func inOrder(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int { return bytes.Compare(a.Checkpoint.MigrationID[:], b.Checkpoint.MigrationID[:]) })
	return rows
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
func (v *View) Len() int { return v.rows.size }

// LastSeq is the number of the last event that was applied or lost.
func (v *View) LastSeq() uint64 { return v.lastSeq }

// Doubt is what the lost events mean for a migration. One of which the view knows
// nothing is in doubt as long as there is a lost event of which nobody knows whose
// it was.
func (v *View) Doubt(id checkpoint.MigrationID) Doubt {
	row, ok := v.rows.get(idKey(id))
	if !ok {
		row, _ = v.ended.get(idKey(id))
	}
	return v.losses.doubt(row)
}

// All returns the rows in the order of their migration ids.
func (v *View) All() []Row { return slices.AppendSeq(make([]Row, 0, v.Len()), v.Rows()) }
