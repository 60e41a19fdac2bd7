package migrationlog_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// D2, D5: Scrub finds damage of the files while writers continue, before a restart depends on them.
// The store continues to serve its rows from memory.
func TestD5_Scrub(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 500, ScrubRate: 1 << 30})
	report, err := s.Scrub(t.Context())
	require.NoError(t, err)
	require.True(t, report.Clean(), "the log is empty")
	underWay := segmentPath(dir, firstSegment)
	require.NoError(t, os.WriteFile(underWay, []byte{0x60, 0xF7}, 0o600))
	report, err = s.Scrub(t.Context())
	require.NoError(t, err)
	require.True(t, report.Clean(), "the first write may be incomplete")
	require.NoError(t, os.Truncate(underWay, 0))
	first := checkpoint.NewMigrationID()
	upsert(t, s, first, 0, addLearner)
	for range 20 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}

	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c, _ := checkpoint.New(checkpoint.NewMigrationID(), 0, catchUp, 1)
				s.Upsert(c)
			}
		}
	})
	for range 20 {
		report, err := s.Scrub(t.Context())
		require.NoError(t, err)
		require.True(t, report.Clean())
		require.GreaterOrEqual(t, report.FramesOK, uint64(21))
	}
	close(stop)
	writer.Wait()
	s.AwaitSnapshot() // its file, and those of the summaries, would be part of the comparison
	s.AwaitSummaries()

	flip(t, segmentPath(dir, firstSegment), 60)
	before := hashes(t, dir)
	report, err = s.Scrub(t.Context())
	require.NoError(t, err)
	require.Equal(t, []replay.SeqRange{{First: 1, Last: 1}}, report.Lost)
	require.Equal(t, report.Lost, report.AcknowledgedLost)
	require.Equal(t, before, hashes(t, dir))
	_, ok := s.Get(first)
	require.True(t, ok, "the row is in memory")
	require.NoError(t, s.Health())

	// Write the lost rows again, as the doc comment of Scrub says, before the writer is killed.
	lost, _ := s.Row(first)
	_, err = s.Upsert(lost.Checkpoint, migrationlog.Confirm(), migrationlog.Strict(), migrationlog.IfSeq(lost.Seq))
	require.NoError(t, err)
	s.AwaitSnapshot()
	killed := copyDir(t, dir)
	require.NoError(t, os.RemoveAll(filepath.Join(killed, "snapshots")))
	next := open(t, killed, nil)
	got, ok := next.Get(first)
	require.True(t, ok)
	require.Equal(t, lost.Checkpoint, got)
	require.Equal(t, projection.Superseded, next.Doubt(first))

	active := segments(t, dir)
	require.NoError(t, os.Truncate(active[len(active)-1], 10))
	report, err = s.Scrub(t.Context())
	require.NoError(t, err)
	require.Equal(t, s.Stats().LastSeq, report.AcknowledgedLost[1].Last, "the last segment is checked too")

	require.NoError(t, s.Close())
	_, err = s.Scrub(t.Context())
	require.ErrorIs(t, err, migrationlog.ErrClosed)
}

// Scrub obeys its rate and its context.
func TestScrub_Paced(t *testing.T) {
	s := open(t, t.TempDir(), &migrationlog.Options{ScrubRate: 1})
	upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := s.Scrub(ctx) // it would take minutes
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
