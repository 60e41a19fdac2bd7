package timeline_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/timeline"
)

// The picture begins with the history, and not with the clocks of the restored rows. A restored row in
// flight has a bar from the edge. A digest is in no lane.
func TestTimeline_Restored(t *testing.T) {
	const startMS = 1_795_399_697_000
	row := func(n byte, p checkpoint.Payload, atMS uint64) replay.Record {
		c, err := checkpoint.New(checkpoint.MigrationID{1, 15: n}, 1, p, startMS+atMS)
		require.NoError(t, err)
		f := checkpoint.RestoredFacts{HasTarget: true, TargetNode: 2, FurthestPhase: c.Phase(), RecordedPhases: 1 << (c.Phase() - 1)}
		f.HighestAttempt[c.Phase()-1] = 1
		return replay.Record{Seq: uint64(n), Event: checkpoint.Restored{Checkpoint: c, Facts: f}}
	}
	b := timeline.NewBuilder(timeline.Options{})
	for _, r := range []replay.Record{
		row(1, checkpoint.Complete{VShardID: 1}, 0), row(2, checkpoint.CatchUp{VShardID: 2}, 100),
		{Seq: 3, Event: checkpoint.Digest{TimestampMS: startMS + 5000}},
		{Seq: 4, PrevSeq: 2, Event: checkpoint.Aborted{MigrationID: checkpoint.MigrationID{1, 15: 2}, Reason: "x", TimestampMS: startMS + 9000}},
	} {
		require.NoError(t, b.Add(r))
	}
	picture, err := b.Timeline(nil)
	require.NoError(t, err)
	require.EqualValues(t, startMS+5000, picture.FromMS)
	require.EqualValues(t, startMS+9000, picture.ToMS)
	require.Len(t, picture.Lanes, 1)
	require.Equal(t, "2", picture.Lanes[0].Label)
	require.Len(t, picture.Lanes[0].Moves[0].Bars, 1)

	var page strings.Builder
	require.NoError(t, picture.WritePage(&page, timeline.PageOptions{}))
	require.Contains(t, page.String(), `"kinds":["checkpoint","abort","remove","abort_begun","compensated","epoch_raised","unknown","restored"]`)
	require.Contains(t, page.String(), `"row at CatchUp"`)
}
