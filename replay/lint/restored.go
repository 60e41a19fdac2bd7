package lint

import (
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// restore begins the move of a restored row. The history does not have the events before the row, so
// no rule is checked for them. The facts of the row are the state with which later events are
// compared.
func (l *Linter) restore(c story.Change, r replay.Record) {
	e := r.Event.(checkpoint.Restored)
	row, f := e.Checkpoint, e.Facts
	m := &move{inc: c.Incarnation, firstSeq: r.Seq, firstPhase: row.Phase(), vshardID: row.Payload.Shard(), silenceMS: l.silenceMS, latestMS: row.TimestampMS}
	if l.moves[row.MigrationID] == nil {
		l.began++
	} else {
		l.land(l.moves[row.MigrationID])
	}
	l.moves[row.MigrationID] = m
	m.record(kept{r.Seq, row.Phase(), row.Attempt, row.Payload})
	m.furthest, m.furthestSeq, m.recorded = f.FurthestPhase, r.Seq, f.RecordedPhases<<1
	copy(m.highest[checkpoint.PhaseAddLearner:], f.HighestAttempt[:])
	if f.HasSource {
		m.source, m.budget = mark{f.SourceNode, r.Seq}, mark{f.WritePauseBudgetUS, r.Seq}
	}
	if f.HasTarget {
		m.target, m.group = mark{f.TargetNode, r.Seq}, mark{f.SourceGroup, r.Seq}
	}
	for _, t := range f.Targets {
		m.otherTargets = append(m.otherTargets, t.PeerID)
	}
	if row.Phase() == checkpoint.PhaseLeadershipTransfer {
		m.transferMS = mark{row.TimestampMS, r.Seq}
	}
	l.restoreAbort(m, r.Seq, f.Abort)
	if row.Phase() != checkpoint.PhaseComplete {
		l.fly(m)
	}
}

// restoreAbort restores the progress of an abort, unless that is nil.
func (l *Linter) restoreAbort(m *move, seq uint64, a *checkpoint.RestoredAbort) {
	if a == nil {
		return
	}
	m.begun = &checkpoint.AbortBegun{MigrationID: m.inc.ID, Reason: a.Reason, Compensations: a.Compensations, TimestampMS: a.TimestampMS}
	m.doneSteps = map[uint32]bool{}
	for i, done := range a.Done {
		m.doneSteps[uint32(i)] = done
	}
	m.tooLate = m.furthest >= checkpoint.PhaseCutover // it was begun before the history
	if !a.BeforeCheckpoint {
		m.abortStep = mark{a.TimestampMS, seq}
	}
}

// sinceBegin returns the clock from which a stay is measured: that of its first event or, if this is
// a restored row, not before the history began.
func (l *Linter) sinceBegin(m *move, from mark) mark {
	if m.inc.Restored && from.seq == m.inc.FirstSeq {
		from.value = max(from.value, l.beganMS)
	}
	return from
}
