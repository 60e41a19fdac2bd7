package story_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/recovery"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

// historyOf returns the history of the migration whose id ends with the digits, measured to the end
// of the log. A coordinator starts a day later.
func historyOf(t *testing.T, reader *replay.Reader, end string) story.History {
	c, fold := story.NewCollector(), reader.NewFold()
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		fold.Add(r)
		id, _ := r.Migration()
		c.Add(r, fold.View, strings.HasSuffix(id.String(), end))
	}
	return c.History(story.Inputs{View: fold.View, ToMS: c.EndMS(), NowMS: c.EndMS() + 86_400_000})
}

// A migration that waits in CatchUp has been there for 978 ms, longer than 94 % of the others.
func TestHistory_InFlight(t *testing.T) {
	h := historyOf(t, recording(t), "781d20")
	require.Equal(t, story.InFlight, h.Outcome)
	require.EqualValues(t, 978, h.ForMS)
	require.EqualValues(t, 1342, h.SlowerThan.Samples)
	require.InDelta(t, 0.9434, h.SlowerThan.Share, 0.0001)
	require.Equal(t, recovery.Abort, h.OnRestart.Action)
	require.Equal(t, []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 11, PeerID: 6}}, h.OnRestart.Compensations)

	require.Len(t, h.Chapters, 1)
	phases := h.Chapters[0].Phases
	require.Len(t, phases, 2)
	require.EqualValues(t, 3, phases[0].StayedMS)
	require.InDelta(t, 0.5829, phases[0].SlowerThan.Share, 0.0001)
	require.False(t, phases[0].Open)
	require.EqualValues(t, 978, phases[1].StayedMS)
	require.True(t, phases[1].Open)
	require.EqualValues(t, 66, phases[1].SlowerThan.UsualMS)
	require.EqualValues(t, 3, *h.Chapters[0].Entries[0].StayedMS)
	require.Nil(t, h.Chapters[0].Entries[1].StayedMS)
	require.False(t, h.Chapters[0].HasTook)

	require.EqualValues(t, 52, h.Before.Moves)
	require.EqualValues(t, 9, h.Before.Aborted)
	require.Equal(t, "927ca0", h.Before.Last.ID.String()[30:])
	require.EqualValues(t, 312, h.Before.TookMS)
}

// The stay in each phase of an aborted migration has its tries. The abort carried out the steps that
// its furthest phase demands.
func TestHistory_Aborted(t *testing.T) {
	h := historyOf(t, recording(t), "7a909")
	require.Equal(t, story.Aborted, h.Outcome)
	require.Nil(t, h.OnRestart)
	c := h.Chapters[0]
	require.EqualValues(t, 35, c.TookMS)
	require.Equal(t, []story.Try{{Attempt: 0, StayedMS: 12}, {Attempt: 1, StayedMS: 2}}, c.Phases[1].Tries)
	require.EqualValues(t, 14, c.Phases[1].StayedMS)
	require.InDelta(t, 0.9232, c.Phases[0].SlowerThan.Share, 0.0001)
	require.InDelta(t, 0.0872, c.Phases[1].SlowerThan.Share, 0.0001)
	require.Equal(t, c.Compensations, c.Demanded)
	require.Equal(t, []checkpoint.Compensation{
		{Kind: checkpoint.RemoveVoter, GroupID: 6, PeerID: 1}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 6, PeerID: 2},
	}, c.Demanded)
}

// addAll returns the history of all records.
func addAll(records ...replay.Record) story.History {
	c, fold := story.NewCollector(), replay.NewFold(segment.Directory{}, nil)
	for _, r := range records {
		fold.Add(r)
		c.Add(r, fold.View, r.Damage == nil)
	}
	return c.History(story.Inputs{View: fold.View, ToMS: c.EndMS(), NowMS: c.EndMS()})
}

func checkpointAt(t *testing.T, seq, prev, ms uint64, p checkpoint.Payload) replay.Record {
	c, err := checkpoint.New(newID(1), 0, p, ms)
	require.NoError(t, err)
	return replay.Record{Seq: seq, PrevSeq: prev, Event: checkpoint.Upserted{Checkpoint: c}}
}

