package stats_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/stats"
)

// history builds the records of a log.
type history struct {
	t       *testing.T
	records []replay.Record
	last    map[checkpoint.MigrationID]uint64
	seq     uint64
}

func newHistory(t *testing.T) *history {
	return &history{t: t, last: map[checkpoint.MigrationID]uint64{}}
}

func id(n int) checkpoint.MigrationID {
	return checkpoint.MigrationID{1, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
}

func (h *history) add(n int, e checkpoint.Event, ends bool) {
	h.seq++
	h.records = append(h.records, replay.Record{Seq: h.seq, PrevSeq: h.last[id(n)], Event: e, Segment: "00000000000000000001"})
	h.last[id(n)] = h.seq
	if ends {
		delete(h.last, id(n))
	}
}

func (h *history) upsert(n int, atMS uint64, attempt uint32, p checkpoint.Payload) {
	c, err := checkpoint.New(id(n), attempt, p, atMS)
	require.NoError(h.t, err)
	h.add(n, checkpoint.Upserted{Checkpoint: c}, false)
}

func (h *history) abort(n int, atMS uint64, reason string) {
	h.add(n, checkpoint.Aborted{MigrationID: id(n), Reason: reason, TimestampMS: atMS}, true)
}

func (h *history) remove(n int, atMS uint64) {
	h.add(n, checkpoint.Removed{MigrationID: id(n), TimestampMS: atMS}, true)
}

// lose replaces the last event by damage.
func (h *history) lose() {
	h.records[len(h.records)-1] = replay.Record{Damage: &replay.Damage{FirstSeq: h.seq, LastSeq: h.seq, Segment: "00000000000000000001"}}
}

func (h *history) stats(o stats.Options) stats.Result {
	s := stats.New(o)
	for _, r := range h.records {
		s.Add(r)
	}
	require.Equal(h.t, s.Result(), s.Result())
	return s.Result()
}

func addLearner(vshard uint32, source, target uint64) checkpoint.AddLearner {
	return checkpoint.AddLearner{VShardID: vshard, SourceNode: source, TargetNode: target, SourceGroup: 7, WritePauseBudgetUS: 1000}
}

const base = 1_795_399_680_000 // a full minute

// twoMoves is a move of vShard 1 that is done, one of vShard 2 that is aborted in the next minute,
// and one of vShard 1 that is in flight.
func twoMoves(t *testing.T) *history {
	h := newHistory(t)
	h.upsert(1, base, 0, addLearner(1, 3, 4))
	h.upsert(1, base+10, 0, checkpoint.CatchUp{VShardID: 1})
	h.upsert(2, base+20, 0, addLearner(2, 4, 3))
	h.upsert(1, base+30, 1, checkpoint.CatchUp{VShardID: 1})
	h.upsert(1, base+100, 0, checkpoint.Complete{VShardID: 1, ActualPauseUS: 250, GhostStubInstalled: true})
	h.remove(1, base+105)
	h.upsert(3, base+59_000, 0, addLearner(1, 4, 5))
	h.abort(2, base+61_020, "node 3 is Unreachable")
	return h
}

// Each move is counted once, with its outcome, and each closed stay with its phase.
func TestStats(t *testing.T) {
	r := twoMoves(t).stats(stats.Options{})
	require.Equal(t, stats.Moves{Total: 3, Outcomes: stats.Outcomes{Done: 1, Aborted: 1, InFlight: 1}, Retries: 1}, r.Moves)
	require.EqualValues(t, 8, r.Events)
	require.EqualValues(t, base, r.FromMS)
	require.EqualValues(t, base+61_020, r.ToMS)
	require.Equal(t, stats.Durations{Count: 1, P50MS: 100, P90MS: 100, P99MS: 100, MaxMS: 100, TotalMS: 100}, r.Done)
	require.EqualValues(t, 61_000, r.Aborted.MaxMS)
	counts := map[checkpoint.Phase][3]uint64{}
	for _, p := range r.Phases {
		counts[p.Phase] = [3]uint64{p.Count, p.MaxMS, p.TotalMS}
	}
	require.Equal(t, [3]uint64{2, 61_000, 61_010}, counts[checkpoint.PhaseAddLearner])
	require.Equal(t, [3]uint64{2, 70, 90}, counts[checkpoint.PhaseCatchUp])
	require.Equal(t, [3]uint64{1, 5, 5}, counts[checkpoint.PhaseComplete])
	require.Equal(t, stats.Pauses{Count: 1, P50US: 250, P90US: 250, P99US: 250, MaxUS: 250, TotalUS: 250, MaxBudgetShare: 0.25}, r.Paused)
	require.Equal(t, []stats.Node{
		{Node: 3, AsSource: 1, AsTarget: 1, Outcomes: stats.Outcomes{Aborted: 1}, Unreachable: 1},
		{Node: 4, AsSource: 2, AsTarget: 1, Outcomes: stats.Outcomes{Done: 1}},
		{Node: 5, AsTarget: 1, Outcomes: stats.Outcomes{InFlight: 1}},
	}, r.Nodes)
	require.Equal(t, []stats.VShard{
		{VShardID: 1, Moves: stats.Moves{Total: 2, Outcomes: stats.Outcomes{Done: 1, InFlight: 1}, Retries: 1}, DoneMS: 100, MaxDoneMS: 100, PausedUS: 250, MaxPausedUS: 250},
		{VShardID: 2, Moves: stats.Moves{Total: 1, Outcomes: stats.Outcomes{Aborted: 1}}},
	}, r.VShards)
	require.Equal(t, []stats.Minute{
		{FromMS: base, Events: 7, Started: 3, Done: 1, Retries: 1, MaxInFlight: 2, PausedUS: 250},
		{FromMS: base + 60_000, Events: 1, Aborted: 1, MaxInFlight: 1},
	}, r.Minutes)
	require.Len(t, r.Reasons, 1)
	require.Equal(t, map[uint64]uint64{3: 1}, r.Reasons[0].ByTarget)
	require.EqualValues(t, 61_000, r.Reasons[0].MinMS)
	require.Nil(t, r.OtherNodes)
}

// A stay and a move count in the period of the event that ends them. The history ends before the
// first event after the period.
func TestStats_Filters(t *testing.T) {
	h := twoMoves(t)
	r := h.stats(stats.Options{SinceMS: base + 60_000})
	require.Equal(t, stats.Outcomes{Aborted: 1, InFlight: 1}, r.Moves.Outcomes)
	require.Zero(t, r.Done.Count)
	require.EqualValues(t, 1, r.Phases[0].Count)

	r = h.stats(stats.Options{UntilMS: base + 59_000})
	require.Equal(t, stats.Outcomes{Done: 1, InFlight: 2}, r.Moves.Outcomes)
	require.EqualValues(t, 7, r.LastSeq)

	r = h.stats(stats.Options{VShards: []uint32{2}})
	require.Equal(t, stats.Outcomes{Aborted: 1}, r.Moves.Outcomes)
	require.EqualValues(t, 2, r.Events)

	r = h.stats(stats.Options{Nodes: []uint64{5}})
	require.Equal(t, stats.Outcomes{InFlight: 1}, r.Moves.Outcomes)
}

// A stay whose end is lost is not measured, and neither is one in which a clock went back. A move
// whose end is lost is counted.
func TestStats_Lost(t *testing.T) {
	h := newHistory(t)
	h.upsert(1, base, 0, addLearner(1, 3, 4))
	h.upsert(1, base-5, 0, checkpoint.CatchUp{VShardID: 1})
	h.abort(1, base+30, "lost")
	h.lose()
	h.upsert(1, base+40, 0, addLearner(1, 3, 4))
	h.abort(1, base+50, "again")
	r := h.stats(stats.Options{})
	require.EqualValues(t, 1, r.Lost)
	require.EqualValues(t, 1, r.Negative)
	require.Equal(t, stats.Moves{Total: 2, Outcomes: stats.Outcomes{Aborted: 1, EndLost: 1}}, r.Moves)
	require.EqualValues(t, 1, r.Phases[0].Count)
	require.Zero(t, r.Phases[1].Count)
	require.Len(t, r.Reasons, 1)
}

// The history of a move that is at Complete twice, or that is aborted there, counts it once.
func TestStats_CountsAMoveOnce(t *testing.T) {
	h := newHistory(t)
	h.upsert(1, base, 0, addLearner(1, 3, 4))
	h.upsert(1, base+10, 0, checkpoint.Complete{VShardID: 1})
	h.upsert(1, base+20, 1, checkpoint.Complete{VShardID: 1})
	h.upsert(1, base+30, 2, checkpoint.Cutover{VShardID: 1, SourceGroup: 7, NewLeaderNodeID: 4})
	h.abort(1, base+40, "too late")
	r := h.stats(stats.Options{})
	require.Equal(t, stats.Moves{Total: 1, Outcomes: stats.Outcomes{Done: 1}, Retries: 2}, r.Moves)
	require.EqualValues(t, 1, r.Done.Count)
	require.EqualValues(t, 1, r.Reasons[0].Count)
}

// A history with a new reason, node, vShard and minute in each move does not need memory for each of
// them: the rest is counted together.
func TestStats_Limits(t *testing.T) {
	const moves = 51_000
	h := newHistory(t)
	s := stats.New(stats.Options{})
	for n := range moves {
		h.records = h.records[:0]
		ms := base + uint64(n)*60_000
		h.upsert(n, ms, 0, addLearner(uint32(n), 1_000_000+uint64(n), math.MaxUint64-uint64(n)))
		h.abort(n, ms, fmt.Sprint("reason ", n))
		for _, r := range h.records {
			s.Add(r)
		}
	}
	r := s.Result()
	require.Len(t, r.Nodes, 50_000)
	require.EqualValues(t, moves, uint64(len(r.Nodes))/2+r.OtherNodes.AsTarget)
	require.Len(t, r.VShards, 50_000)
	require.EqualValues(t, 1000, r.OtherVShards.Aborted)
	require.Len(t, r.Minutes, 50_000)
	require.EqualValues(t, 1000, r.OtherMinutes.Started)
	require.Len(t, r.Reasons, 1000)
	require.EqualValues(t, moves-1000, r.OtherReasons.Count)
}
