package recovery

import (
	"bytes"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// Plan returns one decision for each row, in the order of the migration ids. If the policy has
// UnnamedInDoubt, a last decision without a row follows. nowMS is the time in Unix milliseconds by
// which ages are measured. The result depends only on the arguments, and not on the order of the
// rows. It shares memory with the rows, which the caller must not change.
func Plan(rows []projection.Row, policy Policy, nowMS uint64) []Decision {
	decisions := make([]Decision, 0, len(rows)+1)
	for _, row := range sortedByID(rows) {
		decisions = append(decisions, policy.decide(row, nowMS))
	}
	askAboutSharedPeers(decisions)   //mutant:plan-peer-shared
	askAboutSharedVShards(decisions) //mutant:plan-vshard-shared
	if policy.UnnamedInDoubt {       //mutant:plan-unnamed
		decisions = append(decisions, Decision{Action: AskFirst, Reason: UnnamedInDoubt, Asks: []Ask{{Topic: TopicMigrations}}})
	}
	return decisions
}

func sortedByID(rows []projection.Row) []*projection.Row {
	sorted := make([]*projection.Row, len(rows))
	for i := range rows {
		sorted[i] = &rows[i]
	}
	slices.SortFunc(sorted, func(a, b *projection.Row) int {
		return bytes.Compare(a.Checkpoint.MigrationID[:], b.Checkpoint.MigrationID[:])
	})
	return sorted
}

// decide returns the decision about one row, regardless of the other rows. The first case that
// matches decides. Their order is a part of the rules. For example, a row at Complete is cleaned up
// although its history may lack the target, because no step needs the target any more.
func (p *Policy) decide(row *projection.Row, nowMS uint64) Decision {
	d := Decision{Row: *row, Inputs: p.inputs(row, nowMS)}
	in, facts, phase := &d.Inputs, &d.Row.Facts, row.Checkpoint.Phase()
	stale := in.AgeMS > in.AbortTimeoutMS //mutant:plan-timeout-exceeded
	gone := in.TargetMember != nil && !*in.TargetMember
	leads := in.GroupLeader != nil && *in.GroupLeader == facts.TargetNode
	if facts.Abort != nil {
		d.Compensated = steps(facts.Abort, true)
	}
	transferred := in.FurthestPhase == checkpoint.PhaseLeadershipTransfer && leads
	switch {
	case row.Doubt == projection.InDoubt && !p.TrustDoubt: //mutant:plan-in-doubt
		d.ask(InDoubt, Ask{Topic: TopicRow})
	case facts.UnknownSeq != 0: //mutant:plan-unknown-event
		d.ask(UnknownEvent, Ask{Topic: TopicEvent, Seq: facts.UnknownSeq})
	case facts.Abort != nil: //mutant:plan-abort-unfinished
		d.abort(AbortUnfinished, steps(facts.Abort, false))
	case phase == checkpoint.PhaseComplete: //mutant:plan-complete
		d.Action, d.Reason = CleanUp, Complete
	case in.FurthestPhase >= checkpoint.PhaseCutover && phase < checkpoint.PhaseCutover: //mutant:plan-regressed
		d.ask(RegressedPastCutover, Ask{Topic: TopicRow})
	case !facts.HasTarget || facts.TargetUncertain && !p.TrustDoubt: //mutant:plan-target-unknown
		d.ask(TargetUnknown, Ask{Topic: TopicTarget})
	case len(facts.Targets) > 1: //mutant:plan-target-changed
		d.ask(TargetChanged, Ask{Topic: TopicTarget, Seen: facts.Targets})
	case (phase == checkpoint.PhaseCutover || transferred) && gone: //mutant:plan-gone-past-cutover
		d.ask(TargetGonePastCutover, Ask{Topic: TopicMembership, Node: facts.TargetNode})
	case phase == checkpoint.PhaseCutover: //mutant:plan-past-cutover
		d.resume(PastCutover)
	case transferred: //mutant:plan-transferred
		d.resume(TransferCommitted)
	case (stale || gone) && in.FurthestPhase == checkpoint.PhaseLeadershipTransfer && in.GroupLeader == nil: //mutant:plan-leader-unknown
		d.ask(TransferUnknown, Ask{Topic: TopicLeader, GroupID: facts.SourceGroup})
	case stale: //mutant:plan-stale
		d.abort(Stale, p.undo(facts, in.FurthestPhase))
	case gone: //mutant:plan-target-gone
		d.abort(TargetGone, p.undo(facts, in.FurthestPhase))
	default:
		d.resume(Fresh)
	}
	return d
}

// inputs returns the values from which the decision about a row is made.
func (p *Policy) inputs(row *projection.Row, nowMS uint64) Inputs {
	facts, clockMS := &row.Facts, row.Checkpoint.TimestampMS
	in := Inputs{
		NowMS: nowMS, TSMS: clockMS, AgeMS: nowMS - min(nowMS, clockMS), AbortTimeoutMS: p.AbortTimeoutMS(),
		Doubt: row.Doubt, SourceUncertain: facts.SourceUncertain, TargetUncertain: facts.TargetUncertain,
	}
	in.FurthestPhase = max(facts.FurthestPhase, row.Checkpoint.Phase()) //mutant:plan-furthest-phase
	if facts.HasSource {
		in.SourceNode = new(facts.SourceNode)
	}
	if facts.HasTarget {
		in.TargetNode, in.SourceGroup = new(facts.TargetNode), new(facts.SourceGroup)
		in.TargetMember, in.GroupLeader = p.member(facts.TargetNode), p.leader(facts.SourceGroup)
	}
	return in
}

// undo returns the compensations of an incarnation that has reached the furthest phase. If the
// coordinator has recorded an earlier phase again, the row is at that phase, but the cluster is
// not.
func (p *Policy) undo(facts *projection.Facts, furthest checkpoint.Phase) []checkpoint.Compensation {
	var source *uint64
	if facts.HasSource && (!facts.SourceUncertain || p.TrustDoubt) { //mutant:plan-source-certain
		source = &facts.SourceNode
	}
	return Compensations(furthest, facts.SourceGroup, facts.TargetNode, source)
}

// Compensations returns the steps that undo a move that has reached the furthest phase, in order. The
// move adds the target to the group. The source is nil if it is not known. From Cutover on, a move
// cannot be undone, and has no compensations.
func Compensations(furthest checkpoint.Phase, group, target uint64, source *uint64) []checkpoint.Compensation {
	if furthest >= checkpoint.PhaseCutover {
		return nil
	}
	if furthest < checkpoint.PhasePromoteLearner { //mutant:plan-learner
		return []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: group, PeerID: target}}
	}
	undo := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: group, PeerID: target}}
	if source != nil {
		undo = append(undo, checkpoint.Compensation{Kind: checkpoint.RestoreLeaderHint, GroupID: group, PeerID: *source})
	}
	return undo
}

// steps returns the steps of an abort that are recorded as carried out, or those that are not.
func steps(abort *projection.AbortProgress, done bool) []checkpoint.Compensation {
	var found []checkpoint.Compensation
	for i, c := range abort.Compensations {
		if abort.Done[i] == done { //mutant:plan-steps-left
			found = append(found, c)
		}
	}
	return found
}

func (d *Decision) ask(reason Reason, about Ask) {
	d.Action, d.Reason, d.Asks = AskFirst, reason, []Ask{about}
}

func (d *Decision) abort(reason Reason, remaining []checkpoint.Compensation) {
	d.Action, d.Reason, d.Compensations = Abort, reason, remaining
}

func (d *Decision) resume(reason Reason) {
	d.Action, d.Reason, d.NextPhase = Resume, reason, d.Row.Checkpoint.Phase()+1
}
