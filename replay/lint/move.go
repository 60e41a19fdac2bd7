package lint

import (
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// move is the state of an incarnation that the rules need.
type move struct {
	inc      *story.Incarnation
	vshardID uint32 // the first one that a checkpoint named
	inFlight bool

	latest      kept   // the latest checkpoint, or zero
	latestMS    uint64 // its clock
	furthest    checkpoint.Phase
	furthestSeq uint64
	firstSeq    uint64                               // of the first checkpoint
	firstPhase  checkpoint.Phase                     // of the first checkpoint
	highest     [checkpoint.PhaseComplete + 1]uint32 // the highest attempt
	recorded    uint8                                // bit phase is set if a checkpoint has the phase
	kept        []kept

	// The first values that the incarnation has named, with their events.
	target, group, source mark
	otherTargets          []uint64 // the targets that later events named

	budget     mark // write pause of the last AddLearner, in us
	transferMS mark // clock of the last LeadershipTransfer
	cutoverMS  mark // clock of the first Cutover

	silenceMS uint64 // the sum of all silences at the latest checkpoint or abort step
	abortStep mark   // clock of the latest abort_begun or compensated, if no record follows it
	begun     *checkpoint.AbortBegun
	doneSteps map[uint32]bool
	tooLate   bool // abort-after-cutover has been found at abort_begun
}

// kept is a checkpoint with which later ones are compared.
type kept struct {
	seq     uint64
	phase   checkpoint.Phase
	attempt uint32
	payload checkpoint.Payload
}

// maxKept limits the checkpoints of an incarnation with which later ones are compared, so that a
// coordinator that tries again without end does not use up the memory.
const maxKept = 256

// addToMove checks a record that belongs to a move.
func (l *Linter) addToMove(c story.Change, r replay.Record) {
	id := c.Incarnation.ID
	if c.Began {
		l.moves[id] = &move{inc: c.Incarnation}
		l.began++
	}
	m := l.moves[id]
	if c.Stay != nil {
		l.checkStay(m, *c.Stay)
	}
	if !isConfirmation(c) {
		l.checkAbortStep(m, r)
	}
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		l.addCheckpoint(m, c.Incarnation.Last, e.Checkpoint)
	case checkpoint.AbortBegun:
		l.checkAbortBegun(m, r.Seq, e)
	case checkpoint.Compensated:
		if m.begun != nil {
			m.doneSteps[e.Step] = true
		}
	case checkpoint.Aborted:
		l.checkAborted(m, r.Seq, e)
	case checkpoint.Removed:
		l.checkRemoved(m, r.Seq)
	}
	if c.Ended {
		l.land(m)
		delete(l.moves, id)
	}
}

// reach returns the lowest seq of an event that may be missing from the incarnation. If the
// incarnation begins with AddLearner or with a restored row, nothing before that can be missing.
func (m *move) reach() uint64 {
	if m.firstPhase == checkpoint.PhaseAddLearner || m.inc.Restored {
		return m.inc.FirstSeq
	}
	return 1
}

// addCheckpoint checks a checkpoint. Of a confirmation, it checks only the names and the payload.
func (l *Linter) addCheckpoint(m *move, s story.Step, c checkpoint.Checkpoint) {
	switch s.Confirmation {
	case story.RestoresFacts:
		l.restoreFacts(m, s.Seq, c.Payload.(checkpoint.AddLearner))
	case story.ConfirmsRow, story.CorrectsRow:
		l.confirmRow(m, s, c)
	default:
		l.checkCheckpoint(m, s.Seq, c)
	}
}

// checkCheckpoint checks a checkpoint and then records it.
func (l *Linter) checkCheckpoint(m *move, seq uint64, c checkpoint.Checkpoint) {
	if m.firstSeq == 0 {
		m.firstSeq, m.firstPhase, m.vshardID = seq, c.Phase(), c.Payload.Shard()
		l.checkFirst(m)
	}
	l.checkOrder(m, seq, c)
	l.checkAttempt(m, seq, c)
	l.checkSame(m, seq, c)
	l.checkNames(m, seq, c.Payload)
	switch p := c.Payload.(type) {
	case checkpoint.AddLearner:
		l.checkAddLearner(m, seq, c.TimestampMS, p)
	case checkpoint.CatchUp:
		l.checkCatchUp(m, seq, p)
	case checkpoint.LeadershipTransfer:
		m.transferMS = mark{c.TimestampMS, seq}
		l.checkVoter(m, seq, p)
	case checkpoint.Cutover:
		if m.cutoverMS.seq == 0 {
			m.cutoverMS = mark{c.TimestampMS, seq}
		}
	case checkpoint.Complete:
		l.checkComplete(m, seq, p)
		l.checkPause(m, seq, p)
	}
	m.record(kept{seq, c.Phase(), c.Attempt, c.Payload})
	m.latestMS, m.silenceMS = c.TimestampMS, l.silenceMS
}

