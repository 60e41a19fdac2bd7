package lint

import (
	"migrationlog/checkpoint"
	"migrationlog/replay/story"
)

// isConfirmation reports whether the record of a change is part of a confirmation.
func isConfirmation(c story.Change) bool {
	return c.Incarnation != nil && c.Incarnation.Last.Confirmation != story.NoConfirmation
}

// restoreFacts replaces the names of a move by those of an AddLearner that restores its facts. The
// AddLearner begins nothing, so its order, its clocks and the members of the group are not checked.
func (l *Linter) restoreFacts(m *move, seq uint64, p checkpoint.AddLearner) {
	if m.firstSeq == 0 {
		m.firstSeq, m.vshardID = seq, p.VShardID
	}
	l.checkName(m, seq, "vshard_id", mark{uint64(m.vshardID), m.firstSeq}, uint64(p.VShardID))
	if m.target.seq != 0 && m.target.value != p.TargetNode && len(m.otherTargets) < maxKept {
		m.otherTargets = append(m.otherTargets, m.target.value)
	}
	m.source, m.target, m.group = mark{p.SourceNode, seq}, mark{p.TargetNode, seq}, mark{p.SourceGroup, seq}
	m.budget = mark{p.WritePauseBudgetUS, seq}
}

// confirmRow records a confirmed row. The events between it and the row before it may be lost, so its
// order, its attempt and its clock are not checked.
func (l *Linter) confirmRow(m *move, s story.Step, c checkpoint.Checkpoint) {
	if m.latest.seq == 0 {
		l.begin(m, s.Seq, s.Phase)
	}
	l.checkNames(m, s.Seq, c.Payload)
	if s.Confirmation == story.CorrectsRow {
		switch p := c.Payload.(type) {
		case checkpoint.LeadershipTransfer:
			l.checkVoter(m, s.Seq, p)
		case checkpoint.Complete:
			l.checkComplete(m, s.Seq, p)
		}
		m.silenceMS = l.silenceMS
	}
	m.record(kept{s.Seq, s.Phase, s.Attempt, c.Payload})
	m.recorded |= 1<<(s.Phase+1) - 1 // the move has passed the phases before
	m.latestMS = c.TimestampMS
}
