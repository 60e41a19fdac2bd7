package projection

import (
	"bytes"
	"iter"
	"slices"

	"migrationlog/checkpoint"
)

// View is the state of all migrations after a history of events. Several goroutines may read a view
// if none changes it. The rows that it returned never change.
//
// Each event has a sequence number, its seq. It is linked to the migration's previous event by
// prevSeq, the seq of that event. An incarnation is the life of a migration up to an abort or a
// removal. If the id is used again afterwards, a new incarnation begins. The first event of an
// incarnation has prevSeq 0.
type View struct {
	rows    trie[idKey, *state]
	rowless trie[idKey, *state]      // the migrations that have a state but no row, see put
	shards  trie[shardKey, struct{}] // the migrations with a row
	lastSeq uint64
	losses  losses
	epoch   uint64 // the highest of an event
	// epochUnknown is true if the states are from a snapshot that does not have the epoch.
	epochUnknown bool
	forgetEnded  bool // see ForgetEnded
}

// New returns the view of an empty history.
func New() *View { return &View{} }

// ForgetEnded makes the view keep no state of a migration that has ended, also after a loss. Doubt is
// then not valid for a migration without a row. The memory of the view is bounded by its rows.
func (v *View) ForgetEnded() { v.forgetEnded = true }

// ForgetsEnded reports whether ForgetEnded was called. Attribute must then not be called: an ended
// migration to which a lost event is attributed would be in doubt.
func (v *View) ForgetsEnded() bool { return v.forgetEnded }

// nextVersion returns a copy of the view, to which events can be added while others read the old
// view. The old view must not be changed afterwards. Both views share the losses, because new
// events do not change them.
func (v *View) nextVersion() *View {
	o := &owner{}
	next := *v
	next.rows, next.rowless, next.shards = v.rows.nextVersion(o), v.rowless.nextVersion(o), v.shards.nextVersion(o)
	return &next
}

// Latest returns the migration's row without the effect of lost events, or nil if it has no row.
// The caller must not change the row.
func (v *View) Latest(id checkpoint.MigrationID) *Latest {
	if s, ok := v.rows.get(idKey(id)); ok {
		return &s.Latest
	}
	return nil
}

// Slot is the place of one migration in a view, found once and used for several calls. It is valid
// until the view is changed.
type Slot struct {
	view  *View
	id    checkpoint.MigrationID
	state *state // nil if the view does not know the migration
}

// Slot returns the slot of a migration. The view need not know the migration.
func (v *View) Slot(id checkpoint.MigrationID) Slot { return Slot{v, id, v.find(id)} }

// find returns the state of a migration, or nil if the view does not know it.
func (v *View) find(id checkpoint.MigrationID) *state {
	s, ok := v.rows.get(idKey(id))
	if !ok && v.rowless.size > 0 {
		s, _ = v.rowless.get(idKey(id))
	}
	return s
}

// Latest returns the row without the effect of lost events, or nil if the migration has no row. The
// caller must not change the row.
func (s Slot) Latest() *Latest {
	if s.state == nil || s.state.status != hasRow {
		return nil
	}
	return &s.state.Latest
}

// Facts returns the facts of the migration's current incarnation without the effect of lost events.
// An incarnation without a row has facts too.
func (s Slot) Facts() Facts {
	if s.state == nil {
		return Facts{}
	}
	return s.state.exportedFacts()
}

// Abort returns the abort of the migration that is under way, or nil.
func (s Slot) Abort() *AbortProgress {
	if s.state == nil {
		return nil
	}
	return s.state.facts.getRare().abort
}

// LastSeq returns the seq of the last event of the migration's current incarnation, or 0 if it has
// none.
func (s Slot) LastSeq() uint64 { return s.state.lastSeq() }

// LastIndex returns the index of the event with seq LastSeq in the log of a consensus engine. It
// returns 0 if the event has none, or if the migration has no row.
func (s Slot) LastIndex() uint64 {
	if row := s.Latest(); row != nil {
		return row.LastIndex
	}
	return 0
}

// Apply applies the event to the view. seq and prevSeq are those of the event's frame. Events must
// be applied in the order of their seq.
func (v *View) Apply(seq, prevSeq uint64, e checkpoint.Event) {
	v.ApplyChange(seq, prevSeq, ChangeOf(e))
}

// ApplyChange is like Apply, for the change of an event.
func (v *View) ApplyChange(seq, prevSeq uint64, c Change) {
	v.Slot(c.Migration()).apply(seq, prevSeq, c)
}

// ApplyUnknown applies an event of an unknown kind. The migration keeps its row. If the event has
// an epoch, the caller must also call RaiseEpoch.
func (v *View) ApplyUnknown(seq, prevSeq uint64, id checkpoint.MigrationID) {
	v.ApplyChange(seq, prevSeq, UnknownChange(id))
}

// InDoubt reports whether the migration is in doubt.
func (s Slot) InDoubt() bool { return s.view.losses.doubt(s.id, s.state) == InDoubt }

