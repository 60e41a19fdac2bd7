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

// Kind is the record's kind.
func (r Record) Kind() Kind {
	switch r.Event.(type) {
	case checkpoint.Upserted:
		return KindCheckpoint
	case checkpoint.Aborted:
		return KindAbort
	case checkpoint.Removed:
		return KindRemove
	}
	if r.Unknown != nil {
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

// matcher holds records against a query. It folds the history as it goes, for
// an abort does not say which vShard it was about.
type matcher struct {
	q    Query
	view *projection.View
}

func newMatcher(q Query) *matcher { return &matcher{q: q, view: projection.New()} }

// firstSeq is where reading has to begin.
func (m *matcher) firstSeq() uint64 {
	if len(m.q.VShards) > 0 || len(m.q.Nodes) > 0 {
		return 0
	}
	return m.q.FromSeq
}

func (m *matcher) match(r Record) bool {
	if r.Damage != nil {
		return m.matchDamage(r)
	}
	ok := m.matchSelf(r)
	if len(m.q.VShards) == 0 && len(m.q.Nodes) == 0 || r.Event == nil {
		return ok && len(m.q.VShards) == 0 && len(m.q.Nodes) == 0
	}
	row, had := m.view.Get(r.Event.Migration())
	m.view.Apply(r.Seq, r.PrevSeq, r.Event)
	if now, has := m.view.Get(r.Event.Migration()); has {
		row, had = now, true
	}
	return ok && had && m.matchRow(row)
}

func (m *matcher) matchDamage(r Record) bool {
	d := r.Damage
	outside := d.FirstSeq != 0 && (d.LastSeq < m.q.FromSeq || m.q.ToSeq != 0 && d.FirstSeq > m.q.ToSeq)
	return !outside && allows(m.q.Kinds, KindDamage)
}

func (m *matcher) matchSelf(r Record) bool {
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

func (m *matcher) matchRow(row projection.Row) bool {
	if !allows(m.q.VShards, row.Checkpoint.Payload.Shard()) {
		return false
	}
	f := row.Facts
	return len(m.q.Nodes) == 0 ||
		f.HasTarget && slices.Contains(m.q.Nodes, f.TargetNode) ||
		f.HasSource && slices.Contains(m.q.Nodes, f.SourceNode)
}

func allows[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }
