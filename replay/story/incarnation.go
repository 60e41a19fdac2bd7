package story

import (
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// Outcome is the end of an incarnation, or InFlight.
type Outcome string

// The outcomes of an incarnation.
const (
	InFlight          Outcome = "in_flight"          // neither at Complete nor ended
	Done              Outcome = "done"               // at Complete, and not removed
	Aborted           Outcome = "aborted"            // ended by an abort
	Removed           Outcome = "removed"            // removed at Complete
	RemovedUnfinished Outcome = "removed_unfinished" // removed in an earlier phase
)

// Step is one record of an incarnation.
type Step struct {
	Seq, PrevSeq uint64
	AtMS         uint64 // wall clock
	Kind         replay.Kind
	Phase        checkpoint.Phase // of a checkpoint or a restored row, otherwise 0
	Attempt      uint32           // of a checkpoint or a restored row
	Event        checkpoint.Event // nil for an event of an unknown kind
	Confirmation Confirmation     // of a checkpoint
}

// Confirmation is the part of a checkpoint in the confirmation of a row. An operator or a coordinator
// confirms a row in doubt with two checkpoints: an AddLearner with attempt checkpoint.FactsAttempt,
// which restores the facts, and then the true row. A confirmation shows no progress of the move.
type Confirmation uint8

// The parts of a confirmation.
const (
	NoConfirmation Confirmation = iota // the checkpoint is not part of a confirmation
	RestoresFacts                      // the AddLearner: no phase, no try, and no stay begins or ends
	ConfirmsRow                        // the row, in the phase before: not a new try, and it ends no stay
	CorrectsRow                        // the row, in another phase: not a new try
)

// IsRetry reports whether the step is a checkpoint with which a phase was tried again.
func (s Step) IsRetry() bool {
	return s.Attempt > 0 && s.Confirmation == NoConfirmation && s.Kind == replay.KindCheckpoint
}

// stepOf returns the step of a record that is not damage.
func stepOf(r replay.Record) Step {
	s := Step{Seq: r.Seq, PrevSeq: r.PrevSeq, AtMS: r.WallMS(), Kind: r.Kind(), Event: r.Event}
	if c, ok := r.Checkpoint(); ok {
		s.Phase, s.Attempt = c.Phase(), c.Attempt
		if checkpoint.RestoresFacts(s.Phase, s.Attempt) {
			s.Confirmation = RestoresFacts
		}
	}
	return s
}

// Incarnation is one move, as far as it is in the history.
type Incarnation struct {
	ID     checkpoint.MigrationID
	Number int         // 1 for the first incarnation of the id in this history
	After  replay.Kind // the kind that ended the incarnation before it: KindAbort, KindRemove, or ""

	VShardID uint32
	// SourceNode and PauseBudgetUS are known if HasSource is set, and TargetNode and SourceGroup if
	// HasTarget is set. They are the first values that the incarnation names, or the values of the
	// checkpoint that restored the facts.
	SourceNode, TargetNode, SourceGroup, PauseBudgetUS uint64
	HasSource, HasTarget                               bool

	FirstSeq, LastSeq uint64
	StartedMS, LastMS uint64 // wall clocks of the first and of the last record
	Phase             checkpoint.Phase
	Furthest          checkpoint.Phase
	Attempt           uint32 // of the latest checkpoint
	Retries           int    // checkpoints with an attempt above 0, except confirmations
	// BeginningLost is true if the first record links to an earlier one that the history does not have.
	BeginningLost bool
	// Restored is true if the first record is a restored row. The events before it are in the logs of
	// other members of the consensus group. StartedMS is then the time of the row, and Retries does not
	// count the tries before it.
	Restored bool

	Outcome       Outcome
	Reason        string                    // of the abort, also of one that is under way
	Compensations []checkpoint.Compensation // of the abort, also of one that is under way

	Last  Step   // the latest record
	Steps []Step // all records, if the tracker keeps them

	since       Step   // the checkpoint whose stay is open, or zero
	completedMS uint64 // wall clock of the checkpoint at Complete; 0 if the latest phase is another one
}

// HasBeginning reports whether the history has the first event of the incarnation.
func (i *Incarnation) HasBeginning() bool { return !i.BeginningLost && !i.Restored }

// InFlight reports whether the incarnation is neither at Complete nor ended.
func (i *Incarnation) InFlight() bool { return i.Outcome == InFlight }

// Ended reports whether an abort or a removal ended the incarnation.
func (i *Incarnation) Ended() bool { return i.Outcome != InFlight && i.Outcome != Done }

// add applies a record that belongs to the incarnation, and returns the stay that it ends. If a
// record between the two is lost, the length of the stay is not known, and add returns nil.
func (i *Incarnation) add(s Step, keep bool) (ended *Stay) {
	if i.FirstSeq == 0 {
		i.FirstSeq, i.StartedMS = s.Seq, s.AtMS
	} else if s.PrevSeq != i.LastSeq { // a lost record ended the stay
		i.since = Step{}
	}
	s.Confirmation = i.confirmation(s)
	if i.since.Seq != 0 && endsStay(s) {
		ended = &Stay{Incarnation: i, From: i.since, To: s, MS: int64(s.AtMS - i.since.AtMS)}
		i.since = Step{}
	}
	i.Last, i.LastSeq, i.LastMS = s, s.Seq, s.AtMS
	if keep {
		i.Steps = append(i.Steps, s)
	}
	switch e := s.Event.(type) {
	case checkpoint.Upserted:
		i.addCheckpoint(s, e.Checkpoint)
	case checkpoint.Restored:
		i.addRestored(s, e)
	case checkpoint.AbortBegun:
		i.Reason, i.Compensations = e.Reason, e.Compensations
	case checkpoint.Aborted:
		i.Outcome, i.Reason, i.Compensations = Aborted, e.Reason, e.Compensations
	case checkpoint.Removed:
		i.Outcome = RemovedUnfinished
		if i.Phase == checkpoint.PhaseComplete {
			i.Outcome = Removed
		}
	}
	return ended
}

// confirmation returns the part in a confirmation of the next step.
func (i *Incarnation) confirmation(s Step) Confirmation {
	followsFacts := i.Last.Confirmation == RestoresFacts && s.PrevSeq == i.Last.Seq
	switch {
	case s.Kind != replay.KindCheckpoint || s.Confirmation == RestoresFacts || !followsFacts:
		return s.Confirmation
	case s.Phase == i.Phase:
		return ConfirmsRow
	}
	return CorrectsRow
}

// endsStay reports whether a step ends the stay in a phase. A raised epoch and a confirmation do not
// change the move, and the effect of an unknown kind is not known.
func endsStay(s Step) bool {
	return s.Kind != replay.KindEpochRaised && s.Kind != replay.KindUnknown && s.Confirmation != RestoresFacts && s.Confirmation != ConfirmsRow
}

func (i *Incarnation) addCheckpoint(s Step, c checkpoint.Checkpoint) {
	restores := s.Confirmation == RestoresFacts
	i.addNodes(c.Payload, restores)
	if i.VShardID = c.Payload.Shard(); restores {
		if i.Phase == 0 {
			i.Phase, i.Furthest = s.Phase, s.Phase
		}
		return
	}
	i.since, i.Phase, i.Attempt = s, s.Phase, s.Attempt
	i.Furthest = max(i.Furthest, i.Phase)
	if s.IsRetry() {
		i.Retries++
	}
	switch {
	case i.Phase != checkpoint.PhaseComplete:
		i.Outcome, i.completedMS = InFlight, 0
	case i.Outcome != Done:
		i.Outcome, i.completedMS = Done, c.TimestampMS
	}
}

// addRestored applies a restored row. Its nodes are those of the facts, unless earlier events have named
// others: package summary has the same rule.
func (i *Incarnation) addRestored(s Step, e checkpoint.Restored) {
	f := e.Facts
	if f.HasSource && !i.HasSource {
		i.HasSource, i.SourceNode, i.PauseBudgetUS = true, f.SourceNode, f.WritePauseBudgetUS
	}
	if f.HasTarget && !i.HasTarget {
		i.HasTarget, i.TargetNode, i.SourceGroup = true, f.TargetNode, f.SourceGroup
	}
	i.addCheckpoint(s, e.Checkpoint)
	i.Furthest = f.FurthestPhase
	if a := f.Abort; a != nil {
		i.Reason, i.Compensations = a.Reason, a.Compensations
		if !a.BeforeCheckpoint { // the beginning of the abort ended the stay
			i.since = Step{}
		}
	}
}

// addNodes records the nodes that a payload names, if none are known or if it restores them.
func (i *Incarnation) addNodes(payload checkpoint.Payload, restores bool) {
	if p, ok := payload.(checkpoint.AddLearner); ok && (restores || !i.HasSource) {
		i.HasSource, i.SourceNode, i.PauseBudgetUS = true, p.SourceNode, p.WritePauseBudgetUS
	}
	if node, group, ok := checkpoint.TargetOf(payload); ok && (restores || !i.HasTarget) {
		i.HasTarget, i.TargetNode, i.SourceGroup = true, node, group
	}
}
