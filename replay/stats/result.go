package stats

import (
	"migrationlog/checkpoint"
	"migrationlog/replay/histogram"
)

// Result has the statistics of a history. All times are in Unix milliseconds, and all durations in
// milliseconds, except those with the ending US, which are in microseconds.
type Result struct {
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	FromMS   uint64 `json:"from_ms"`
	ToMS     uint64 `json:"to_ms"`
	Events   uint64 `json:"events"`
	Lost     uint64 `json:"lost"`     // events
	Negative uint64 `json:"negative"` // durations in which a clock went back: they are not measured

	Moves   Moves        `json:"moves"`
	Phases  []PhaseStays `json:"phases"`
	Done    Durations    `json:"done"` // from the first event to Complete
	Aborted Durations    `json:"aborted"`
	Paused  Pauses       `json:"writes_paused"`

	Slowest []SlowStay `json:"slowest,omitempty"` // the longest stays, the longest one first

	// The lists have a limit, see maxGroups. The Other fields have the sums of the rest. They are nil
	// if the lists are complete.
	Nodes        []Node   `json:"nodes"`
	OtherNodes   *Node    `json:"other_nodes,omitempty"`
	VShards      []VShard `json:"vshards"`
	OtherVShards *VShard  `json:"other_vshards,omitempty"`
	Minutes      []Minute `json:"minutes"`
	OtherMinutes *Minute  `json:"other_minutes,omitempty"`
	Reasons      []Reason `json:"reasons"`
	OtherReasons *Reason  `json:"other_reasons,omitempty"`
}

// Outcomes counts moves by their outcome. Each move is counted once: when it reaches Complete, is
// aborted or is removed, or else at the end of the history.
type Outcomes struct {
	Done              uint64 `json:"done"`
	Aborted           uint64 `json:"aborted"`
	RemovedUnfinished uint64 `json:"removed_unfinished"`
	EndLost           uint64 `json:"end_lost"` // the event that ended it is lost
	InFlight          uint64 `json:"in_flight"`
}

func (m *Outcomes) add(o outcome) {
	switch o {
	case done:
		m.Done++
	case aborted:
		m.Aborted++
	case removedUnfinished:
		m.RemovedUnfinished++
	case endLost:
		m.EndLost++
	case inFlight:
		m.InFlight++
	}
}

// Moves has the number of moves and of checkpoints with an attempt above 0.
type Moves struct {
	Total uint64 `json:"total"`
	Outcomes
	Retries uint64 `json:"retries"`
}

func (m *Moves) add(o outcome) {
	m.Total++
	m.Outcomes.add(o)
}

// Durations has the percentiles of durations, at nearest rank.
type Durations struct {
	Count   uint64 `json:"count"`
	P50MS   uint64 `json:"p50_ms"`
	P90MS   uint64 `json:"p90_ms"`
	P99MS   uint64 `json:"p99_ms"`
	MaxMS   uint64 `json:"max_ms"`
	TotalMS uint64 `json:"total_ms"`
}

func durationsOf(h *histogram.Histogram) Durations {
	return Durations{h.Count(), h.Quantile(0.50), h.Quantile(0.90), h.Quantile(0.99), h.Max(), h.Sum()}
}

// PhaseStays has the closed stays of one phase: those that a later event of the move ended.
type PhaseStays struct {
	Phase checkpoint.Phase `json:"phase"`
	Durations
	Share float64 `json:"share"` // of the time in all phases, from 0 to 1
}

// Pauses has the pauses of writes that the moves reported when they were done.
type Pauses struct {
	Count          uint64  `json:"count"`
	P50US          uint64  `json:"p50_us"`
	P90US          uint64  `json:"p90_us"`
	P99US          uint64  `json:"p99_us"`
	MaxUS          uint64  `json:"max_us"`
	TotalUS        uint64  `json:"total_us"`
	MaxBudgetShare float64 `json:"max_budget_share"` // the largest share of a move's budget that its pause used
}

// Node has the moves from and to one node.
type Node struct {
	Node     uint64 `json:"node"`
	AsSource uint64 `json:"as_source"`
	AsTarget uint64 `json:"as_target"`
	Outcomes        // of the moves to the node
	// Unreachable counts the aborted moves to the node whose reason has the word "unreachable".
	Unreachable uint64 `json:"unreachable"`
}

// VShard has the moves of one vShard.
type VShard struct {
	VShardID uint32 `json:"vshard_id"`
	Moves
	DoneMS      uint64 `json:"done_total_ms"` // of the moves that were done
	MaxDoneMS   uint64 `json:"done_max_ms"`
	PausedUS    uint64 `json:"paused_total_us"`
	MaxPausedUS uint64 `json:"paused_max_us"`
}

// Minute has the events with a clock in one minute.
type Minute struct {
	FromMS      uint64 `json:"from_ms"`
	Events      uint64 `json:"events"`
	Started     uint64 `json:"started"`
	Done        uint64 `json:"done"`
	Aborted     uint64 `json:"aborted"`
	Retries     uint64 `json:"retries"`
	MaxInFlight uint64 `json:"max_in_flight"` // the most moves in flight after one of the events
	PausedUS    uint64 `json:"paused_total_us"`
}

type reasonKey struct {
	reason string
	phase  checkpoint.Phase
}

// Reason has the aborts with one reason in one phase.
type Reason struct {
	Reason string           `json:"reason"`
	Phase  checkpoint.Phase `json:"phase,omitempty"` // the move's phase when it was aborted; 0 if it is lost
	Count  uint64           `json:"count"`
	// MinMS and MaxMS are the shortest and the longest stay in the phase that such an abort ended.
	MinMS    uint64            `json:"min_ms"`
	MaxMS    uint64            `json:"max_ms"`
	ByTarget map[uint64]uint64 `json:"by_target"` // aborts by target node

	measured uint64
}