func (l *Linter) checkVoter(m *move, seq uint64, p checkpoint.LeadershipTransfer) {
	if !p.TargetIsVoter {
		l.report(notAVoter, m, span{seq, seq}, seq).set([]any{"new_leader_node_id", p.NewLeaderNodeID},
			"leadership goes to node %d, which is not a voter", p.NewLeaderNodeID)
	}
}

// record makes a checkpoint the latest one.
func (m *move) record(k kept) {
	if m.latest = k; k.phase > m.furthest {
		m.furthest, m.furthestSeq = k.phase, k.seq
	}
	m.highest[k.phase] = max(m.highest[k.phase], k.attempt)
	m.recorded |= 1 << k.phase
	switch len(m.kept) {
	case 0:
		m.kept = make([]kept, 0, checkpoint.PhaseComplete)
	case maxKept:
		m.kept = append(m.kept[:0], m.kept[1:]...)
	}
	m.kept = append(m.kept, k)
}

func (m *move) hasRecorded(p checkpoint.Phase) bool { return m.recorded&(1<<p) != 0 }

// seqOf returns the event of the latest checkpoint with the phase and the attempt.
func (m *move) seqOf(p checkpoint.Phase, attempt uint32) uint64 {
	for _, k := range slices.Backward(m.kept) {
		if k.phase == p && k.attempt == attempt {
			return k.seq
		}
	}
	return m.firstSeq
}

// checkFirst checks the first checkpoint of an incarnation, and begins its flight.
func (l *Linter) checkFirst(m *move) {
	seq := m.firstSeq
	switch m.inc.After {
	case replay.KindAbort:
		l.report(writeAfterAbort, m, span{seq, seq}, seq).set([]any{"phase", m.firstPhase}, "%s was written after an abort had ended the migration", m.firstPhase)
	case replay.KindRemove:
		l.report(writeAfterRemove, m, span{seq, seq}, seq).set([]any{"phase", m.firstPhase}, "%s was written after the migration had been removed", m.firstPhase)
	}
	l.begin(m, seq, m.firstPhase)
}

// begin begins the flight of a move, unless its first phase is Complete.
func (l *Linter) begin(m *move, seq uint64, first checkpoint.Phase) {
	v := l.vshardOf(m)
	for _, other := range v.flights {
		l.report(vshardOverlap, m, span{other.firstSeq, seq}, other.firstSeq, seq).set([]any{"other_migration_id", other.inc.ID, "other_phase", other.latest.phase},
			"migration %s of the same vShard is in flight, at %s", other.inc.ID, other.latest.phase)
	}
	if first != checkpoint.PhaseComplete {
		l.fly(m)
	}
}

// fly begins the flight of a move. It does not check the other flights of the vShard.
func (l *Linter) fly(m *move) {
	v := l.vshardOf(m)
	v.flights = append(v.flights, m)
	m.inFlight = true
	l.flying++
}

// vshard is the state of a vShard that the rules need.
type vshard struct {
	flights []*move
	aborts  []uint64 // seqs of the aborts since the last Complete, at most the first flappingAborts
	series  int      // number of these aborts
}

func (l *Linter) vshardOf(m *move) *vshard {
	v := l.vshards[m.vshardID]
	if v == nil {
		v = &vshard{}
		l.vshards[m.vshardID] = v
	}
	return v
}

// land ends the flight of a move.
func (l *Linter) land(m *move) {
	if !m.inFlight {
		return
	}
	v := l.vshardOf(m)
	v.flights = slices.DeleteFunc(v.flights, func(other *move) bool { return other == m })
	m.inFlight = false
	l.flying--
}

