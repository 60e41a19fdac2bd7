package migrationlog_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// D5: a lost event puts a migration in doubt if it may have been the last event of that migration.
// If a later event of the migration exists, the migration is superseded.
func TestD5_InDoubt(t *testing.T) {
	dir, events, ends := smallLog(t) // upsert a, upsert b, upsert a, abort b, upsert a
	a, b := events[0].Migration(), events[1].Migration()
	type doubts map[checkpoint.MigrationID]projection.Doubt
	for lost, want := range map[int]struct {
		inDoubt, superseded []checkpoint.MigrationID
		each                doubts
	}{
		1: {nil, ids{a}, doubts{a: projection.Superseded, b: projection.None}},       // 3 links to it, so it was a's
		2: {nil, nil, doubts{a: projection.None, b: projection.Superseded}},          // 4 links to it, so it was b's; b is aborted
		3: {nil, ids{a}, doubts{a: projection.Superseded, b: projection.None}},       // 5 links to it, so it was not b's
		4: {ids{b}, ids{a}, doubts{a: projection.Superseded, b: projection.InDoubt}}, // it was b's abort, so b has a row again
		5: {ids{a}, nil, doubts{a: projection.InDoubt, b: projection.InDoubt}},       // a's last event, but it may also have begun b again
	} {
		damaged := copyDir(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(damaged, "snapshots")))
		flip(t, segmentPath(damaged, firstSegment), ends[lost-1]-1)
		s := open(t, damaged, nil)
		report := s.Report()
		require.EqualValues(t, lost, report.Lost[0].First)
		require.Equal(t, want.inDoubt, report.InDoubt, "seq %d lost", lost)
		require.Equal(t, want.superseded, report.Superseded, "seq %d lost", lost)
		require.Equal(t, report.Lost, report.AcknowledgedLost)
		for id, doubt := range want.each {
			require.Equal(t, doubt, s.Doubt(id), "seq %d lost", lost)
			if r, ok := s.Row(id); ok {
				require.Equal(t, doubt, r.Doubt)
			}
		}
		require.NoError(t, s.Close())
	}
}

// A write with Confirm ends a doubt, even if the write changes nothing.
func TestD5_ConfirmEndsADoubt(t *testing.T) {
	dir, events, ends := smallLog(t)
	a, b := events[0].Migration(), events[1].Migration()
	flip(t, segmentPath(dir, firstSegment), ends[4]-1) // the last event of a; b was aborted before it
	s := open(t, dir, nil)
	latest, _ := s.Get(a)
	require.Equal(t, projection.InDoubt, s.Doubt(a))
	require.Equal(t, projection.InDoubt, s.Doubt(b))
	receipt, err := s.Upsert(latest)
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Seq: 3, Duplicate: true}, receipt)
	receipt, err = s.Abort(b, "not there", nil)
	require.NoError(t, err)
	require.Zero(t, receipt.Seq)

	// A wrong IfSeq is a conflict, not a retry, as long as the doubt remains.
	_, err = s.Upsert(latest, migrationlog.Confirm(), migrationlog.IfSeq(1))
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	_, err = s.Abort(b, "not there", nil, migrationlog.Confirm(), migrationlog.IfSeq(2))
	require.ErrorIs(t, err, migrationlog.ErrConflict)
	_, err = s.Remove(checkpoint.NewMigrationID(), migrationlog.IfSeq(5))
	require.ErrorIs(t, err, migrationlog.ErrConflict, "the expected row may be the lost event")
	require.EqualValues(t, 5, s.Stats().LastSeq)

	for range 2 { // the second call is a retry
		receipt, err = s.Upsert(latest, migrationlog.Confirm(), migrationlog.IfSeq(3))
		require.NoError(t, err)
		require.EqualValues(t, 6, receipt.Seq)
	}
	receipt, err = s.Abort(b, "not there", nil, migrationlog.Confirm(), migrationlog.IfSeq(0))
	require.NoError(t, err)
	require.EqualValues(t, 7, receipt.Seq)
	for range 2 {
		require.Equal(t, projection.Superseded, s.Doubt(a))
		require.Equal(t, projection.Superseded, s.Doubt(b))
		s = reopen(t, s, dir)
	}
	require.Empty(t, s.Report().InDoubt)
}

