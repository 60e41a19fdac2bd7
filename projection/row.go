package projection

import (
	"fmt"

	"migrationlog/checkpoint"
)

// Row is the latest checkpoint of one migration, with the facts from its history.
type Row struct {
	Checkpoint checkpoint.Checkpoint
	Seq        uint64 // of the event that made this the latest checkpoint
	PrevSeq    uint64 // of the migration's event before that; 0 if it was the first of its incarnation
	Facts      Facts
	Doubt      Doubt // the effect of lost events, at the moment of the reading
}

// Facts is what the phases of one incarnation of a migration have recorded so far. The
// latest row alone does not have it: a CatchUp row names neither group nor
// target, and both are needed to undo it.
type Facts struct {
	SourceNode         uint64
	TargetNode         uint64
	SourceGroup        uint64
	WritePauseBudgetUS uint64 // microseconds
	StartedAtHLC       checkpoint.HLC
	HasTarget          bool // TargetNode and SourceGroup are known
	HasSource          bool // AddLearner was seen: the others are known too
	// An event of the migration may be missing since TargetNode and SourceGroup, or since
	// the others, were recorded: it may have changed them, or ended the incarnation.
	TargetUncertain, SourceUncertain bool
}

// state is everything that a view knows about one migration. A state in a view never changes.
type state struct {
	Row                // Facts and Doubt without the effect of lost events, see View.withLosses
	last        uint64 // number of the migration's last event, of any kind
	recordedSeq [partRow]uint64
	gapSince    [partCount]bool
	status      rowStatus
}

// standing is whether a migration has a row, only events of unknown kinds, or has ended.
type rowStatus uint8

const (
	hasRow rowStatus = iota
	// onlyUnknownKinds: the incarnation has events of unknown kinds and no checkpoint.
	onlyUnknownKinds
	// ended: an abort or a removal ended the incarnation. A view keeps such a state only after a
	// loss that no snapshot covers, to answer Doubt.
	ended
)

// part names a part of a state. For each part the state keeps the number of the event that
// recorded it, and whether an event of the migration is known to be missing since. For
// partIncarnation the number is a lower bound: the incarnation began after it, or with it.
type part int

const (
	partIncarnation part = iota // since the beginning of the incarnation
	partTarget                  // since TargetNode and SourceGroup were recorded
	partSource                  // since the other facts were recorded
	partRow                     // since the latest checkpoint: its number is Row.Seq
	partCount
)

// recordedAt returns the number of the event that recorded the part.
func (s *state) recordedAt(p part) uint64 {
	if p == partRow {
		return s.Seq
	}
	return s.recordedSeq[p]
}

// lastSeq is the number of the last event of the migration's current incarnation, 0 if it has
// none. A nil state is that of an unknown migration.
func (s *state) lastSeq() uint64 {
	if s == nil || s.status == ended {
		return 0
	}
	return s.last
}

func (s *state) shard() uint32 { return s.Checkpoint.Payload.Shard() }

// Change is the effect of an event on its migration. It can be added to a view once.
type Change struct {
	state  *state
	effect checkpoint.Effect
}

// UpsertChange is the change of an event that makes the checkpoint its migration's latest.
func UpsertChange(c checkpoint.Checkpoint) Change {
	return Change{&state{Row: Row{Checkpoint: c}}, checkpoint.EffectRow}
}

// EndChange is the change of an event after which the migration has no row.
func EndChange(id checkpoint.MigrationID) Change {
	return changeWithoutRow(id, ended, checkpoint.EffectEnd)
}

// UnknownChange is the change of an event of an unknown kind: its migration keeps its row.
func UnknownChange(id checkpoint.MigrationID) Change {
	return changeWithoutRow(id, onlyUnknownKinds, checkpoint.EffectUnknown)
}

func changeWithoutRow(id checkpoint.MigrationID, s rowStatus, e checkpoint.Effect) Change {
	return Change{&state{Row: Row{Checkpoint: checkpoint.Checkpoint{MigrationID: id}}, status: s}, e}
}

// ChangeOf is the change of an event.
func ChangeOf(e checkpoint.Event) Change {
	switch checkpoint.KindOf(e).Effect() {
	case checkpoint.EffectRow:
		return UpsertChange(e.(checkpoint.Upserted).Checkpoint)
	case checkpoint.EffectEnd:
		return EndChange(e.Migration())
	}
	panic(fmt.Sprintf("projection: event type %T has no case in ChangeOf", e)) // a test folds an event of each kind
}

// Migration is the migration that changes.
func (c Change) Migration() checkpoint.MigrationID { return c.state.Checkpoint.MigrationID }

// Checkpoint is the one that becomes the latest, nil for an end. It must not be changed.
func (c Change) Checkpoint() *checkpoint.Checkpoint {
	if c.effect != checkpoint.EffectRow {
		return nil
	}
	return &c.state.Checkpoint
}

// follow fills in the change's state after event seq, and returns it. Before is the migration's
// state until then, or nil. PrevSeq is the previous seq of the event's frame. PrevLost is true if
// that event is lost.
//
// If prevSeq is above the last event of before, an event of the migration is missing. If it is
// below, nothing is missing: the writer could not read the events in between at that time, and they
// are here. After an end any prevSeq above 0 counts as a gap, because before has no last event.
func (c Change) follow(before *state, seq, prevSeq uint64, prevLost bool) *state {
	s, lastKnown := c.state, before.lastSeq()
	switch {
	case lastKnown == 0 && c.effect == checkpoint.EffectRow && s.Checkpoint.Phase() == checkpoint.PhaseAddLearner:
		s.recordedSeq[partIncarnation] = seq // nothing before an AddLearner matters
	case lastKnown == 0 || prevSeq == 0 && c.effect != checkpoint.EffectUnknown:
		s.recordedSeq[partIncarnation] = lastKnown // a new incarnation
	case c.effect == checkpoint.EffectUnknown:
		*s = *before
	default:
		s.Facts, s.recordedSeq, s.gapSince = before.Facts, before.recordedSeq, before.gapSince
	}
	if prevLost || prevSeq > lastKnown { //mutant:link-broken
		s.gapSince = [partCount]bool{true, true, true, true}
	}
	s.last = seq
	if c.effect == checkpoint.EffectRow {
		s.Seq, s.PrevSeq, s.gapSince[partRow] = seq, prevSeq, false
		s.record(seq)
	}
	return s
}

// record takes the facts of the checkpoint in event seq. A later phase names the target again, as
// the promoted voter or the new leader.
func (s *state) record(seq uint64) {
	f := &s.Facts
	switch p := s.Checkpoint.Payload.(type) {
	case checkpoint.AddLearner:
		*f = Facts{SourceNode: p.SourceNode, WritePauseBudgetUS: p.WritePauseBudgetUS, StartedAtHLC: p.StartedAtHLC, HasSource: true}
		s.recordedSeq[partSource], s.gapSince[partSource] = seq, false
		s.recordTarget(seq, p.TargetNode, p.SourceGroup)
	case checkpoint.PromoteLearner:
		s.recordTarget(seq, p.TargetNode, p.SourceGroup)
	case checkpoint.LeadershipTransfer:
		s.recordTarget(seq, p.NewLeaderNodeID, p.SourceGroup)
	case checkpoint.Cutover:
		s.recordTarget(seq, p.NewLeaderNodeID, p.SourceGroup)
	}
}

func (s *state) recordTarget(seq, node, group uint64) {
	s.Facts.TargetNode, s.Facts.SourceGroup, s.Facts.HasTarget = node, group, true
	s.recordedSeq[partTarget], s.gapSince[partTarget] = seq, false
}
