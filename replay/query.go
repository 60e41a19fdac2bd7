package replay

import (
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
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
	KindDigest      Kind = "digest"
	KindRestored    Kind = "restored"
	KindUnknown     Kind = "unknown"
	KindDamage      Kind = "damage"
)

// Kinds lists all kinds of record.
var Kinds = []Kind{KindCheckpoint, KindAbort, KindRemove, KindAbortBegun, KindCompensated, KindEpochRaised, KindDigest, KindRestored, KindUnknown, KindDamage}

// eventKinds maps the kinds of events to the kinds of their records.
var eventKinds = map[checkpoint.Kind]Kind{
	checkpoint.KindUpserted:    KindCheckpoint,
	checkpoint.KindAborted:     KindAbort,
	checkpoint.KindRemoved:     KindRemove,
	checkpoint.KindAbortBegun:  KindAbortBegun,
	checkpoint.KindCompensated: KindCompensated,
	checkpoint.KindEpochRaised: KindEpochRaised,
	checkpoint.KindDigest:      KindDigest,
	checkpoint.KindRestored:    KindRestored,
}

// kindOf returns the kind of the records of an event.
func kindOf(k checkpoint.Kind) Kind {
	if kind, ok := eventKinds[k]; ok {
		return kind
	}
	return KindUnknown
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

// Checkpoint returns the checkpoint of an event that sets the row of its migration: an upserted
// event or a restored row.
func (r Record) Checkpoint() (checkpoint.Checkpoint, bool) {
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		return e.Checkpoint, true
	case checkpoint.Restored:
		return e.Checkpoint, true
	}
	return checkpoint.Checkpoint{}, false
}

// Query selects records. A record must meet every condition that is set; the zero value selects all
// records. Damage can concern any migration. It is therefore selected unless Kinds excludes it or
// its numbers are outside FromSeq and ToSeq.
type Query struct {
	FromSeq, ToSeq   uint64 // inclusive; ToSeq 0 is no bound
	SinceMS, UntilMS uint64 // the record's wall clock, Unix ms, inclusive; UntilMS 0 is no bound
	Migrations       []checkpoint.MigrationID
	Kinds            []Kind
	Phases           []checkpoint.Phase // checkpoints and restored rows of these phases
	VShards          []uint32           // of the migration
	Nodes            []uint64           // the migration's source or target
}

