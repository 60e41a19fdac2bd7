package story_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// restoredRow is a row at CatchUp, try 2, of a move whose furthest phase was Cutover.
func restoredRow(t *testing.T, seq uint64, abort *checkpoint.RestoredAbort) replay.Record {
	c, err := checkpoint.New(newID(1), 1, checkpoint.CatchUp{VShardID: 7}, 1000)
	require.NoError(t, err)
	return replay.Record{Seq: seq, RaftIndex: 40, Event: checkpoint.Restored{Checkpoint: c, Facts: checkpoint.RestoredFacts{
		SourceNode: 1, TargetNode: 2, SourceGroup: 9, WritePauseBudgetUS: 5, HasTarget: true, HasSource: true,
		FurthestPhase: checkpoint.PhaseCutover, RecordedPhases: 0b10011, HighestAttempt: [6]uint32{1: 1}, Abort: abort,
	}}}
}

func digest(seq uint64) replay.Record {
	return replay.Record{Seq: seq, RaftIndex: 50, Event: checkpoint.Digest{TimestampMS: 2000}}
}

// A restored row begins an incarnation whose earlier events are in other logs. Its facts are known, and
// the stay in its phase, but not its beginning. A digest belongs to no move.
func TestHistory_Restored(t *testing.T) {
	h := addAll(
		restoredRow(t, 1, nil), digest(2),
		checkpointAt(t, 3, 1, 3000, checkpoint.PromoteLearner{VShardID: 7, TargetNode: 2, SourceGroup: 9}),
		checkpointAt(t, 4, 3, 4000, checkpoint.Complete{VShardID: 7}),
	)
	require.Equal(t, story.Done, h.Outcome)
	require.Len(t, h.Chapters, 1)
	c := h.Chapters[0]
	require.True(t, c.Restored)
	require.False(t, c.BeginningLost)
	require.False(t, c.HasBeginning())
	require.Empty(t, h.Lost)
	require.False(t, c.HasTook, "the beginning is not known")
	require.Zero(t, c.Retries, "the try was before the history")
	require.Equal(t, checkpoint.PhaseComplete, c.Furthest)
	require.Equal(t, []uint64{1, 2, 9, 5}, []uint64{c.SourceNode, c.TargetNode, c.SourceGroup, c.PauseBudgetUS})
	require.Len(t, c.Entries, 3)
	require.EqualValues(t, 2000, *c.Entries[0].StayedMS)
	require.Equal(t, checkpoint.PhaseCatchUp, c.Phases[0].Phase)
	require.EqualValues(t, 2000, c.Phases[0].StayedMS)

	h = addAll(restoredRow(t, 1, nil), digest(2))
	require.Equal(t, story.InFlight, h.Outcome)
	require.EqualValues(t, 1000, h.ForMS)
	require.True(t, h.Chapters[0].Phases[0].Open)
}

// The abort of a restored row may have begun before the history. It ended the stay then, unless the row
// is newer.
func TestHistory_RestoredAbort(t *testing.T) {
	undo := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 2}}
	abort := &checkpoint.RestoredAbort{Reason: "stale", Compensations: undo, Done: []bool{true}, TimestampMS: 1700}
	end := replay.Record{Seq: 3, PrevSeq: 1, Event: checkpoint.Aborted{MigrationID: newID(1), Reason: "stale", Compensations: undo, TimestampMS: 5000}}
	h := addAll(restoredRow(t, 1, abort), digest(2), end)
	require.Equal(t, story.Aborted, h.Outcome)
	require.EqualValues(t, 700, *h.Chapters[0].Entries[0].StayedMS)
	require.EqualValues(t, 700, h.Chapters[0].Phases[0].StayedMS)

	abort.BeforeCheckpoint = true
	h = addAll(restoredRow(t, 1, abort), digest(2), end)
	require.EqualValues(t, 4000, *h.Chapters[0].Entries[0].StayedMS)
}
