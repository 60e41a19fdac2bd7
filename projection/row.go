package projection

import (
	"fmt"

	"migrationlog/checkpoint"
)

// Row is the latest checkpoint of one migration, with the facts from its history.
type Row struct {
	Checkpoint checkpoint.Checkpoint
	Seq        uint64 // seq of the event with this checkpoint
	PrevSeq    uint64 // seq of the migration's previous event; 0 if there is none in this incarnation
	LastSeq    uint64 // seq of the migration's last event of any kind; at least Seq
	LastIndex  uint64 // index of that event in the log of a consensus engine; 0 if it has none
	Facts      Facts
	Doubt      Doubt // the effect of lost events at the time of the read
}

// Latest is the part of a Row that lost events do not affect.
type Latest struct {
	Checkpoint checkpoint.Checkpoint
	Seq        uint64 // as in Row
	PrevSeq    uint64
	LastSeq    uint64
	LastIndex  uint64
}

// state is everything that a view knows about one migration. A state in a view never changes. A new
// event makes a new state.
type state struct {
	Latest
	facts       facts
	recordedSeq [partRow]uint64 // for all parts before partRow, see recordedAt
	gapSince    [partCount]bool
	status      rowStatus
}

// rowStatus says whether a migration has a row, and if it has none, the reason.
type rowStatus uint8

const (
	hasRow rowStatus = iota
	// noCheckpoint: no event of the incarnation has a checkpoint.
	noCheckpoint
	// ended: an abort or a removal ended the incarnation. A view keeps such a state only if events
	// were lost that no snapshot covers, because Doubt needs the state then.
	ended
)

// part identifies a part of a state. For each part the state keeps two values. recordedSeq is the
// seq of the event that recorded the part (Row.Seq for partRow). gapSince is true if a later event
// of the migration is known to be missing. For partIncarnation, recordedSeq is a lower bound of the
// seq with which the incarnation began.
type part int

const (
	partIncarnation part = iota // the whole incarnation
	partTarget                  // TargetNode and SourceGroup
	partSource                  // the other facts
	partRow                     // the latest checkpoint
	partCount
)

// recordedAt returns the seq of the event that recorded the part.
func (s *state) recordedAt(p part) uint64 {
	if p == partRow {
		return s.Seq
	}
	return s.recordedSeq[p]
}

// lastSeq returns the seq of the last event of the migration's current incarnation, or 0 if it has
// none. A nil state belongs to a migration that the view does not know.
func (s *state) lastSeq() uint64 {
	if s == nil || s.status == ended {
		return 0
	}
	return s.LastSeq
}

// equal reports whether two states are the same, also if one of them was restored from a snapshot.
func (s *state) equal(other *state) bool {
	return s.Latest == other.Latest && s.facts.equal(&other.facts) && s.gapSince == other.gapSince
}

func (s *state) shard() uint32 { return s.Checkpoint.Payload.Shard() }

// Change is the effect of an event on its migration. It can be applied only once, because its state
// becomes a part of the view.
type Change struct {
	state  *state
	effect checkpoint.Effect
	abort  checkpoint.Event // the event, if its effect is EffectAbort
	epoch  uint64
	index  uint64
	facts  *checkpoint.RestoredFacts // of a restored event, otherwise nil
}

// UpsertChange returns the change after which c is the latest checkpoint of its migration.
func UpsertChange(c checkpoint.Checkpoint) Change {
	return Change{state: &state{Latest: Latest{Checkpoint: c}}, effect: checkpoint.EffectRow}
}

// EndChange returns the change of an abort or a removal. The migration has no row after it.
func EndChange(id checkpoint.MigrationID) Change {
	return changeWithoutRow(id, ended, checkpoint.EffectEnd)
}

// UnknownChange returns the change of an event of an unknown kind. The migration keeps its row.
func UnknownChange(id checkpoint.MigrationID) Change {
	return changeWithoutRow(id, noCheckpoint, checkpoint.EffectUnknown)
}

func changeWithoutRow(id checkpoint.MigrationID, s rowStatus, e checkpoint.Effect) Change {
	return Change{state: &state{Latest: Latest{Checkpoint: checkpoint.Checkpoint{MigrationID: id}}, status: s}, effect: e}
}

// ChangeOf returns the change of an event.
func ChangeOf(e checkpoint.Event) Change {
	c := changeOf(e)
	c.epoch = checkpoint.EpochOf(e)
	return c
}