// Matcher compares records with a query, in order. It also folds the history, because an abort does
// not contain its vShard.
type Matcher struct {
	q    Query
	view *projection.View

	partial bool // some records of other migrations are left out
	lost    []SeqRange
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

// isNarrow reports whether the query has a condition that the summary of a segment can answer. A
// query for damage concerns all segments.
func (q Query) isNarrow() bool {
	narrow := q.SinceMS > 0 || q.UntilMS > 0 || len(q.Migrations) > 0 || len(q.Kinds) > 0 || len(q.Phases) > 0 || q.needsRows()
	return narrow && !slices.Contains(q.Kinds, KindDamage)
}

// choose returns the numbers of the frames of a segment that the query may select, if it needs no
// rows. It returns false if the summary is not enough.
func (q Query) choose(s *summary.Summary) (seqs []uint64, ok bool) {
	if !q.mayMatch(s, s.Totals()) {
		return nil, true
	}
	frames, hasFrames := s.Frames()
	migrations, hasMigrations := s.Migrations()
	if !hasFrames || !hasMigrations {
		return nil, false
	}
	chosen, found := make([]bool, migrations.Len()), false
	for i := range chosen {
		chosen[i] = allows(q.Migrations, migrations.ID(i))
		found = found || chosen[i]
	}
	if !found {
		return nil, true
	}
	for i := range frames.Len() {
		seq := s.FirstSeq + uint64(i)
		if m := frames.MigrationAt(seq); m < len(chosen) && !chosen[m] {
			continue
		}
		if f, ok := frames.At(seq); !ok || q.mayMatchFrame(seq, f) {
			seqs = append(seqs, seq)
		}
	}
	return seqs, len(seqs) <= frames.Len()/maxPickedFraction
}

// maxPickedFraction is the fraction of a segment's frames above which the whole segment is read. It
// takes about the same time.
const maxPickedFraction = 4

// includesAny reports whether FromSeq and ToSeq include a number of a segment.
func (q Query) includesAny(head segment.SummaryHead) bool {
	return head.LastSeq >= q.FromSeq && (q.ToSeq == 0 || head.FirstSeq <= q.ToSeq)
}

// mayMatch reports whether a segment may have a record that the query selects.
func (q Query) mayMatch(s *summary.Summary, t summary.Totals) bool {
	if !q.includesAny(s.SummaryHead) || t.LatestMS < q.SinceMS || q.UntilMS != 0 && t.EarliestMS > q.UntilMS {
		return false
	}
	if q.needsRows() && !t.AnyVShard && !t.AnyNode && !intersects(q.VShards, t.VShards) && !intersects(q.Nodes, t.Nodes) {
		return false
	}
	if len(q.Migrations) > 0 && !slices.ContainsFunc(q.Migrations, s.MayContain) {
		return false
	}
	hasPhase := len(q.Phases) == 0
	for phase, n := range t.Phases {
		hasPhase = hasPhase || n > 0 && slices.Contains(q.Phases, checkpoint.Phase(phase))
	}
	hasKind := len(q.Kinds) == 0 || t.Kinds[0] > 0 // this version may know the kind
	for kind, n := range t.Kinds {
		hasKind = hasKind || n > 0 && slices.Contains(q.Kinds, kindOf(checkpoint.Kind(kind)))
	}
	return hasPhase && hasKind
}

// mayHaveRow reports whether a row of the migration may have a selected vShard or a selected node.
// If the query selects both, one of them is enough, because the migration may get the other one
// later.
func (q Query) mayHaveRow(m summary.Migration) bool {
	return m.Partial || m.Several || m.HasVShard && slices.Contains(q.VShards, m.VShardID) ||
		m.HasSource && slices.Contains(q.Nodes, m.SourceNode) || m.HasTarget && slices.Contains(q.Nodes, m.TargetNode)
}

// mayMatchFrame reports whether the query may select the frame.
func (q Query) mayMatchFrame(seq uint64, f summary.Frame) bool {
	return seq >= q.FromSeq && (q.ToSeq == 0 || seq <= q.ToSeq) && f.WallMS >= q.SinceMS && (q.UntilMS == 0 || f.WallMS <= q.UntilMS) &&
		(f.Kind == 0 || allows(q.Kinds, kindOf(f.Kind))) && (len(q.Phases) == 0 || slices.Contains(q.Phases, f.Phase))
}

// intersects reports whether the list has one of the wanted values.
func intersects[T comparable](wanted, list []T) bool {
	return slices.ContainsFunc(wanted, func(v T) bool { return slices.Contains(list, v) })
}

// firstSeq returns the sequence number from which the log must be read.
func (q Query) firstSeq() uint64 {
	if q.needsRows() {
		return 0
	}
	return q.FromSeq
}

// Match reports whether the query selects the record, which must be the next one of the history.
func (m *Matcher) Match(r Record) bool { return m.find(r, false).Selected }

// find returns the record, and the row of its migration if rows is true.
func (m *Matcher) find(r Record, rows bool) Found {
	found := Found{Record: r}
	switch d := r.Damage; {
	case d != nil:
		if found.Selected = m.matchDamage(r); rows && d.Lost() > 0 {
			m.view.MarkLost(d.FirstSeq, d.LastSeq)
		}
		if d.Lost() > 0 {
			m.lost = append(m.lost, SeqRange{First: d.FirstSeq, Last: d.LastSeq})
		}
		return found
	case !rows && !m.q.needsRows():
		found.Selected = m.matchSelf(r)
		return found
	}
	id, _ := r.Migration()
	if last := m.view.Slot(id).LastSeq(); m.partial && last != 0 && last != r.PrevSeq && !m.isLost(r.PrevSeq) {
		m.view.Apply(r.Seq, last, checkpoint.Removed{MigrationID: id}) // its end was left out
	}
	found.Row, found.HasRow = m.view.Get(id)
	if r.Unknown != nil {
		m.view.ApplyUnknown(r.Seq, r.PrevSeq, id)
	} else {
		m.view.Apply(r.Seq, r.PrevSeq, r.Event)
	}
	if now, has := m.view.Get(id); has {
		found.Row, found.HasRow = now, true
	}
	found.Selected = m.matchSelf(r) && (!m.q.needsRows() || found.HasRow && m.matchRow(found.Row))
	return found
}

func (m *Matcher) isLost(seq uint64) bool {
	return slices.ContainsFunc(m.lost, func(r SeqRange) bool { return r.First <= seq && seq <= r.Last })
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
	row, hasRow := r.Checkpoint()
	return len(m.q.Phases) == 0 || hasRow && slices.Contains(m.q.Phases, row.Phase())
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
