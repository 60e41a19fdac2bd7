package stats_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
	"migrationlog/replay/stats"
)

// restored returns a history that begins with rows at Complete and at LeadershipTransfer.
func restored(t *testing.T) []replay.Record {
	row := func(n byte, p checkpoint.Payload) checkpoint.Event {
		c, err := checkpoint.New(checkpoint.MigrationID{1, 15: n}, 0, p, 1000)
		require.NoError(t, err)
		return checkpoint.Restored{Checkpoint: c, Facts: checkpoint.RestoredFacts{FurthestPhase: c.Phase(), RecordedPhases: 1 << (c.Phase() - 1)}}
	}
	complete, err := checkpoint.New(checkpoint.MigrationID{1, 15: 2}, 0, checkpoint.Complete{VShardID: 2, ActualPauseUS: 7}, 200_500)
	require.NoError(t, err)
	return []replay.Record{
		{Seq: 1, Event: row(1, checkpoint.Complete{VShardID: 1, ActualPauseUS: 9})},
		{Seq: 2, Event: row(2, checkpoint.LeadershipTransfer{VShardID: 2})},
		{Seq: 3, Event: checkpoint.Digest{TimestampMS: 200_000}},
		{Seq: 4, PrevSeq: 2, Event: checkpoint.Upserted{Checkpoint: complete}},
	}
}

// A restored row counts as a move. Its pause, its duration and its time are those of events before the
// history.
func TestStats_Restored(t *testing.T) {
	s := stats.New(stats.Options{})
	for _, r := range restored(t) {
		s.Add(r)
	}
	r := s.Result()
	require.EqualValues(t, 2, r.Moves.Total)
	require.EqualValues(t, 2, r.Moves.Done)
	require.EqualValues(t, 4, r.Events)
	require.EqualValues(t, []uint64{200_000, 200_500}, []uint64{r.FromMS, r.ToMS})
	require.EqualValues(t, 1, r.Paused.Count)
	require.Zero(t, r.Done.Count)
	require.Len(t, r.Minutes, 1)
	require.EqualValues(t, 2, r.Minutes[0].Events)
	require.EqualValues(t, 0, r.Minutes[0].Started)
}

// The states between two restored rows never existed, so none of them is a quiet point.
func TestQuiet_Restored(t *testing.T) {
	q, f := stats.NewQuiet(), replay.NewFold(segment.Directory{}, nil)
	for _, r := range restored(t) {
		f.Add(r)
		q.Add(f, r)
	}
	q.Finish()
	sum := q.Summary()
	require.EqualValues(t, 1, sum.Points)
	require.EqualValues(t, 4, sum.Last.Seq)
}