// Each incarnation is a chapter with an outcome of its own. A stay during which the clock went back is
// negative.
func TestHistory_Incarnations(t *testing.T) {
	add := checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}
	h := addAll(
		checkpointAt(t, 1, 0, 2000, add),
		checkpointAt(t, 2, 1, 1000, checkpoint.CatchUp{VShardID: 7}),
		replay.Record{Seq: 3, PrevSeq: 2, Event: checkpoint.Removed{MigrationID: newID(1), TimestampMS: 2300}},
		checkpointAt(t, 4, 0, 3000, checkpoint.Complete{VShardID: 7}),
		replay.Record{Seq: 5, PrevSeq: 4, Event: checkpoint.EpochRaised{MigrationID: newID(1), TimestampMS: 3100, Epoch: 2}},
	)
	require.Equal(t, story.Done, h.Outcome)
	require.Len(t, h.Chapters, 2)
	require.Equal(t, story.RemovedUnfinished, h.Chapters[0].Outcome)
	require.EqualValues(t, -1000, *h.Chapters[0].Entries[0].StayedMS)
	require.EqualValues(t, 300, h.Chapters[0].TookMS)
	require.True(t, h.Chapters[1].HasTook)
	require.Zero(t, h.Chapters[1].TookMS)
	require.EqualValues(t, 100, h.Chapters[1].Phases[0].StayedMS) // up to the end of the log
	require.True(t, h.Chapters[1].Phases[0].Open)
	require.Equal(t, recovery.CleanUp, h.OnRestart.Action)
	require.False(t, h.Facts.HasTarget)
}

// A raised epoch after the end of a migration does not change its outcome.
func TestHistory_EpochAfterTheEnd(t *testing.T) {
	h := addAll(
		checkpointAt(t, 1, 0, 2000, checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}),
		replay.Record{Seq: 2, PrevSeq: 1, Event: checkpoint.Aborted{MigrationID: newID(1), TimestampMS: 2300, Reason: "x"}},
		replay.Record{Seq: 3, Event: checkpoint.EpochRaised{MigrationID: newID(1), TimestampMS: 3100, Epoch: 2}},
	)
	require.Equal(t, story.Aborted, h.Outcome)
	require.Len(t, h.Chapters, 2)
	require.Nil(t, h.Chapters[1].Incarnation)
}

// A lost event to which a later one links is a part of the history. The stay before it is not known. If the
// event that ended an incarnation is lost, the next one follows.
func TestHistory_Lost(t *testing.T) {
	add := checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}
	h := addAll(
		checkpointAt(t, 1, 0, 1000, add),
		replay.Record{Damage: &replay.Damage{Segment: "1", FirstSeq: 2, LastSeq: 3}},
		checkpointAt(t, 4, 3, 2000, checkpoint.PromoteLearner{VShardID: 7, TargetNode: 2, SourceGroup: 7}),
		checkpointAt(t, 5, 0, 3000, add),
	)
	require.Equal(t, []uint64{3}, h.Lost)
	first := h.Chapters[0]
	require.Nil(t, first.Entries[0].StayedMS)
	require.EqualValues(t, 3, first.Entries[1].LostBefore)
	require.True(t, first.EndLost)
	require.False(t, first.HasTook)
	require.False(t, h.Chapters[1].EndLost)
	require.Equal(t, story.InFlight, h.Outcome)
}

// An abort that was begun ends the stay in its phase.
func TestHistory_AbortUnderWay(t *testing.T) {
	add := checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}
	undo := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 7, PeerID: 2}}
	h := addAll(
		checkpointAt(t, 1, 0, 1000, add),
		replay.Record{Seq: 2, PrevSeq: 1, Event: checkpoint.AbortBegun{MigrationID: newID(1), TimestampMS: 1700, Reason: "stale", Compensations: undo}},
		replay.Record{Seq: 3, PrevSeq: 2, Event: checkpoint.Compensated{MigrationID: newID(1), TimestampMS: 1750}},
	)
	require.Equal(t, story.InFlight, h.Outcome)
	require.EqualValues(t, 750, h.ForMS)
	phase := h.Chapters[0].Phases[0]
	require.EqualValues(t, 700, phase.StayedMS)
	require.False(t, phase.Open)
	require.EqualValues(t, 50, *h.Chapters[0].Entries[1].StayedMS)
	require.Equal(t, recovery.AbortUnfinished, h.OnRestart.Reason)
	require.Empty(t, h.OnRestart.Compensations)
}

// Attempts count from 0, and the tries of all views from 1.
func TestTryNumber(t *testing.T) {
	require.Equal(t, uint64(1), story.TryNumber(0))
	require.Equal(t, uint64(1<<32), story.TryNumber(math.MaxUint32))
	for attempt, digit := range map[uint32]byte{0: '1', 1: '2', 8: '9', 9: '9', math.MaxUint32: '9'} {
		require.Equal(t, digit, story.TryDigit(attempt), "attempt %d", attempt)
	}
}
