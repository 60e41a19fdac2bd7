package triage

import (
	"cmp"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// Counts has the counts of a whole history, or of a window of it.
type Counts struct {
	Events       uint64 // of the whole history
	FromMS, ToMS uint64 // lowest and highest wall clock of the whole history; 0 if there is no event
	SinceMS      uint64 // beginning of the window; 0: the whole history
	Moves        Moves
	Aborts       []AbortGroup // the largest first
	Baseline     *story.Baseline
}

// Totals counts the moves of a history. It needs memory for each incarnation that has not ended, for
// each node, and for up to maxAbortGroups reasons.
type Totals struct {
	events       uint64
	fromMS, toMS uint64
	sinceMS      uint64
	baseline     story.Baseline
	tracker      *story.Tracker
	moves        Moves
	groups       map[groupKey]*AbortGroup
	targets      map[uint64]uint64                 // moves by target
	inPhase      map[*story.Incarnation]story.Stay // the last stay of incarnations whose abort is under way
}

// Moves counts incarnations.
type Moves struct {
	Total    uint64 `json:"total"`
	Done     uint64 `json:"done"` // reached Complete, also if they were removed later
	Aborted  uint64 `json:"aborted"`
	InFlight uint64 `json:"in_flight"`
	Retried  uint64 `json:"retried"` // checkpoints with an attempt above 0, except confirmations
	// RemovedUnfinished counts the moves that were removed before Complete.
	RemovedUnfinished uint64 `json:"removed_unfinished"`
	// EndLost counts the moves that were not done and ended with a lost event.
	EndLost uint64 `json:"end_lost"`
}

// AbortGroup has the aborts with the same reason in the same phase.
type AbortGroup struct {
	Reason string `json:"reason"`
	// Phase is the phase of the row that was aborted. It is null if the log has lost its events.
	Phase *checkpoint.Phase `json:"phase"`
	Count uint64            `json:"count"`
	// AfterMS is the shortest and the longest time between the row and the abort, or its first record. It
	// is null if events between them are lost.
	AfterMS  *[2]int64         `json:"after_ms"`
	ByTarget map[uint64]uint64 `json:"by_target"` // by node
	// StandsOut lists the nodes with at least five of the aborts, whose share of the aborts among the
	// moves to the node is over twice the share among all moves. It is null if the moves to each node
	// were not counted.
	StandsOut []uint64 `json:"stands_out"`
}

type groupKey struct {
	reason string
	phase  checkpoint.Phase
}

// maxAbortGroups limits the number of groups of aborts. If reasons contain a number or an id, each
// abort would be a group of its own.
const maxAbortGroups = 1000

// OtherReasons is the reason of the last group if there are more reasons than maxAbortGroups.
const OtherReasons = "(other reasons)"

// NewTotals returns the totals at the beginning of a history. If sinceMS is not 0, they count only
// the moves with a record at or after that time. The baseline has all stays.
func NewTotals(sinceMS uint64) *Totals {
	return &Totals{
		sinceMS: sinceMS, tracker: story.NewTracker(story.Options{}), groups: map[groupKey]*AbortGroup{},
		targets: map[uint64]uint64{}, inPhase: map[*story.Incarnation]story.Stay{},
	}
}

// Add adds the next record.
func (t *Totals) Add(r replay.Record) {
	c := t.tracker.Add(r)
	if r.Damage == nil {
		t.events++
	}
	if ms := r.WallMS(); ms != 0 {
		t.toMS = max(t.toMS, ms)
		if t.fromMS == 0 || ms < t.fromMS {
			t.fromMS = ms
		}
	}
	if lost := c.EndLost; lost != nil {
		delete(t.inPhase, lost)
		if lost.LastMS >= t.sinceMS {
			t.countEndLost(lost)
		}
	}
	if c.Stay != nil {
		t.baseline.Add(*c.Stay)
		if k := c.Stay.To.Kind; k == replay.KindAbortBegun || k == replay.KindCompensated {
			t.inPhase[c.Incarnation] = *c.Stay
		} else if !c.Ended {
			delete(t.inPhase, c.Incarnation)
		}
	}
	if row, ok := r.Event.(checkpoint.Restored); ok && row.Facts.Abort != nil && !row.Facts.Abort.BeforeCheckpoint {
		ms := int64(row.Facts.Abort.TimestampMS - row.Checkpoint.TimestampMS)
		t.inPhase[c.Incarnation] = story.Stay{Incarnation: c.Incarnation, From: c.Incarnation.Last, MS: ms}
	}
	if !c.Ended {
		return
	}
	if c.Incarnation.LastMS >= t.sinceMS {
		t.count(c.Incarnation)
		if c.Incarnation.Outcome == story.Aborted {
			t.addAbort(c)
		}
	}
	delete(t.inPhase, c.Incarnation)
}

// count counts a move with its present outcome.
func (t *Totals) count(i *story.Incarnation) {
	m := &t.moves
	switch i.Outcome {
	case story.InFlight:
		m.InFlight++
	case story.Done, story.Removed:
		m.Done++
	case story.Aborted:
		m.Aborted++
	case story.RemovedUnfinished:
		m.RemovedUnfinished++
	}
	t.countMove(i)
}

// countEndLost counts a move whose end is lost.
func (t *Totals) countEndLost(i *story.Incarnation) {
	if i.Outcome == story.Done {
		t.moves.Done++
	} else {
		t.moves.EndLost++
	}
	t.countMove(i)
}

func (t *Totals) countMove(i *story.Incarnation) {
	t.moves.Total++
	t.moves.Retried += uint64(i.Retries)
	if i.HasTarget {
		t.targets[i.TargetNode]++
	}
}

func (t *Totals) addAbort(c story.Change) {
	i := c.Incarnation
	key := groupKey{i.Reason, i.Phase}
	if t.groups[key] == nil && len(t.groups) >= maxAbortGroups {
		key = groupKey{OtherReasons, 0}
	}
	g := t.groups[key]
	if g == nil {
		g = newAbortGroup(key)
		t.groups[key] = g
	}
	g.Count++
	if i.HasTarget {
		g.ByTarget[i.TargetNode]++
	}
	stay, ok := t.inPhase[i]
	if c.Stay != nil {
		stay, ok = *c.Stay, true
	}
	if ok {
		g.addAfter(stay.MS, stay.MS)
	}
}

func newAbortGroup(key groupKey) *AbortGroup {
	g := &AbortGroup{Reason: key.reason, ByTarget: map[uint64]uint64{}, StandsOut: []uint64{}}
	if key.phase != 0 {
		g.Phase = &key.phase
	}
	return g
}

// addAfter adds the shortest and the longest time before some aborts.
func (g *AbortGroup) addAfter(shortestMS, longestMS int64) {
	if g.AfterMS == nil {
		g.AfterMS = &[2]int64{shortestMS, longestMS}
		return
	}
	g.AfterMS[0], g.AfterMS[1] = min(g.AfterMS[0], shortestMS), max(g.AfterMS[1], longestMS)
}

// Counts returns the counts after the last record. It may be called once.
func (t *Totals) Counts() Counts {
	for _, i := range t.tracker.Live() {
		if i.InFlight() || i.LastMS >= t.sinceMS {
			t.count(i)
		}
	}
	for _, g := range t.groups {
		for node, n := range g.ByTarget {
			if n >= minAbortsOfNode && n*t.moves.Total > 2*g.Count*t.targets[node] {
				g.StandsOut = append(g.StandsOut, node)
			}
		}
		slices.Sort(g.StandsOut)
	}
	return Counts{Events: t.events, FromMS: t.fromMS, ToMS: t.toMS, SinceMS: t.sinceMS, Moves: t.moves, Aborts: sorted(t.groups), Baseline: &t.baseline}
}

// minAbortsOfNode is the smallest number of aborts of a node that stands out.
const minAbortsOfNode = 5

// sorted returns the groups, the largest first.
func sorted(groups map[groupKey]*AbortGroup) []AbortGroup {
	list := make([]AbortGroup, 0, len(groups))
	for _, g := range groups {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b AbortGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason), cmp.Compare(phaseOf(a), phaseOf(b)))
	})
	return list
}

func phaseOf(g AbortGroup) checkpoint.Phase {
	if g.Phase == nil {
		return 0
	}
	return *g.Phase
}
