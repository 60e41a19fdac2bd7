package projection

import (
	"slices"

	"migrationlog/checkpoint"
)

// Facts holds the values that the events of one incarnation of a migration have recorded so far.
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
	// recorded TargetNode and SourceGroup. SourceUncertain is the same for SourceNode,
	// WritePauseBudgetUS and StartedAtHLC. The missing event may have changed the facts or ended the
	// incarnation.
	TargetUncertain, SourceUncertain bool

	FurthestPhase  checkpoint.Phase                 // the highest phase of a checkpoint of the incarnation
	RecordedPhases uint8                            // bit phase-1 is set if a checkpoint has the phase
	HighestAttempt [checkpoint.PhaseComplete]uint32 // of the checkpoints with a phase, at index phase-1
	// BeganSeq is the seq of the incarnation's first event. It is 0 if that event may be lost, or if
	// the row was restored. If a later event of the migration may be lost, BeganSeq is a lower bound,
	// because the lost event may have ended the incarnation.
	BeganSeq uint64
	// Targets has the values of SourceGroup and TargetNode, in the order in which they were first
	// recorded, but at most the first MaxTargets. It is nil if the incarnation has recorded at most
	// one.
	Targets    []Target
	UnknownSeq uint64         // seq of the last event of an unknown kind after the latest checkpoint; 0: none
	Abort      *AbortProgress // the abort that was begun and is not finished; nil: none
}

// MaxTargets is the number of targets that are kept.
const MaxTargets = checkpoint.MaxTargets

// Target is a peer that a migration adds to a group.
type Target = checkpoint.Target

// AbortProgress is an abort that was begun and is not finished. It never changes.
type AbortProgress struct {
	// Seq is the seq of the event that began the abort. If a restored event has the abort, Seq is the
	// seq of that event, or 0 if the row was recorded during the abort. Seq is therefore always below
	// the row's Seq if the row was recorded during the abort, and not below it otherwise.
	Seq           uint64
	Reason        string
	Compensations []checkpoint.Compensation
	Done          []bool // for each compensation: an event has recorded that it was carried out
	TimestampMS   uint64 // of the event that began the abort
}

// IsDone reports whether an event has recorded that the step was carried out. It returns false for a
// step that the abort does not have.
func (a *AbortProgress) IsDone(step uint32) bool {
	return uint64(step) < uint64(len(a.Done)) && a.Done[step]
}

// facts is the form of Facts in a state. Most migrations have no rare facts, which keeps a state
// small.
type facts struct {
	sourceNode         uint64
	targetNode         uint64
	sourceGroup        uint64
	writePauseBudgetUS uint64
	beganSeq           uint64
	rare               *rareFacts // nil: they are all zero
	startedWallNS      uint64     // both parts of Facts.StartedAtHLC; a struct of them would be larger
	startedLogical     uint32
	hasTarget          bool
	hasSource          bool
	furthestPhase      checkpoint.Phase
	recordedPhases     uint8
}

// rareFacts never change after their state is in a view.
type rareFacts struct {
	highestAttempt [checkpoint.PhaseComplete]uint32 // of each phase before the latest checkpoint; see keepAttempt
	targets        []Target
	unknownSeq     uint64
	abort          *AbortProgress
}

var noRareFacts rareFacts

func (f *facts) startedAtHLC() checkpoint.HLC {
	return checkpoint.HLC{WallNS: f.startedWallNS, Logical: f.startedLogical}
}

func (f *facts) setStartedAtHLC(t checkpoint.HLC) {
	f.startedWallNS, f.startedLogical = t.WallNS, t.Logical
}

// getRare returns the rare facts for reading.
func (f *facts) getRare() *rareFacts {
	if f.rare == nil {
		return &noRareFacts
	}
	return f.rare
}

// changeRare replaces the rare facts by a copy, which the caller may change. Other states may share
// the old ones.
func (f *facts) changeRare() *rareFacts {
	changed := *f.getRare()
	f.rare = &changed
	return &changed
}