// apply applies an event of the migration in the slot. It returns the slot after the event.
func (s Slot) apply(seq, prevSeq uint64, c Change) Slot {
	v := s.view
	v.lastSeq = seq
	v.RaiseEpoch(c.epoch)
	next := c.follow(s.state, seq, prevSeq, v.losses.attribute(prevSeq))
	v.put(s.state, next)
	return Slot{v, s.id, next}
}

// MarkLost records that the events from first to last are lost.
func (v *View) MarkLost(first, last uint64) {
	v.lastSeq = max(v.lastSeq, last)
	v.losses.add(first, last)
}

// put replaces the migration's state before, or nil, by next. If next has no row, put keeps it only
// if the state is still needed: for the link of the migration's next event, or for Doubt after a
// loss that no snapshot covers.
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
	if next.status == noCheckpoint || v.losses.unresolved() && !v.forgetEnded {
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

// RowSlots yields the slots of the rows in the order of their migration ids. The view must not be
// changed meanwhile.
func (v *View) RowSlots() iter.Seq[Slot] {
	return func(yield func(Slot) bool) {
		for _, e := range v.sortedRows() {
			if !yield(Slot{v, checkpoint.MigrationID(e.key), e.value}) {
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

// RowsByVShard returns the rows of one vShard in the order of their migration ids.
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
		if v.losses.doubt(row.Checkpoint.MigrationID, row) != None {
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

// withLosses returns the row of a state with the effect of the lost events.
func (v *View) withLosses(s *state) Row {
	row := Row{
		Checkpoint: s.Checkpoint, Seq: s.Seq, PrevSeq: s.PrevSeq, LastSeq: s.LastSeq, LastIndex: s.LastIndex,
		Facts: s.exportedFacts(), Doubt: v.losses.doubt(s.Checkpoint.MigrationID, s),
	}
	f, inDoubt := &row.Facts, row.Doubt == InDoubt // the lost event may have changed the facts
	f.TargetUncertain = f.HasTarget && (inDoubt || v.losses.uncertain(s, partTarget))
	f.SourceUncertain = f.HasSource && (inDoubt || v.losses.uncertain(s, partSource))
	if v.losses.possibleIn(s.Checkpoint.MigrationID, s.recordedAt(partIncarnation), f.BeganSeq) {
		f.BeganSeq = 0
	}
	return row
}

// Len returns the number of rows.
func (v *View) Len() int { return v.rows.size }

// Epoch returns the highest epoch of all events, or 0 if no event has an epoch.
func (v *View) Epoch() uint64 { return v.epoch }

// EpochUncertain reports whether a lost event may have had a higher epoch than Epoch returns.
func (v *View) EpochUncertain() bool { return v.epochUnknown || v.HasUnresolvedLosses() }

// RaiseEpoch records that an event has the epoch. Apply does this for the event that it applies.
func (v *View) RaiseEpoch(epoch uint64) { v.epoch = max(v.epoch, epoch) }

// LastSeq returns the seq of the last event that was applied or lost.
func (v *View) LastSeq() uint64 { return v.lastSeq }

// Doubt returns the effect of the lost events on a migration. If the view does not know the
// migration, it is InDoubt as long as a lost event cannot be attributed to any migration, or is
// attributed to this one.
func (v *View) Doubt(id checkpoint.MigrationID) Doubt { return v.losses.doubt(id, v.find(id)) }

// HasUnattributedLosses reports whether a lost event cannot be attributed to a migration, so that any
// migration without a row may be in doubt.
func (v *View) HasUnattributedLosses() bool { return v.losses.newestUnattributed() > 0 }

// Unattributed yields the first and the last seq of each run of lost events that cannot be
// attributed to a migration and that no adopted snapshot covers. The view must not be changed
// meanwhile.
func (v *View) Unattributed() iter.Seq2[uint64, uint64] {
	return func(yield func(first, last uint64) bool) {
		for _, r := range v.losses.unattributed {
			if !yield(r.first, r.last) {
				return
			}
		}
	}
}

// Attribute records that lost event seq belonged to a migration. It may be called after later events
// were applied, but not while others read the view.
func (v *View) Attribute(seq uint64, id checkpoint.MigrationID) { v.losses.assign(seq, id) }

// InDoubtWithoutRow returns the migrations without a row that are in doubt because of a lost event
// that was attributed to them, in the order of their ids. As long as another lost event is not
// attributed, every migration without a row is in doubt.
func (v *View) InDoubtWithoutRow() (ids []checkpoint.MigrationID) {
	attributed := v.losses
	attributed.unattributed = nil
	add := func(id checkpoint.MigrationID, s *state) {
		if attributed.doubt(id, s) == InDoubt {
			ids = append(ids, id)
		}
	}
	for id, s := range v.rowless.all() {
		add(checkpoint.MigrationID(id), s)
	}
	for id := range v.losses.assigned {
		if v.find(id) == nil {
			add(id, nil)
		}
	}
	slices.SortFunc(ids, func(a, b checkpoint.MigrationID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// All returns all rows in the order of their migration ids.
func (v *View) All() []Row { return slices.AppendSeq(make([]Row, 0, v.Len()), v.Rows()) }