func changeOf(e checkpoint.Event) Change {
	switch effect := checkpoint.KindOf(e).Effect(); effect {
	case checkpoint.EffectRow:
		if u, ok := e.(checkpoint.Upserted); ok {
			return UpsertChange(u.Checkpoint)
		}
		r := e.(checkpoint.Restored) // on the heap, so only if it is needed
		c := UpsertChange(r.Checkpoint)
		c.facts = &r.Facts
		return c
	case checkpoint.EffectEnd:
		return EndChange(e.Migration())
	case checkpoint.EffectAbort:
		c := changeWithoutRow(e.Migration(), noCheckpoint, effect)
		c.abort = e
		return c
	case checkpoint.EffectNone:
		return changeWithoutRow(e.Migration(), noCheckpoint, effect)
	}
	panic(fmt.Sprintf("projection: event type %T has no case in changeOf", e)) // a test applies an event of each kind
}

// Migration returns the id of the migration that changes.
func (c Change) Migration() checkpoint.MigrationID { return c.state.Checkpoint.MigrationID }

// RaiseEpoch records that the event has the epoch.
func (c *Change) RaiseEpoch(epoch uint64) { c.epoch = max(c.epoch, epoch) }

// SetIndex sets the index of the event in the log of a consensus engine.
func (c *Change) SetIndex(index uint64) { c.index = index }

// Effect returns the effect of the event on the row.
func (c Change) Effect() checkpoint.Effect { return c.effect }

// Checkpoint returns the new latest checkpoint. It returns nil if the event has none. The caller
// must not change the checkpoint.
func (c Change) Checkpoint() *checkpoint.Checkpoint {
	if c.effect != checkpoint.EffectRow {
		return nil
	}
	return &c.state.Checkpoint
}

// follow completes the change's state for event seq, and returns it. before is the migration's
// previous state, or nil. prevSeq is the link of the event. prevLost is true if event prevSeq is
// lost.
//
// If prevSeq is above the last event of before, an event of the migration is missing. If prevSeq is
// below it, nothing is missing. At the time of the write, the writer could not read the events in
// between, but they are readable now. After an end, any prevSeq above 0 counts as a gap, because
// the incarnation in before has ended.
func (c Change) follow(before *state, seq, prevSeq uint64, prevLost bool) *state {
	s, lastKnown := c.state, before.lastSeq()
	continues := lastKnown > 0 && (prevSeq > 0 || c.keepsRow())
	switch {
	case !continues:
		s.begin(seq, prevSeq, lastKnown)
	case c.keepsRow():
		*s = *before
	default:
		s.facts, s.recordedSeq, s.gapSince = before.facts, before.recordedSeq, before.gapSince
		if before.status == hasRow && c.effect == checkpoint.EffectRow {
			s.facts.keepAttempt(&before.Checkpoint, &s.Checkpoint)
		}
	}
	if prevLost || prevSeq > lastKnown { //mutant:link-broken
		s.gapSince = [partCount]bool{true, true, true, true}
	}
	s.LastSeq, s.LastIndex = seq, c.index
	switch c.effect {
	case checkpoint.EffectRow:
		s.Seq, s.PrevSeq, s.gapSince[partRow] = seq, prevSeq, false
		if c.facts != nil {
			s.restore(seq, c.facts)
		} else {
			s.record(seq)
		}
	case checkpoint.EffectEnd:
		s.facts = facts{}
	case checkpoint.EffectAbort:
		s.facts.recordAbort(seq, c.abort)
	case checkpoint.EffectUnknown:
		s.facts.changeRare().unknownSeq = seq
	}
	return s
}

// keepsRow reports whether the row of the migration stays.
func (c Change) keepsRow() bool {
	return c.effect != checkpoint.EffectRow && c.effect != checkpoint.EffectEnd
}

// begin records that event seq begins an incarnation. lastKnown is the migration's last event, or
// 0. An AddLearner without an event before it records all facts, so earlier events do not matter.
func (s *state) begin(seq, prevSeq, lastKnown uint64) {
	s.recordedSeq[partIncarnation] = lastKnown
	if lastKnown == 0 && s.status == hasRow && s.Checkpoint.Phase() == checkpoint.PhaseAddLearner {
		s.recordedSeq[partIncarnation] = seq
	}
	if prevSeq == 0 {
		s.facts.beganSeq = seq
	}
}

// record stores the facts of the checkpoint in event seq. The phases after CatchUp record the
// target again, as the promoted voter or the new leader.
func (s *state) record(seq uint64) {
	f := &s.facts
	f.recordPhase(s.Checkpoint.Phase())
	if p, ok := s.Checkpoint.Payload.(checkpoint.AddLearner); ok {
		f.sourceNode, f.writePauseBudgetUS, f.hasSource = p.SourceNode, p.WritePauseBudgetUS, true
		f.setStartedAtHLC(p.StartedAtHLC)
		s.recordedSeq[partSource], s.gapSince[partSource] = seq, false
	}
	if node, group, ok := checkpoint.TargetOf(s.Checkpoint.Payload); ok {
		s.recordTarget(seq, node, group)
	}
}

func (s *state) recordTarget(seq, node, group uint64) {
	s.facts.recordTarget(node, group)
	s.recordedSeq[partTarget], s.gapSince[partTarget] = seq, false
}
