package lint

import (
	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/replay/story"
)

// peer is a node in a group.
type peer struct{ group, node uint64 }

// membership has the events that show whether a peer is in its group.
type membership struct {
	present   uint64 // seq of the latest event that shows the peer in the group
	gone      uint64 // seq of the latest event after which the peer is not in the group
	lastEnd   uint64 // seq of the latest Complete or abort that named the peer
	lastLeave bool   // after lastEnd the peer was not in the group
}

func (l *Linter) peer(group, node uint64) *membership {
	key := peer{group, node}
	p := l.peers[key]
	if p == nil {
		p = &membership{}
		l.peers[key] = p
	}
	return p
}

// end records a Complete or an abort that named the peer.
func (p *membership) end(seq uint64, leaves bool) {
	p.lastEnd, p.lastLeave = seq, leaves
	if leaves {
		p.gone = seq
	}
}

// complete records that the target has replaced the source.
func (l *Linter) complete(m *move, seq uint64) {
	if m.source.seq != 0 {
		l.peer(m.group.value, m.source.value).end(seq, true)
	}
	if m.target.seq != 0 {
		target := l.peer(m.group.value, m.target.value)
		target.end(seq, false)
		target.present = seq
	}
}

// leave records that an abort has removed the target.
func (l *Linter) leave(m *move, seq uint64) {
	if m.source.seq != 0 {
		l.peer(m.group.value, m.source.value).end(seq, false)
	}
	if m.target.seq != 0 {
		l.peer(m.group.value, m.target.value).end(seq, true)
	}
}

// checkAddLearner checks the nodes and the clocks of an AddLearner.
func (l *Linter) checkAddLearner(m *move, seq, atMS uint64, p checkpoint.AddLearner) {
	m.budget = mark{p.WritePauseBudgetUS, seq}
	if p.SourceNode == p.TargetNode {
		l.report(sourceIsTarget, m, span{seq, seq}, seq).set([]any{"source_node", p.SourceNode}, "node %d is the source and the target", p.SourceNode)
	}
	source, target := l.peer(p.SourceGroup, p.SourceNode), l.peer(p.SourceGroup, p.TargetNode)
	if source.lastLeave {
		l.report(sourceGone, m, span{source.lastEnd, seq}, source.lastEnd, seq).set([]any{"source_node", p.SourceNode, "source_group", p.SourceGroup},
			"the source, node %d, has left group %d", p.SourceNode, p.SourceGroup)
	}
	if target.present > target.gone {
		l.report(targetPresent, m, span{target.present, seq}, target.present, seq).set([]any{"target_node", p.TargetNode, "source_group", p.SourceGroup},
			"the target, node %d, is in group %d already", p.TargetNode, p.SourceGroup)
	}
	source.present = seq
	l.checkHLC(m, seq, atMS, p.StartedAtHLC)
	l.checkID(m, seq, atMS)
}

// checkHLC compares the start of a move with the clock of its event and with earlier starts.
func (l *Linter) checkHLC(m *move, seq, atMS uint64, hlc checkpoint.HLC) {
	if hlc.Compare(l.highHLC) < 0 {
		l.report(hlcBack, m, span{l.highHLCAt, seq}, l.highHLCAt, seq).set([]any{"started_at_hlc", hlc, "highest", l.highHLC},
			"started_at_hlc is %s below that of an earlier move", story.Span((l.highHLC.WallNS-hlc.WallNS)/nsPerMS))
	} else {
		l.highHLC, l.highHLCAt = hlc, seq
	}
	if skew := int64(hlc.WallNS/nsPerMS) - int64(atMS); skew > maxSkewMS || skew < -maxSkewMS {
		l.report(hlcSkew, m, span{seq, seq}, seq).set([]any{"skew_ms", skew}, "started_at_hlc and the clock of the event differ by %s", signed(skew))
	}
}

const nsPerMS = 1_000_000

// maxSkewMS is the largest normal difference of two clocks that show one moment.
const maxSkewMS = 1000

// checkID compares the time in a version 7 id with the clock of the AddLearner.
func (l *Linter) checkID(m *move, seq, atMS uint64) {
	id := m.inc.ID
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		return
	}
	var idMS int64
	for _, b := range id[:6] { // RFC 9562, 5.7
		idMS = idMS<<8 | int64(b)
	}
	if skew := idMS - int64(atMS); skew > maxSkewMS || skew < -maxSkewMS {
		l.report(idClock, m, span{seq, seq}, seq).set([]any{"skew_ms", skew}, "the time in the id and the clock of the event differ by %s", signed(skew))
	}
}

// checkCatchUp compares the log index with earlier ones of the group.
func (l *Linter) checkCatchUp(m *move, seq uint64, p checkpoint.CatchUp) {
	if m.group.seq == 0 {
		return
	}
	highest, known := l.indexes[m.group.value]
	if known && p.LearnerLogIndexAtAdd < highest.value {
		l.report(logIndexBack, m, span{highest.seq, seq}, highest.seq, seq).set(
			[]any{"source_group", m.group.value, "learner_log_index_at_add", p.LearnerLogIndexAtAdd, "highest", highest.value},
			"the log of group %d was at index %d, and at %d before", m.group.value, p.LearnerLogIndexAtAdd, highest.value)
		return
	}
	l.indexes[m.group.value] = mark{p.LearnerLogIndexAtAdd, seq}
}
