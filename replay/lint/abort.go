package lint

import (
	"slices"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/recovery"
)

// checkAbortBegun checks the compensations of an abort before they are carried out.
func (l *Linter) checkAbortBegun(m *move, seq uint64, e checkpoint.AbortBegun) {
	if m.begun == nil || !slices.Equal(m.begun.Compensations, e.Compensations) {
		m.doneSteps = map[uint32]bool{}
		l.checkUndoesOther(m, seq, e.Compensations)
	}
	m.begun = &e
	l.checkAfterCutover(m, seq)
}

// checkAborted checks an abort. If the incarnation has no intact checkpoint, nothing is known about
// it.
func (l *Linter) checkAborted(m *move, seq uint64, e checkpoint.Aborted) {
	if m.latest.seq == 0 {
		return
	}
	l.report(aborted, m, span{m.latest.seq, seq}, seq).set([]any{"phase", m.latest.phase, "reason", e.Reason}, "aborted at %s: %q", m.latest.phase, e.Reason)
	l.checkAfterCutover(m, seq)
	var others []checkpoint.Compensation
	for _, c := range e.Compensations {
		if m.begun == nil || !slices.Contains(m.begun.Compensations, c) {
			others = append(others, c)
		}
	}
	l.checkUndoesOther(m, seq, others)
	l.checkUndone(m, seq, m.undone(e.Compensations))
	l.leave(m, seq)
	v := l.vshardOf(m)
	if v.abort(seq) {
		l.report(flapping, m, span{v.aborts[0], seq}, v.aborts...).set([]any{"aborts", len(v.aborts)}, "%d aborts in a row, no move done", len(v.aborts))
	}
}

// undone returns the compensations that the history records as carried out. They are those of the
// abort, and those of the abort that was begun with a record of their own.
func (m *move) undone(list []checkpoint.Compensation) []checkpoint.Compensation {
	if m.begun == nil {
		return list
	}
	var done []checkpoint.Compensation
	for i, c := range m.begun.Compensations {
		if m.doneSteps[uint32(i)] || slices.Contains(list, c) {
			done = append(done, c)
		}
	}
	for _, c := range list {
		if !slices.Contains(done, c) {
			done = append(done, c)
		}
	}
	return done
}

// checkAfterCutover checks whether the move can still be undone. An abort that was begun is one
// finding, and its end is not another one.
func (l *Linter) checkAfterCutover(m *move, seq uint64) {
	if m.furthest < checkpoint.PhaseCutover || m.tooLate {
		return
	}
	m.tooLate = true
	l.report(abortAfterCutover, m, span{m.furthestSeq, seq}, m.furthestSeq, seq).set([]any{"furthest_phase", m.furthest}, "aborted after %s", m.furthest)
}

// checkUndoesOther compares the peers of compensations with those of the move. A move that has named
// several targets may undo each of them.
func (l *Linter) checkUndoesOther(m *move, seq uint64, list []checkpoint.Compensation) {
	for i, c := range list {
		other := false
		switch c.Kind {
		case checkpoint.RemoveGhostStub:
			other = m.firstSeq != 0 && c.VShardID != m.vshardID
		case checkpoint.RestoreLeaderHint:
			other = m.group.seq != 0 && c.GroupID != m.group.value || m.source.seq != 0 && c.PeerID != m.source.value
		default:
			isTarget := c.PeerID == m.target.value || slices.Contains(m.otherTargets, c.PeerID)
			other = m.group.seq != 0 && (c.GroupID != m.group.value || !isTarget)
		}
		if other {
			first := max(m.target.seq, m.firstSeq)
			l.report(abortUndoesOther, m, span{first, seq}, first, seq).set(
				[]any{"compensation", c.Kind, "index", i, "group_id", c.GroupID, "peer_id", c.PeerID, "source_group", valueOf(m.group), "target_node", valueOf(m.target), "source_node", valueOf(m.source)},
				"%s of group %d, node %d, and the move is in group %d, node %d -> %d", c.Kind, c.GroupID, c.PeerID, m.group.value, m.source.value, m.target.value)
		}
	}
}

// valueOf returns the value of a fact, or nil if it is not known.
func valueOf(k mark) any {
	if k.seq == 0 {
		return nil
	}
	return k.value
}

// checkUndone compares the kinds of the compensations with those that the contract demands.
func (l *Linter) checkUndone(m *move, seq uint64, undone []checkpoint.Compensation) {
	kinds := kindsOf(undone)
	latest, furthest := m.demanded(m.latest.phase), m.demanded(m.furthest)
	missing := missingOf(latest, kinds)
	facts := []any{"phase", m.latest.phase, "furthest_phase", m.furthest, "demanded", latest, "recorded", kinds}
	switch {
	case len(missing) > 0 && (len(furthest) == 0 || len(missingOf(furthest, kinds)) > 0):
		l.report(abortLeavesBehind, m, span{m.latest.seq, seq}, m.latest.seq, seq).set(append(facts, "missing", missing),
			"%s demands %s, which the abort does not have", m.latest.phase, namesOf(missing))
	case !m.matches(kinds, latest) && !m.matches(kinds, furthest):
		l.report(abortOtherCompensations, m, span{m.latest.seq, seq}, m.latest.seq, seq).set(facts,
			"%s demands %s, and the abort has %s", m.latest.phase, namesOf(latest), namesOf(kinds))
	}
}

// demanded returns the kinds of the compensations that the contract demands for a phase.
func (m *move) demanded(p checkpoint.Phase) []checkpoint.CompensationKind {
	var source *uint64
	if m.source.seq != 0 {
		source = &m.source.value
	}
	return kindsOf(recovery.Compensations(p, m.group.value, m.target.value, source))
}

// matches reports whether the kinds are the demanded ones, in order. If the source is not known, the
// leader hint is neither demanded nor unusual.
func (m *move) matches(kinds, demanded []checkpoint.CompensationKind) bool {
	if m.source.seq == 0 {
		kinds = slices.DeleteFunc(slices.Clone(kinds), func(k checkpoint.CompensationKind) bool { return k == checkpoint.RestoreLeaderHint })
	}
	return slices.Equal(kinds, demanded)
}

func kindsOf(list []checkpoint.Compensation) []checkpoint.CompensationKind {
	kinds := make([]checkpoint.CompensationKind, len(list))
	for i, c := range list {
		kinds[i] = c.Kind
	}
	return kinds
}

func missingOf(demanded, kinds []checkpoint.CompensationKind) (missing []checkpoint.CompensationKind) {
	for _, k := range demanded {
		if !slices.Contains(kinds, k) {
			missing = append(missing, k)
		}
	}
	return missing
}

func namesOf(kinds []checkpoint.CompensationKind) string {
	if len(kinds) == 0 {
		return "no compensation"
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.String()
	}
	return strings.Join(names, ", ")
}

// flappingAborts is the number of aborts in a row from which a vShard flaps.
const flappingAborts = 3

// abort records an abort and reports whether it is the one with which the vShard begins to flap.
func (v *vshard) abort(seq uint64) bool {
	v.series++
	if v.series <= flappingAborts {
		v.aborts = append(v.aborts, seq)
	}
	return v.series == flappingAborts
}

// endSeries records that a move of the vShard is complete.
func (v *vshard) endSeries() { v.aborts, v.series = nil, 0 }
