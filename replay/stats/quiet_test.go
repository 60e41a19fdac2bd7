package stats_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
	"migrationlog/replay/stats"
)

func (h *history) quiet(until replay.Point) ([]stats.Interval, stats.QuietSummary) {
	fold := replay.NewFold(segment.Directory{}, nil)
	q := stats.NewQuiet()
	q.Until = until
	var list []stats.Interval
	for _, r := range h.records {
		fold.Add(r)
		if i := q.Add(fold, r); i != nil {
			list = append(list, *i)
		}
	}
	if i := q.Finish(); i != nil {
		list = append(list, *i)
	}
	return list, q.Summary()
}

func transfer(vshard uint32) checkpoint.LeadershipTransfer {
	return checkpoint.LeadershipTransfer{VShardID: vshard, SourceGroup: 7, NewLeaderNodeID: 4, TargetIsVoter: true}
}

// An interval runs from the event that makes the history quiet to the one that ends it.
func TestQuiet(t *testing.T) {
	h := newHistory(t)
	h.upsert(1, base, 0, addLearner(1, 3, 4))                 // 1: quiet
	h.upsert(1, base+10, 0, transfer(1))                      // 2
	h.upsert(2, base+20, 0, addLearner(2, 3, 4))              // 3
	h.upsert(1, base+30, 1, checkpoint.CatchUp{VShardID: 1})  // 4: a late writer does not undo the transfer
	h.upsert(1, base+40, 0, checkpoint.Complete{VShardID: 1}) // 5: quiet
	h.remove(1, base+50)                                      // 6
	h.upsert(2, base+45, 0, transfer(2))                      // 7: the clock went back
	h.abort(2, base+60, "x")                                  // 8: quiet
	list, sum := h.quiet(replay.Point{})
	require.Equal(t, []stats.Interval{
		{FirstSeq: 1, LastSeq: 1, EndSeq: 2, FromMS: base, ToMS: base + 10, MS: 10},
		{FirstSeq: 5, LastSeq: 6, EndSeq: 7, FromMS: base + 40, ToMS: base + 45, MS: 5},
		{FirstSeq: 8, LastSeq: 8, FromMS: base + 60, ToMS: base + 60},
	}, list)
	require.EqualValues(t, 3, sum.Intervals)
	require.EqualValues(t, 4, sum.Points)
	require.EqualValues(t, 15, sum.QuietMS)
	require.EqualValues(t, 60, sum.SpanMS)
	require.EqualValues(t, 1, sum.Longest.FirstSeq)
	require.Equal(t, &stats.QuietPoint{Seq: 8, AtMS: base + 60}, sum.Last)

	_, sum = h.quiet(replay.Point{Seq: 7})
	require.Equal(t, &stats.QuietPoint{Seq: 6, AtMS: base + 50}, sum.Last)
	_, sum = h.quiet(replay.Point{TimeMS: base + 30})
	require.Equal(t, &stats.QuietPoint{Seq: 1, AtMS: base}, sum.Last)
	_, sum = newHistory(t).quiet(replay.Point{})
	require.Nil(t, sum.Last)
	require.Nil(t, sum.Longest)
}

// After a lost event, the history is uncertainly quiet until a later event shows that it was not a
// LeadershipTransfer of a move in flight.
func TestQuiet_Lost(t *testing.T) {
	h := newHistory(t)
	h.upsert(1, base, 0, addLearner(1, 3, 4))
	h.upsert(2, base, 0, addLearner(2, 3, 4))
	h.upsert(1, base+10, 0, transfer(1))
	h.lose() // 3
	h.upsert(2, base+20, 0, checkpoint.CatchUp{VShardID: 2})
	h.upsert(1, base+30, 0, checkpoint.Cutover{VShardID: 1, SourceGroup: 7, NewLeaderNodeID: 4}) // names 3
	h.upsert(1, base+40, 0, checkpoint.Complete{VShardID: 1})
	list, sum := h.quiet(replay.Point{})
	require.Equal(t, []stats.Interval{
		{FirstSeq: 1, LastSeq: 4, EndSeq: 5, FromMS: base, ToMS: base + 30, MS: 30, Uncertain: true},
		{FirstSeq: 6, LastSeq: 6, FromMS: base + 40, ToMS: base + 40},
	}, list)
	require.EqualValues(t, 1, sum.UncertainIntervals)
	require.False(t, sum.Last.Uncertain)

	_, sum = h.quiet(replay.Point{Seq: 4})
	require.Equal(t, &stats.QuietPoint{Seq: 4, AtMS: base + 20, Uncertain: true}, sum.Last)
}
