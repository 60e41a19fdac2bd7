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
	rowless trie[idKey, *state]      // migrations with a state and no row
	shards  trie[shardKey, struct{}] // the migrations with a row
	lastSeq uint64
	losses  losses
}

// New returns the view of an empty history.
func New() *View { return &View{} }

// nextVersion returns a view of the same history, to which events can be added while this
// one is read. The old view must not be changed afterwards. Both views share the losses, which new
// events do not change.
func (v *View) nextVersion() *View {
	o := &owner{}
	return &View{rows: v.rows.nextVersion(o), rowless: v.rowless.nextVersion(o), shards: v.shards.nextVersion(o), lastSeq: v.lastSeq, losses: v.losses}
}

// Latest is the migration's row without the effect of lost events, nil for none. It must not be
// changed.
func (v *View) Latest(id checkpoint.MigrationID) *Row {
	if s, ok := v.rows.get(idKey(id)); ok {
		return &s.Row
	}
	return nil
}

// Slot is the slot of a migration in a view. It is valid until the view is changed.
type Slot struct {
	view  *View
	id    checkpoint.MigrationID
	state *state // nil for none
}

// Slot returns a migration's place.
func (v *View) Slot(id checkpoint.MigrationID) Slot { return Slot{v, id, v.find(id)} }

// find returns the state of a migration, nil for none.
func (v *View) find(id checkpoint.MigrationID) *state {
	s, ok := v.rows.get(idKey(id))
	if !ok && v.rowless.size > 0 {
		s, _ = v.rowless.get(idKey(id))
	}
	return s
}

// Latest is the row without the effect of lost events, nil for none. It must not be
// changed.
func (s Slot) Latest() *Row {
	if s.state == nil || s.state.status != hasRow {
		return nil
	}
	return &s.state.Row
}

// LastSeq is the number of the last event of the migration's current incarnation, 0 for none.
func (s Slot) LastSeq() uint64 { return s.state.lastSeq() }

// Apply folds in the event with that number. PrevSeq is the number that the
// event's frame gives for the migration's event before it. Events are applied
// in the order of their numbers.
func (v *View) Apply(seq, prevSeq uint64, e checkpoint.Event) {
	v.Slot(e.Migration()).apply(seq, prevSeq, ChangeOf(e))
}

// ApplyUnknown folds in an event of a migration that is of an unknown kind. It leaves the row
// as it is.
func (v *View) ApplyUnknown(seq, prevSeq uint64, id checkpoint.MigrationID) {
	v.Slot(id).apply(seq, prevSeq, UnknownChange(id))
}

func (s Slot) apply(seq, prevSeq uint64, c Change) {
	v := s.view
	v.lastSeq = seq
	v.put(s.state, c.follow(s.state, seq, prevSeq, v.losses.attribute(prevSeq)))
}

// MarkLost records that the events from first to last are lost.
func (v *View) MarkLost(first, last uint64) {
	v.lastSeq = max(v.lastSeq, last)
	v.losses.add(first, last)
}

// put replaces the migration's state before, nil for none, by next.
func (v *View) put(before, next *state) {
	key := idKey(next.Checkpoint.MigrationID)
	hadRow := before != nil && before.status == hasRow
	if hadRow && (next.status != hasRow || next.shard() != before.shard()) {
		v.shards.delete(shardKey{before.shard(), key})
		hadRow = false
	}
	if next.status == hasRow {
		v.rows.set(key, next)
		v.rowless.delete(key)
		if !hadRow {
			v.shards.set(shardKey{next.shard(), key}, struct{}{})
		}
		return
	}
	v.rows.delete(key)
	if next.status == onlyUnknownKinds || v.losses.unresolved() {
		v.rowless.set(key, next)
	} else {
		v.rowless.delete(key)
	}
}

// Get returns a migration's row.
func (v *View) Get(id checkpoint.MigrationID) (Row, bool) {
	if row, ok := v.rows.get(idKey(id)); ok {
		return v.withLosses(row), true
	}
	return Row{}, false
}

// Rows yields the rows in the order of their migration ids.
func (v *View) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, e := range v.sortedRows() {
			if !yield(v.withLosses(e.value)) {
				return
			}
		}
	}
}

func (v *View) sortedRows() []entry[idKey, *state] {
	all := make([]entry[idKey, *state], 0, v.Len())
	for id, row := range v.rows.all() {
		all = append(all, entry[idKey, *state]{id, row})
	}
	slices.SortFunc(all, func(a, b entry[idKey, *state]) int { return bytes.Compare(a.key[:], b.key[:]) })
	return all
}

// RowsByVShard returns the rows of the migrations of one vShard, in the order of their ids.
func (v *View) RowsByVShard(vshardID uint32) []Row {
	var rows []Row
	for at := range v.shards.withHashPrefix(shardHash(vshardID), shardBits) {
		if at.vshardID == vshardID {
			row, _ := v.rows.get(at.id)
			rows = append(rows, v.withLosses(row))
		}
	}
	return sortByID(rows)
}

// Suspect returns the rows that lost events affect, in the order of their migration ids.
func (v *View) Suspect() []Row {
	var rows []Row
	for _, row := range v.rows.all() {
		if v.losses.doubt(row) != None {
			rows = append(rows, v.withLosses(row))
		}
	}
	return sortByID(rows)
}

// sortByID sorts the rows by their migration ids.
func sortByID(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int { return bytes.Compare(a.Checkpoint.MigrationID[:], b.Checkpoint.MigrationID[:]) })
	return rows
}

func (v *View) withLosses(row *state) Row {
	shown := row.Row
	shown.Doubt = v.losses.doubt(row)
	f, inDoubt := &shown.Facts, shown.Doubt == InDoubt // then the lost event may have changed them
	f.TargetUncertain = f.HasTarget && (inDoubt || v.losses.uncertain(row, partTarget))
	f.SourceUncertain = f.HasSource && (inDoubt || v.losses.uncertain(row, partSource))
	return shown
}

// Len is the number of rows.
func (v *View) Len() int { return v.rows.size }

// LastSeq is the number of the last event that was applied or lost.
func (v *View) LastSeq() uint64 { return v.lastSeq }

// Doubt is the effect of the lost events on a migration. If the view does not know the migration,
// it is InDoubt while there is a lost event that cannot be attributed to a migration.
func (v *View) Doubt(id checkpoint.MigrationID) Doubt { return v.losses.doubt(v.find(id)) }

// All returns the rows in the order of their migration ids.
func (v *View) All() []Row { return slices.AppendSeq(make([]Row, 0, v.Len()), v.Rows()) }