// checkOrder compares the phase with the phases before it.
func (l *Linter) checkOrder(m *move, seq uint64, c checkpoint.Checkpoint) {
	before, phase := m.latest, c.Phase()
	if before.seq != 0 && phase < before.phase && c.Attempt <= m.highest[phase] {
		l.report(phaseBack, m, span{before.seq, seq}, before.seq, seq).set(
			[]any{"phase", phase, "attempt", c.Attempt, "before_phase", before.phase, "highest_attempt", m.highest[phase]},
			"%s, try %d, after %s", phase, story.TryNumber(c.Attempt), before.phase)
	}
	seqs, lost := []uint64{seq}, span{m.reach(), seq}
	if m.furthestSeq != 0 {
		seqs, lost = []uint64{m.furthestSeq, seq}, span{m.furthestSeq, seq}
	}
	switch {
	case phase == checkpoint.PhasePromoteLearner && !m.hasRecorded(checkpoint.PhaseCatchUp):
		l.report(promoteBeforeCatchUp, m, span{m.reach(), seq}, seqs...).set([]any{"furthest_phase", phaseName(m.furthest)},
			"%s without a CatchUp before it", phase)
	case phase > m.furthest+1:
		l.report(phaseSkip, m, lost, seqs...).set([]any{"phase", phase, "furthest_phase", phaseName(m.furthest)}, "%s follows %s", phase, nameOr(m.furthest, "no checkpoint"))
	}
}

// phaseName returns the value of a fact: a phase, or nil for none.
func phaseName(p checkpoint.Phase) any {
	if p == 0 {
		return nil
	}
	return p
}

func nameOr(p checkpoint.Phase, none string) string {
	if p == 0 {
		return none
	}
	return p.String()
}

// checkAttempt compares the attempt with the attempts of the same phase.
func (l *Linter) checkAttempt(m *move, seq uint64, c checkpoint.Checkpoint) {
	before, phase, highest := m.latest, c.Phase(), m.highest[c.Phase()]
	if before.phase == phase && c.Attempt < before.attempt {
		l.report(attemptBack, m, span{before.seq, seq}, before.seq, seq).set([]any{"phase", phase, "attempt", c.Attempt, "before_attempt", before.attempt},
			"%s, try %d, after try %d", phase, story.TryNumber(c.Attempt), story.TryNumber(before.attempt))
	}
	switch {
	case !m.hasRecorded(phase) && c.Attempt > 0:
		since := max(before.seq, m.reach())
		l.report(attemptGap, m, span{since, seq}, seq).set([]any{"phase", phase, "attempt", c.Attempt, "highest_attempt", nil},
			"%s begins with try %d", phase, story.TryNumber(c.Attempt))
	case m.hasRecorded(phase) && c.Attempt > highest && c.Attempt-highest > 1:
		from := m.seqOf(phase, highest)
		l.report(attemptGap, m, span{from, seq}, from, seq).set([]any{"phase", phase, "attempt", c.Attempt, "highest_attempt", highest},
			"%s, try %d, and the last try before it is try %d", phase, story.TryNumber(c.Attempt), story.TryNumber(highest))
	}
	if c.Attempt > 0 {
		l.report(retry, m, span{seq, seq}, seq).set([]any{"phase", phase, "attempt", c.Attempt}, "%s, try %d", phase, story.TryNumber(c.Attempt))
	}
}

// checkSame compares the payload with that of the latest checkpoint of the same phase and attempt.
func (l *Linter) checkSame(m *move, seq uint64, c checkpoint.Checkpoint) {
	for _, k := range slices.Backward(m.kept) {
		if k.phase != c.Phase() || k.attempt != c.Attempt {
			continue
		}
		different := Differences(k.payload, c.Payload)
		switch {
		case len(different) > 0:
			l.duplicate(m, seq, k, different)
		case k.seq == m.latest.seq && !l.options.File:
			l.report(repeated, m, span{k.seq, seq}, k.seq, seq).set([]any{"phase", k.phase, "attempt", k.attempt}, "%s was written again", k.phase)
		}
		return
	}
}

func (l *Linter) duplicate(m *move, seq uint64, k kept, different []Difference) {
	severity := rules[duplicateDiffers].Severity
	if len(different) == 1 && different[0].Key == "started_at_hlc" {
		severity = Info
	}
	var keys []string
	for _, d := range different {
		keys = append(keys, d.Key)
	}
	l.reportAs(duplicateDiffers, severity, m, span{k.seq, seq}, k.seq, seq).set([]any{"phase", k.phase, "attempt", k.attempt, "differences", different},
		"%s, try %d, was written twice with another %s", k.phase, story.TryNumber(k.attempt), strings.Join(keys, ", "))
}

// Difference is a key of a payload that differs between two checkpoints of one phase.
type Difference struct {
	Key    string `json:"key"`
	Before any    `json:"before"`
	After  any    `json:"after"`
}

// Differences compares two payloads of the same phase.
func Differences(before, after checkpoint.Payload) []Difference {
	if before == after {
		return nil
	}
	var all []Difference
	a, b := reflect.ValueOf(before), reflect.ValueOf(after)
	for i := range a.NumField() {
		if x, y := a.Field(i).Interface(), b.Field(i).Interface(); x != y {
			all = append(all, Difference{a.Type().Field(i).Tag.Get("json"), x, y})
		}
	}
	return all
}

// checkNames compares the vShard and the nodes of a payload with the first ones of the incarnation.
func (l *Linter) checkNames(m *move, seq uint64, p checkpoint.Payload) {
	node, group, hasTarget := checkpoint.TargetOf(p)
	if m.target.seq == 0 && hasTarget {
		m.target, m.group = mark{node, seq}, mark{group, seq}
	}
	if hasTarget && node != m.target.value {
		l.report(targetChanged, m, span{m.target.seq, seq}, m.target.seq, seq).set([]any{"first_target", m.target.value, "target", node},
			"the target is node %d, and was node %d before", node, m.target.value)
		if !slices.Contains(m.otherTargets, node) && len(m.otherTargets) < maxKept {
			m.otherTargets = append(m.otherTargets, node)
		}
	}
	l.checkName(m, seq, "vshard_id", mark{uint64(m.vshardID), m.firstSeq}, uint64(p.Shard()))
	if hasTarget {
		l.checkName(m, seq, "source_group", m.group, group)
	}
	if add, ok := p.(checkpoint.AddLearner); ok {
		if m.source.seq == 0 {
			m.source = mark{add.SourceNode, seq}
		}
		l.checkName(m, seq, "source_node", m.source, add.SourceNode)
	}
}

func (l *Linter) checkName(m *move, seq uint64, key string, first mark, here uint64) {
	if here != first.value {
		l.report(moveChanged, m, span{first.seq, seq}, first.seq, seq).set([]any{"key", key, "first", first.value, "here", here},
			"%s is %d, and was %d before", key, here, first.value)
	}
}

// checkPause compares the pause of writes with its budget and with the clock.
func (l *Linter) checkPause(m *move, seq uint64, p checkpoint.Complete) {
	pause, budget := p.ActualPauseUS, m.budget.value
	facts := []any{"actual_pause_us", pause, "write_pause_budget_us", budget}
	switch {
	case m.budget.seq == 0:
	case pause > budget:
		l.report(pauseOverBudget, m, span{m.budget.seq, seq}, m.budget.seq, seq).set(facts, "writes were paused for %d us, and the budget is %d us", pause, budget)
	case pause > 0 && isNear(pause, budget):
		l.report(pauseNearBudget, m, span{m.budget.seq, seq}, m.budget.seq, seq).set(facts, "writes were paused for %d us of %d us", pause, budget)
	}
	if m.cutoverMS.seq != 0 && m.transferMS.seq != 0 {
		recordedMS := int64(m.cutoverMS.value - m.transferMS.value)
		if math.Abs(float64(pause)/1000-float64(recordedMS)) > 1000 {
			first := min(m.transferMS.seq, m.cutoverMS.seq)
			l.report(pauseUnlikeClock, m, span{first, seq}, first, max(m.transferMS.seq, m.cutoverMS.seq), seq).set([]any{"actual_pause_us", pause, "recorded_ms", recordedMS},
				"the pause is %d us, and %d ms passed between LeadershipTransfer and Cutover", pause, recordedMS)
		}
	}
}

// checkComplete checks the last phase and ends the flight.
func (l *Linter) checkComplete(m *move, seq uint64, p checkpoint.Complete) {
	if !p.GhostStubInstalled {
		l.report(stubMissing, m, span{seq, seq}, seq).set(nil, "the forwarding stub was not installed")
	}
	l.complete(m, seq)
	l.vshardOf(m).endSeries()
	l.land(m)
}

// isNear reports whether the pause is at least 80 % of the budget.
func isNear(pause, budget uint64) bool {
	pauseHigh, pauseLow := bits.Mul64(pause, 5)
	budgetHigh, budgetLow := bits.Mul64(budget, 4)
	return pauseHigh > budgetHigh || pauseHigh == budgetHigh && pauseLow >= budgetLow
}

// checkRemoved checks a removal.
func (l *Linter) checkRemoved(m *move, seq uint64) {
	if m.latest.seq != 0 && m.latest.phase != checkpoint.PhaseComplete {
		l.report(removeUnfinished, m, span{m.latest.seq, seq}, m.latest.seq, seq).set([]any{"phase", m.latest.phase}, "removed at %s", m.latest.phase)
	}
}
