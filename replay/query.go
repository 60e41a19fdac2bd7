package replay

import (
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// Kind is the kind of a record, as in NDJSON.
type Kind string

// The kinds of record.
const (
	KindCheckpoint  Kind = "checkpoint"
	KindAbort       Kind = "abort"
	KindRemove      Kind = "remove"
	KindAbortBegun  Kind = "abort_begun"
	KindCompensated Kind = "compensated"
	KindEpochRaised Kind = "epoch_raised"
	KindUnknown     Kind = "unknown"
	KindDamage      Kind = "damage"
)

// Kinds lists all kinds of record.
var Kinds = []Kind{KindCheckpoint, KindAbort, KindRemove, KindAbortBegun, KindCompensated, KindEpochRaised, KindUnknown, KindDamage}

// eventKinds maps the kinds of events to the kinds of their records.
var eventKinds = map[checkpoint.Kind]Kind{
	checkpoint.KindUpserted:    KindCheckpoint,
	checkpoint.KindAborted:     KindAbort,
	checkpoint.KindRemoved:     KindRemove,
	checkpoint.KindAbortBegun:  KindAbortBegun,
	checkpoint.KindCompensated: KindCompensated,
	checkpoint.KindEpochRaised: KindEpochRaised,
}

// Kind returns the record's kind.
func (r Record) Kind() Kind {
	switch {
	case r.Event != nil:
		return eventKinds[checkpoint.KindOf(r.Event)]
	case r.Unknown != nil:
		return KindUnknown
	}
	return KindDamage
}

// Query selects records. A record must meet every condition that is set; the zero value selects all
// records. Damage may have hit any migration. It is therefore selected unless Kinds excludes it or
// its numbers are outside FromSeq and ToSeq.
type Query struct {
	FromSeq, ToSeq   uint64 // inclusive; ToSeq 0 is no bound
	SinceMS, UntilMS uint64 // the record's wall clock, Unix ms, inclusive; UntilMS 0 is no bound
	Migrations       []checkpoint.MigrationID
	Kinds            []Kind
	Phases           []checkpoint.Phase // checkpoints of these phases
	VShards          []uint32           // of the migration
	Nodes            []uint64           // the migration's source or target
}

// Matcher compares records with a query, in order. It also folds the history, because an abort does
// not contain its vShard.
type Matcher struct {
	q    Query
	view *projection.View
}

// NewMatcher returns a matcher at the start of a history.
func NewMatcher(q Query) *Matcher { return &Matcher{q: q, view: projection.New()} }

// needsRows reports whether the query has a condition that only a row can answer.
func (q Query) needsRows() bool { return len(q.VShards) > 0 || len(q.Nodes) > 0 }

// excludes reports whether an encoded event can be skipped, because the query selects only other
// migrations.
func (q Query) excludes(event []byte) bool {
	if len(q.Migrations) == 0 || q.needsRows() {
		return false
	}
	_, id, ok := checkpoint.Peek(event)
	return ok && !slices.Contains(q.Migrations, id)
}

// firstSeq returns the sequence number from which the log must be read.
func (q Query) firstSeq() uint64 {
	if q.needsRows() {
		return 0
	}
	return q.FromSeq
}

// Match reports whether the query selects the record, which must be the next one of the history.
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
