package replay

import (
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// Kind is the kind of a record, spelled as NDJSON spells it.
type Kind string

// The kinds of record.
const (
	KindCheckpoint Kind = "checkpoint"
	KindAbort      Kind = "abort"
	KindRemove     Kind = "remove"
	KindUnknown    Kind = "unknown"
	KindDamage     Kind = "damage"
)

// Kinds are all kinds of record.
var Kinds = []Kind{KindCheckpoint, KindAbort, KindRemove, KindUnknown, KindDamage}

// eventKinds are the kinds of records that hold an event.
var eventKinds = map[checkpoint.Kind]Kind{
	checkpoint.KindUpserted: KindCheckpoint,
	checkpoint.KindAborted:  KindAbort,
	checkpoint.KindRemoved:  KindRemove,
}

// Kind is the record's kind.
func (r Record) Kind() Kind {
	switch {
	case r.Event != nil:
		return eventKinds[checkpoint.KindOf(r.Event)]
	case r.Unknown != nil:
		return KindUnknown
	}
	return KindDamage
}

// Query chooses records. The zero value chooses all; what is set must all hold.
// Damage is chosen unless Kinds leaves it out or its numbers are outside
// FromSeq and ToSeq: it may have been any migration's.
type Query struct {
	FromSeq, ToSeq   uint64 // inclusive; ToSeq 0 is no bound
	SinceMS, UntilMS uint64 // the record's wall clock, Unix ms, inclusive; UntilMS 0 is no bound
	Migrations       []checkpoint.MigrationID
	Kinds            []Kind
	Phases           []checkpoint.Phase // checkpoints of these phases
	VShards          []uint32           // of the migration
	Nodes            []uint64           // the migration's source or target
}

// Matcher holds records, in order, against a query. It folds the history as it
// goes, for an abort does not say which vShard it was about.
type Matcher struct {
	q    Query
	view *projection.View
}

// NewMatcher returns a matcher that has seen no record.
func NewMatcher(q Query) *Matcher { return &Matcher{q: q, view: projection.New()} }

// needsRows reports whether the query asks for what only a row tells.
func (q Query) needsRows() bool { return len(q.VShards) > 0 || len(q.Nodes) > 0 }

// excludes reports whether an encoded event is another migration's, and tells nothing that
// the query asks for.
func (q Query) excludes(event []byte) bool {
	if len(q.Migrations) == 0 || q.needsRows() {
		return false
	}
	_, id, ok := checkpoint.Peek(event)
	return ok && !slices.Contains(q.Migrations, id)
}

// firstSeq is where reading has to begin.
func (q Query) firstSeq() uint64 {
	if q.needsRows() {
		return 0
	}
	return q.FromSeq
}

// Match reports whether the query chooses the next record of the history.
func (m *Matcher) Match(r Record) bool {
	if r.Damage != nil {
		return m.matchDamage(r)
	}
	if !m.q.needsRows() {
		return m.matchSelf(r)
	}
	id, _ := r.Migration()
	row, had := m.view.Get(id)
	if r.Unknown != nil {
		m.view.ApplyUnknown(r.Seq, r.PrevSeq, id)
	} else {
		m.view.Apply(r.Seq, r.PrevSeq, r.Event)
	}
	if now, has := m.view.Get(id); has {
		row, had = now, true
	}
	return had && m.matchSelf(r) && m.matchRow(row)
}

func (m *Matcher) matchDamage(r Record) bool {
	d := r.Damage
	outside := d.FirstSeq != 0 && (d.LastSeq < m.q.FromSeq || m.q.ToSeq != 0 && d.FirstSeq > m.q.ToSeq)
	return !outside && allows(m.q.Kinds, KindDamage)
}

func (m *Matcher) matchSelf(r Record) bool {
	if r.Seq < m.q.FromSeq || m.q.ToSeq != 0 && r.Seq > m.q.ToSeq {
		return false
	}
	if ms := r.WallMS(); ms < m.q.SinceMS || m.q.UntilMS != 0 && ms > m.q.UntilMS {
		return false
	}
	id, _ := r.Migration()
	if !allows(m.q.Migrations, id) || !allows(m.q.Kinds, r.Kind()) {
		return false
	}
	upserted, isUpsert := r.Event.(checkpoint.Upserted)
	return len(m.q.Phases) == 0 || isUpsert && slices.Contains(m.q.Phases, upserted.Checkpoint.Phase())
}

func (m *Matcher) matchRow(row projection.Row) bool {
	if !allows(m.q.VShards, row.Checkpoint.Payload.Shard()) {
		return false
	}
	f := row.Facts
	return len(m.q.Nodes) == 0 ||
		f.HasTarget && slices.Contains(m.q.Nodes, f.TargetNode) ||
		f.HasSource && slices.Contains(m.q.Nodes, f.SourceNode)
}

func allows[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }
