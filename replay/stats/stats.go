package stats

import (
	"cmp"
	"slices"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/histogram"
	"migrationlog/replay/story"
)

// Options select the moves and the period. The zero value selects all.
type Options struct {
	// SinceMS and UntilMS are the period, in Unix milliseconds; UntilMS 0 is no bound. A stay and a
	// move count if the event that ends them has a clock in the period. The history ends before the
	// first event with a clock above UntilMS, as with replay.Point. A move in flight there counts.
	SinceMS, UntilMS uint64
	VShards          []uint32
	Nodes            []uint64 // the move's source or target
	// Slowest is the number of the longest stays that are listed.
	Slowest int
}

// Stats collects the statistics of a history. It is not safe for concurrent use.
type Stats struct {
	options Options
	tracker *story.Tracker
	pastEnd bool // an event after UntilMS was added

	finished      bool // Result was called
	result        Result
	stays         [checkpoint.PhaseComplete + 1]histogram.Histogram // by phase
	done, aborted histogram.Histogram
	pauses        pauses
	nodes         groups[uint64, Node]
	vShards       groups[uint32, VShard]
	minutes       groups[uint64, Minute]
	reasons       groups[reasonKey, Reason]
	reasonBytes   int
	slowest       slowest

	// decided has the incarnations that are counted as done and have not ended. flying has those that
	// are in flight. Both have only selected ones.
	decided, flying map[*story.Incarnation]struct{}
}

// maxGroups limits the nodes, vShards and minutes with counts of their own, and maxReasons the
// reasons. Otherwise a history with a new value in each event would need memory for each event.
const (
	maxGroups      = 50_000
	maxReasons     = 1000
	maxReasonBytes = 1 << 20
)

// New returns the statistics of an empty history.
func New(o Options) *Stats {
	return &Stats{
		options: o, tracker: story.NewTracker(story.Options{}),
		nodes: newGroups[uint64, Node](maxGroups), vShards: newGroups[uint32, VShard](maxGroups),
		minutes: newGroups[uint64, Minute](maxGroups), reasons: newGroups[reasonKey, Reason](maxReasons),
		slowest: slowest{limit: o.Slowest},
		decided: map[*story.Incarnation]struct{}{}, flying: map[*story.Incarnation]struct{}{},
	}
}

// Add adds the next record of the history. Damage must be added too.
func (s *Stats) Add(r replay.Record) {
	if s.pastEnd {
		return
	}
	if r.Damage != nil {
		s.result.Lost += r.Damage.Lost()
		s.tracker.Add(r)
		return
	}
	if s.options.UntilMS != 0 && r.WallMS() > s.options.UntilMS {
		s.pastEnd = true
		return
	}
	c := s.tracker.Add(r)
	if c.EndLost != nil && s.forget(c.EndLost) && s.selects(c.EndLost) && s.inPeriod(r.WallMS()) {
		s.addOutcome(c.EndLost, endLost)
	}
	if c.Incarnation == nil && s.filtersMoves() || c.Incarnation != nil && !s.selects(c.Incarnation) {
		return
	}
	if s.inPeriod(r.WallMS()) {
		s.addEvent(r)
	}
	if c.Incarnation != nil {
		s.addChange(r, c)
	}
}

func (s *Stats) filtersMoves() bool { return len(s.options.VShards)+len(s.options.Nodes) > 0 }

func (s *Stats) inPeriod(ms uint64) bool { return ms >= s.options.SinceMS }

// selects reports whether the options select the move, as far as its events name its nodes.
func (s *Stats) selects(i *story.Incarnation) bool {
	o := s.options
	return (len(o.VShards) == 0 || slices.Contains(o.VShards, i.VShardID)) &&
		(len(o.Nodes) == 0 || i.HasSource && slices.Contains(o.Nodes, i.SourceNode) || i.HasTarget && slices.Contains(o.Nodes, i.TargetNode))
}

// addEvent counts an event. A restored row has the clock of an event before the history, which the
// period does not include.
func (s *Stats) addEvent(record replay.Record) {
	r, ms := &s.result, record.WallMS()
	if r.Events++; r.Events == 1 {
		r.FirstSeq = record.Seq
	}
	if r.LastSeq = record.Seq; record.Kind() == replay.KindRestored {
		return
	}
	if r.FromMS == 0 || ms < r.FromMS {
		r.FromMS = ms
	}
	r.ToMS = max(r.ToMS, ms)
	s.minuteOf(ms).Events++
}

func (s *Stats) minuteOf(ms uint64) *Minute { return s.minutes.of(ms / minuteMS * minuteMS) }

const minuteMS = 60_000

// addChange counts the effect of one record on a selected incarnation.
func (s *Stats) addChange(r replay.Record, c story.Change) {
	i, atMS, counts := c.Incarnation, r.WallMS(), s.inPeriod(r.WallMS())
	if i.InFlight() {
		s.flying[i] = struct{}{}
	} else {
		delete(s.flying, i)
	}
	_, wasDecided := s.decided[i]
	switch {
	case c.Ended:
		delete(s.decided, i)
	case i.Outcome == story.Done:
		s.decided[i] = struct{}{}
	}
	if !counts {
		return
	}
	if r.Kind() == replay.KindRestored { // its pause and its times are those of events before the history
		if !wasDecided && !i.InFlight() {
			s.addOutcome(i, outcomeOf(i))
		}
		return
	}
	minute := s.minuteOf(atMS)
	minute.MaxInFlight = max(minute.MaxInFlight, uint64(len(s.flying)))
	if c.Began && i.HasBeginning() {
		minute.Started++
	}
	if i.Last.IsRetry() {
		s.result.Moves.Retries++
		minute.Retries++
		s.vShards.of(i.VShardID).Retries++
	}
	if c.Stay != nil {
		s.addDuration(&s.stays[c.Stay.From.Phase], c.Stay.MS)
		s.slowest.add(*c.Stay)
	}
	if i.Outcome == story.Aborted {
		s.addReason(i, c.Stay)
	}
	if !wasDecided && !i.InFlight() {
		s.addDecided(i, r, minute)
	}
}

// addDecided counts a move with the record that completes, aborts or removes it.
func (s *Stats) addDecided(i *story.Incarnation, r replay.Record, minute *Minute) {
	s.addOutcome(i, outcomeOf(i))
	tookMS := int64(r.WallMS() - i.StartedMS)
	switch i.Outcome {
	case story.Done:
		minute.Done++
		if i.HasBeginning() {
			s.addDuration(&s.done, tookMS)
			v := s.vShards.of(i.VShardID)
			v.DoneMS, v.MaxDoneMS = v.DoneMS+uint64(max(tookMS, 0)), max(v.MaxDoneMS, uint64(max(tookMS, 0)))
		}
		if u, ok := r.Event.(checkpoint.Upserted); ok {
			if p, ok := u.Checkpoint.Payload.(checkpoint.Complete); ok {
				s.addPause(i, p.ActualPauseUS, minute)
			}
		}
	case story.Aborted:
		minute.Aborted++
		if i.HasBeginning() {
			s.addDuration(&s.aborted, tookMS)
		}
	}
}

// addDuration counts a duration, unless a clock went back in it.
func (s *Stats) addDuration(h *histogram.Histogram, ms int64) {
	if ms < 0 {
		s.result.Negative++
		return
	}
	h.Add(uint64(ms))
}

func (s *Stats) addPause(i *story.Incarnation, us uint64, minute *Minute) {
	s.pauses.add(us)
	v := s.vShards.of(i.VShardID)
	v.PausedUS, v.MaxPausedUS = v.PausedUS+us, max(v.MaxPausedUS, us)
	minute.PausedUS += us
	if i.HasSource && i.PauseBudgetUS > 0 {
		s.result.Paused.MaxBudgetShare = max(s.result.Paused.MaxBudgetShare, float64(us)/float64(i.PauseBudgetUS))
	}
}

// addReason counts an abort. The stay is the one that the abort ended, or nil if its length is not
// known.
func (s *Stats) addReason(i *story.Incarnation, stay *story.Stay) {
	key := reasonKey{i.Reason, i.Phase}
	g := s.reasons.m[key]
	if g == nil {
		if s.reasonBytes += len(i.Reason); s.reasonBytes > maxReasonBytes {
			s.reasons.limit = 0
		}
		if g = s.reasons.of(key); g.ByTarget == nil {
			g.ByTarget = map[uint64]uint64{}
		}
	}
	g.Count++
	if i.HasTarget && (g.ByTarget[i.TargetNode] > 0 || len(g.ByTarget) < maxReasons) {
		g.ByTarget[i.TargetNode]++
	}
	if stay != nil && stay.MS >= 0 {
		ms := uint64(stay.MS)
		if g.measured == 0 || ms < g.MinMS {
			g.MinMS = ms
		}
		g.MaxMS = max(g.MaxMS, ms)
		g.measured++
	}
}

// outcome is the way in which a move is counted.
type outcome int

const (
	done outcome = iota
	aborted
	removedUnfinished
	endLost
	inFlight
)

// outcomeOf returns the outcome of an incarnation that is not in flight.
func outcomeOf(i *story.Incarnation) outcome {
	switch i.Outcome {
	case story.Aborted:
		return aborted
	case story.RemovedUnfinished:
		return removedUnfinished
	}
	return done
}

// addOutcome counts a move in the whole log, for its vShard and for its nodes.
func (s *Stats) addOutcome(i *story.Incarnation, o outcome) {
	s.result.Moves.add(o)
	s.vShards.of(i.VShardID).Moves.add(o)
	if i.HasSource {
		s.nodes.of(i.SourceNode).AsSource++
	}
	if i.HasTarget {
		n := s.nodes.of(i.TargetNode)
		n.AsTarget++
		n.Outcomes.add(o)
		if o == aborted && strings.Contains(strings.ToLower(i.Reason), "unreachable") {
			n.Unreachable++
		}
	}
}

// forget removes an incarnation whose end is lost. It reports whether it was not counted yet.
func (s *Stats) forget(i *story.Incarnation) (uncounted bool) {
	_, wasDecided := s.decided[i]
	delete(s.decided, i)
	delete(s.flying, i)
	return !wasDecided
}

// addInFlight counts the moves that are in flight at the end of the history.
func (s *Stats) addInFlight() {
	for _, i := range s.tracker.Live() {
		if _, wasDecided := s.decided[i]; !wasDecided && i.InFlight() && s.selects(i) {
			s.addOutcome(i, inFlight)
		}
	}
}

// Result returns the statistics of all records so far. No record may be added afterwards.
func (s *Stats) Result() Result {
	if !s.finished {
		s.finished = true
		s.addInFlight()
	}
	r := s.result
	var total uint64
	for p := range s.stays {
		total += s.stays[p].Sum()
	}
	for p := checkpoint.PhaseAddLearner; p <= checkpoint.PhaseComplete; p++ {
		h := &s.stays[p]
		stay := PhaseStays{Phase: p, Durations: durationsOf(h)}
		if total > 0 {
			stay.Share = float64(h.Sum()) / float64(total)
		}
		r.Phases = append(r.Phases, stay)
	}
	r.Done, r.Aborted = durationsOf(&s.done), durationsOf(&s.aborted)
	r.Slowest = s.slowest.sorted()
	share := r.Paused.MaxBudgetShare
	r.Paused = s.pauses.durations()
	r.Paused.MaxBudgetShare = share
	r.Nodes, r.OtherNodes = s.nodes.sorted(func(n *Node, node uint64) { n.Node = node }, func(a, b Node) int { return cmp.Compare(a.Node, b.Node) })
	r.VShards, r.OtherVShards = s.vShards.sorted(func(v *VShard, id uint32) { v.VShardID = id }, func(a, b VShard) int { return cmp.Compare(a.VShardID, b.VShardID) })
	r.Minutes, r.OtherMinutes = s.minutes.sorted(func(m *Minute, ms uint64) { m.FromMS = ms }, func(a, b Minute) int { return cmp.Compare(a.FromMS, b.FromMS) })
	r.Reasons, r.OtherReasons = s.reasons.sorted(func(g *Reason, k reasonKey) { g.Reason, g.Phase = k.reason, k.phase }, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Phase, b.Phase))
	})
	return r
}