// exportedFacts returns the facts of a state without the effect of lost events.
func (s *state) exportedFacts() Facts {
	f, rare := &s.facts, s.facts.getRare()
	out := Facts{
		SourceNode: f.sourceNode, TargetNode: f.targetNode, SourceGroup: f.sourceGroup, WritePauseBudgetUS: f.writePauseBudgetUS,
		StartedAtHLC: f.startedAtHLC(), HasTarget: f.hasTarget, HasSource: f.hasSource,
		FurthestPhase: f.furthestPhase, RecordedPhases: f.recordedPhases, HighestAttempt: rare.highestAttempt, BeganSeq: f.beganSeq,
		Targets: rare.targets, UnknownSeq: rare.unknownSeq, Abort: rare.abort,
	}
	if s.status == hasRow {
		highest := &out.HighestAttempt[s.Checkpoint.Phase()-1]
		*highest = max(*highest, s.Checkpoint.Attempt)
	}
	return out
}

func (f *facts) equal(other *facts) bool {
	a, b := *f, *other
	a.rare, b.rare = nil, nil
	return a == b && f.getRare().equal(other.getRare())
}

func (r *rareFacts) equal(other *rareFacts) bool {
	return r.highestAttempt == other.highestAttempt && slices.Equal(r.targets, other.targets) &&
		r.unknownSeq == other.unknownSeq && r.abort.equal(other.abort)
}

func (a *AbortProgress) equal(other *AbortProgress) bool {
	if a == nil || other == nil {
		return a == other
	}
	return a.Seq == other.Seq && a.Reason == other.Reason && slices.Equal(a.Compensations, other.Compensations) &&
		slices.Equal(a.Done, other.Done) && a.TimestampMS == other.TimestampMS
}

// keepAttempt keeps the attempt of a checkpoint that is not the latest any more, unless the next
// checkpoint is a later attempt of the same phase. The attempt of the latest checkpoint itself is
// not kept, so that most migrations have no rare facts.
func (f *facts) keepAttempt(c, next *checkpoint.Checkpoint) {
	phase := c.Phase()
	if (next.Phase() != phase || next.Attempt < c.Attempt) && c.Attempt > f.getRare().highestAttempt[phase-1] {
		f.changeRare().highestAttempt[phase-1] = c.Attempt
	}
}

// recordPhase records the phase of a checkpoint. The checkpoint is the latest event, so no event of
// an unknown kind follows it.
func (f *facts) recordPhase(phase checkpoint.Phase) {
	f.furthestPhase = max(f.furthestPhase, phase)
	f.recordedPhases |= 1 << (phase - 1)
	if f.getRare().unknownSeq > 0 {
		f.changeRare().unknownSeq = 0
	}
}

func (f *facts) recordTarget(node, group uint64) {
	before, now := Target{GroupID: f.sourceGroup, PeerID: f.targetNode}, Target{GroupID: group, PeerID: node}
	if f.hasTarget && now != before {
		f.addTarget(before, now)
	}
	f.targetNode, f.sourceGroup, f.hasTarget = node, group, true
}

// addTarget adds a target that differs from the one before it.
func (f *facts) addTarget(before, now Target) {
	targets := f.getRare().targets
	if targets == nil {
		targets = []Target{before}
	}
	if len(targets) < MaxTargets && !slices.Contains(targets, now) {
		f.changeRare().targets = append(slices.Clip(targets), now) // a copy, since other states share the old list
	}
}

// recordAbort records the progress of an abort. If an abort is begun again with the same
// compensations, the finished ones stay finished. A step that the abort does not have is ignored.
func (f *facts) recordAbort(seq uint64, e checkpoint.Event) {
	abort := f.getRare().abort
	switch e := e.(type) {
	case checkpoint.AbortBegun:
		next := &AbortProgress{
			Seq: seq, Reason: e.Reason, Compensations: append([]checkpoint.Compensation(nil), e.Compensations...),
			Done: make([]bool, len(e.Compensations)), TimestampMS: e.TimestampMS,
		}
		if abort != nil && slices.Equal(abort.Compensations, next.Compensations) {
			next.Done = abort.Done
		}
		f.changeRare().abort = next
	case checkpoint.Compensated:
		if abort == nil || uint64(e.Step) >= uint64(len(abort.Done)) || abort.Done[e.Step] {
			return
		}
		next := *abort
		next.Done = slices.Clone(abort.Done)
		next.Done[e.Step] = true
		f.changeRare().abort = &next
	}
}
