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
	Facts      Facts
	Doubt      Doubt // the effect of lost events at the time of the read
}

// Facts holds the values that the phases of one incarnation of a migration have recorded so far.
// The latest checkpoint alone is not enough. For example, undoing a CatchUp needs the source group
// and the target node, but the CatchUp checkpoint has neither.
type Facts struct {
	SourceNode         uint64
	TargetNode         uint64
	SourceGroup        uint64
	WritePauseBudgetUS uint64 // microseconds
	StartedAtHLC       checkpoint.HLC
	HasTarget          bool // TargetNode and SourceGroup are known
	HasSource          bool // the incarnation has an AddLearner: the other facts are known too
	// TargetUncertain is true if an event of the migration may be missing after the event that
	// recorded TargetNode and SourceGroup. SourceUncertain is the same for the other facts. The
	// missing event may have changed the facts or ended the incarnation.
	TargetUncertain, SourceUncertain bool

	FurthestPhase  checkpoint.Phase                 // the highest phase of a checkpoint of the incarnation
	RecordedPhases uint8                            // bit phase-1 is set if a checkpoint has the phase
	HighestAttempt [checkpoint.PhaseComplete]uint32 // of the checkpoints with a phase, at index phase-1
	// BeganSeq is the seq of the incarnation's first event. If that event may be lost, BeganSeq is a
	// lower bound of its seq.
	BeganSeq uint64
	// Targets has all values of SourceGroup and TargetNode, in the order in which they were first
	// recorded. It is nil if the incarnation has recorded at most one.
	Targets    []Target
	UnknownSeq uint64         // seq of the last event of an unknown kind after the latest checkpoint; 0: none
	Abort      *AbortProgress // the abort that was begun and is not finished; nil: none
}

// Target is a peer that a migration adds to a group.
type Target struct{ GroupID, PeerID uint64 }

// AbortProgress is an abort that was begun and is not finished. It never changes.
type AbortProgress struct {
	Seq           uint64 // of the event that began the abort
	Reason        string
	Compensations []checkpoint.Compensation
	Done          []bool // for each compensation: an event has recorded that it was carried out
	TimestampMS   uint64 // of the event that began the abort
}

// state is everything that a view knows about one migration. A state in a view never changes. A new
// event makes a new state.
type state struct {
	Row                         // without the effect of lost events, see View.withLosses
	last        uint64          // seq of the migration's last event, of any kind
	recordedSeq [partRow]uint64 // for all parts before partRow, see recordedAt
	gapSince    [partCount]bool
	status      rowStatus
}

// rowStatus says whether a migration has a row, and if it has none, the reason.
type rowStatus uint8

const (
	hasRow rowStatus = iota
	// onlyUnknownKinds: all events of the incarnation are of unknown kinds, so it has no checkpoint.
	onlyUnknownKinds
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
	return s.last
}

func (s *state) shard() uint32 { return s.Checkpoint.Payload.Shard() }

// Change is the effect of an event on its migration. It can be applied only once, because its state
// becomes a part of the view.
type Change struct {
	state  *state
	effect checkpoint.Effect
}

// UpsertChange returns the change after which c is the latest checkpoint of its migration.
func UpsertChange(c checkpoint.Checkpoint) Change {
	return Change{&state{Row: Row{Checkpoint: c}}, checkpoint.EffectRow}
}

// EndChange returns the change of an abort or a removal. The migration has no row after it.
func EndChange(id checkpoint.MigrationID) Change {
	return changeWithoutRow(id, ended, checkpoint.EffectEnd)
}

// UnknownChange returns the change of an event of an unknown kind. The migration keeps its row.
func UnknownChange(id checkpoint.MigrationID) Change {
	return changeWithoutRow(id, onlyUnknownKinds, checkpoint.EffectUnknown)
}

func changeWithoutRow(id checkpoint.MigrationID, s rowStatus, e checkpoint.Effect) Change {
	return Change{&state{Row: Row{Checkpoint: checkpoint.Checkpoint{MigrationID: id}}, status: s}, e}
}

// ChangeOf returns the change of an event.
func ChangeOf(e checkpoint.Event) Change {
	switch checkpoint.KindOf(e).Effect() {
	case checkpoint.EffectRow:
		return UpsertChange(e.(checkpoint.Upserted).Checkpoint)
	case checkpoint.EffectEnd:
		return EndChange(e.Migration())
	}
	panic(fmt.Sprintf("projection: event type %T has no case in ChangeOf", e)) // a test applies an event of each kind
}

// Migration returns the id of the migration that changes.
func (c Change) Migration() checkpoint.MigrationID { return c.state.Checkpoint.MigrationID }

// Checkpoint returns the new latest checkpoint. It returns nil if the event is not an upsert. The
// caller must not change the checkpoint.
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
	switch {
	case lastKnown == 0 && c.effect == checkpoint.EffectRow && s.Checkpoint.Phase() == checkpoint.PhaseAddLearner:
		s.recordedSeq[partIncarnation] = seq // an AddLearner records all facts, so earlier events do not matter
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

// record stores the facts of the checkpoint in event seq. The phases after CatchUp record the
// target again, as the promoted voter or the new leader.
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
