package migrationlog_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// D5: whether a lost event beyond the watermark was acknowledged stays unknown, even after later
// writes and later losses.
func TestD5_AcknowledgementOfALostTailIsUnknown(t *testing.T) {
	dir, _, ends := smallLog(t)
	flip(t, segmentPath(dir, firstSegment), ends[4]-1)
	setWatermark(t, dir, 4)
	for range 2 {
		s := open(t, dir, nil)
		require.Empty(t, s.Report().AcknowledgedLost)
		require.NoError(t, s.Close()) // without a write
	}
	for range 3 {
		s := open(t, dir, nil)
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		require.NoError(t, s.Close())
		require.Equal(t, []replay.SeqRange{{First: 5, Last: 5}}, verify(t, dir).Lost)
		require.Empty(t, verify(t, dir).AcknowledgedLost)
	}
	second := segmentPath(dir, "00000000000000000006")
	flip(t, second, 60) // the first frame of the next writer
	for range 2 {
		report := verify(t, dir)
		require.Equal(t, []replay.SeqRange{{First: 5, Last: 5}, {First: 6, Last: 6}}, report.Lost)
		require.Equal(t, []replay.SeqRange{{First: 6, Last: 6}}, report.AcknowledgedLost)
		require.NoError(t, open(t, dir, nil).Close())
	}
}

// D3, D5: a missing last segment that was durable is reported, and its numbers are not used again.
func TestD3_LastSegmentMissing(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 200})
	for range 6 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.Remove(segmentPath(dir, "00000000000000000004")))
	for range 2 {
		s = open(t, dir, nil)
		require.Equal(t, []replay.SeqRange{{First: 4, Last: 6}}, s.Report().Lost)
		require.Equal(t, []replay.SeqRange{{First: 4, Last: 6}}, s.Report().AcknowledgedLost)
		require.Len(t, s.Report().InDoubt, 3)
		require.NoError(t, s.Close())
	}
	s = open(t, dir, nil)
	require.EqualValues(t, 7, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq)
}