// Facts from earlier phases are marked as uncertain if an abort in between may be lost.
func TestD5_FactsAfterALossAreUncertain(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	id := checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	upsert(t, s, id, 0, addLearner)
	_, err := s.Abort(id, "gone", nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	b, err := os.ReadFile(segmentPath(dir, firstSegment))
	require.NoError(t, err)
	flip(t, segmentPath(dir, firstSegment), len(b)-1)

	s = open(t, dir, nil)
	require.Equal(t, []checkpoint.MigrationID{id}, s.Report().InDoubt)
	upsert(t, s, id, 0, catchUp)
	for range 2 {
		r, _ := s.Row(id)
		require.True(t, r.Facts.HasSource)
		require.True(t, r.Facts.SourceUncertain)
		require.True(t, r.Facts.TargetUncertain)
		s = reopen(t, s, dir)
	}
	upsert(t, s, id, 0, checkpoint.PromoteLearner{VShardID: 22, TargetNode: 3, SourceGroup: 9})
	r, _ := s.Row(id)
	require.False(t, r.Facts.TargetUncertain, "a later event has set it again")
	require.True(t, r.Facts.SourceUncertain)
	upsert(t, s, id, 1, addLearner)
	r, _ = s.Row(id)
	require.False(t, r.Facts.SourceUncertain, "a later event has set it again")
}

// D2, D4, D5: a log is copied while a writer runs, and damaged in three places. Open succeeds,
// reports the three places and the migrations in doubt, and keeps the damaged bytes.
func TestD5_CopyBesideAWriter(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 4000})
	for range 100 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}
	last := checkpoint.NewMigrationID()
	ended := make(chan error)
	go func() {
		var err error
		for attempt := uint32(0); err == nil; attempt++ {
			var c checkpoint.Checkpoint
			if c, err = checkpoint.New(last, attempt, catchUp, 1); err == nil {
				_, err = s.Upsert(c)
			}
		}
		ended <- err
	}()
	copied := copyDir(t, dir)
	for verify(t, copied).LostCount() > 0 { // the copy may have half of the write in progress
		report := verify(t, copied)
		require.Empty(t, report.AcknowledgedLost)
		require.EqualValues(t, 1, report.LostCount())
		require.Greater(t, report.Lost[0].First, uint64(100), "the events before the damage are intact")
		copied = copyDir(t, dir)
	}
	require.NoError(t, os.RemoveAll(filepath.Join(copied, "snapshots")))
	require.NoError(t, os.RemoveAll(filepath.Join(copied, segment.SummaryDir)))
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-ended, migrationlog.ErrClosed)

	reader, err := replay.Open(copied)
	require.NoError(t, err)
	lost := map[uint64]checkpoint.MigrationID{7: {}, 50: {}, 93: {}}
	damaged := map[string]bool{}
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		require.Nil(t, r.Damage)
		if _, ok := lost[r.Seq]; ok {
			lost[r.Seq] = r.Event.Migration()
			flip(t, segmentPath(copied, r.Segment), int(r.Offset+r.Length/2))
			damaged[r.Segment] = true
		}
	}
	require.Len(t, damaged, 3)

	was := hashes(t, copied)
	opened := open(t, copied, nil)
	report := opened.Report()
	require.Equal(t, []replay.SeqRange{{First: 7, Last: 7}, {First: 50, Last: 50}, {First: 93, Last: 93}}, report.Lost)
	require.Equal(t, report.Lost, report.AcknowledgedLost)
	require.Len(t, report.InDoubt, 90, "the first 93 without the lost ones")
	for _, id := range lost {
		require.Equal(t, projection.InDoubt, opened.Doubt(id), "it has no row")
	}
	require.NotContains(t, report.InDoubt, last)
	kept := hashes(t, filepath.Join(copied, "quarantine"))
	for name := range damaged {
		require.Equal(t, was["wal/"+name], kept[name])
	}
	upsert(t, opened, checkpoint.NewMigrationID(), 0, catchUp)
}

// D5: a reader of a log whose segments are missing reports the lost events. A reader that opened
// the log before the writer started uses the values that the writer wrote.
func TestD5_ReadersKnowWhatIsGone(t *testing.T) {
	dir, events, ends := smallLog(t)
	require.NoError(t, os.Remove(segmentPath(dir, firstSegment)))
	report := verify(t, dir)
	require.Equal(t, []replay.SeqRange{{First: 1, Last: 5}}, report.AcknowledgedLost)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	view, err := reader.StateAt(t.Context(), replay.Point{})
	require.NoError(t, err)
	require.Equal(t, projection.InDoubt, view.Doubt(events[0].Migration()))

	dir, _, _ = smallLog(t)
	setWatermark(t, dir, 4)
	flip(t, segmentPath(dir, firstSegment), ends[4]-1)
	reader, err = replay.Open(dir)
	require.NoError(t, err)
	s := open(t, dir, nil) // skips the number
	upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	fold := reader.NewFold()
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		fold.Add(r)
	}
	require.Equal(t, []replay.SeqRange{{First: 5, Last: 5}}, fold.Report().Lost)
	require.Empty(t, fold.Report().AcknowledgedLost)
	report, err = reader.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, []replay.SeqRange{{First: 5, Last: 5}}, report.Lost)
	require.Empty(t, report.AcknowledgedLost)
}
