package triage_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/recovery"
	"migrationlog/replay"
	"migrationlog/replay/histogram"
	"migrationlog/replay/triage"
)

// logOf returns a reader of a log with the events of an NDJSON file.
func logOf(t *testing.T, path string) *replay.Reader {
	reader, _ := logOfSize(t, path, 0)
	return reader
}

// logOfSize is like logOf with another size of the segments. It also returns the directory.
func logOfSize(t *testing.T, path string, segmentBytes int) (*replay.Reader, string) {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	dir := filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true, SegmentSize: segmentBytes})
	require.NoError(t, err)
	var events []checkpoint.Event
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		if events = append(events, r.Event); len(events) == 1000 {
			_, err := s.WriteAll(events)
			require.NoError(t, err)
			events = nil
		}
	}
	_, err = s.WriteAll(events)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	return reader, dir
}

// summaryOf returns the summary of a log. A coordinator starts the given time after its end.
func summaryOf(t *testing.T, reader *replay.Reader, sinceMS uint64, later time.Duration) triage.Summary {
	totals, fold := triage.NewTotals(sinceMS), reader.NewFold()
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		totals.Add(r)
		fold.Add(r)
	}
	counts := totals.Counts()
	return triage.New(counts, triage.Inputs{
		Log: reader.Manifest().UUID, Rows: fold.View.All(), Report: fold.Report(),
		NowMS: counts.ToMS + uint64(later.Milliseconds()), ForToMS: counts.ToMS,
	})
}

// The summary of the recording has the numbers that an independent program counted.
func TestNew_Recording(t *testing.T) {
	reader := logOf(t, "../../testdata/raft-moves.ndjson")
	s := summaryOf(t, reader, 0, 24*time.Hour)
	require.Equal(t, [2]uint64{1, 9502}, s.Seq)
	require.EqualValues(t, 1795399697649, s.FromMS)
	require.EqualValues(t, 107_656, s.ToMS-s.FromMS)
	require.Equal(t, triage.Moves{Total: 1485, Done: 1303, Aborted: 176, InFlight: 6, Retried: 128}, s.Moves)
	require.EqualValues(t, 325, s.NotRemoved)

	require.Len(t, s.Aborts, 2)
	first, second := s.Aborts[0], s.Aborts[1]
	require.Equal(t, "target node unreachable during catch-up", first.Reason)
	require.Equal(t, checkpoint.PhaseCatchUp, *first.Phase)
	require.EqualValues(t, 137, first.Count)
	require.Equal(t, [2]int64{2000, 2039}, *first.AfterMS)
	require.Equal(t, map[uint64]uint64{1: 19, 2: 15, 3: 13, 4: 18, 5: 16, 6: 13, 7: 14, 8: 21, 9: 8}, first.ByTarget)
	require.Empty(t, first.StandsOut)
	require.Equal(t, "operator cancelled the move", second.Reason)
	require.Equal(t, checkpoint.PhasePromoteLearner, *second.Phase)
	require.EqualValues(t, 39, second.Count)
	require.Equal(t, [2]int64{0, 1}, *second.AfterMS)
	require.Equal(t, map[uint64]uint64{1: 6, 2: 7, 3: 4, 4: 3, 5: 7, 6: 2, 7: 1, 8: 5, 9: 4}, second.ByTarget)

	require.Len(t, s.InFlight, 6)
	longest := s.InFlight[0]
	require.Equal(t, "781d20", longest.MigrationID.String()[30:])
	require.EqualValues(t, 978, longest.ForMS)
	require.InDelta(t, 0.9434, *longest.SlowerThan, 0.0001)
	require.EqualValues(t, 1342, longest.Samples)
	require.False(t, longest.Slow())
	require.Equal(t, recovery.Abort, longest.OnRestart.Action)
	var forMS []uint64
	for _, r := range s.InFlight {
		forMS = append(forMS, r.ForMS)
		require.False(t, r.PastNoReturn)
		require.False(t, r.InDoubt)
	}
	require.Equal(t, []uint64{978, 142, 132, 69, 62, 0}, forMS)
	require.EqualValues(t, 1484, s.InFlight[5].Samples)
	require.Equal(t, triage.Restart{AbortTimeoutMS: 3_600_000, CleanUp: 325, Abort: 6, Stale: 6, ResumedAtEnd: 6}, s.Restart)

	// A coordinator that starts within the timeout resumes them all.
	require.Equal(t, triage.Restart{AbortTimeoutMS: 3_600_000, CleanUp: 325, Resume: 6}, summaryOf(t, reader, 0, time.Minute).Restart)
}

// The counts from the summaries of the segments are those of the whole history.
func TestCountsOf_Recording(t *testing.T) {
	reader, dir := logOfSize(t, "../../testdata/raft-moves.ndjson", 64<<10)
	fsys := os.DirFS(dir)
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	require.Greater(t, len(names), 8)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, segment.SummaryDir), 0o750))
	log := reader.Manifest().UUID
	var sum summary.Totals
	var stays [checkpoint.PhaseComplete + 1]histogram.Histogram
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, segment.WALDir, name))
		require.NoError(t, err)
		first, _ := segment.ParseName(name)
		built, ok := summary.Build(data, log, first, summary.NewIndex(fsys, log).Migration)
		require.True(t, ok)
		// The summary of the next segment looks up migrations in this one.
		require.NoError(t, os.WriteFile(filepath.Join(dir, segment.SummaryDir, name), built.Encode(log), 0o600))
		s, ok := summary.Of(built)
		require.True(t, ok)
		own, ok := s.Stays()
		require.True(t, ok)
		for phase := range own {
			stays[phase].MergeEncoded(own[phase])
		}
		addTotals(&sum, s.Totals())
	}
	totals, fold := triage.NewTotals(0), reader.NewFold()
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		totals.Add(r)
		fold.Add(r)
	}
	want, got := totals.Counts(), triage.CountsOf(sum, stays, fold.View.All())
	for i := range want.Aborts {
		require.Empty(t, want.Aborts[i].StandsOut)
		want.Aborts[i].StandsOut = nil
	}
	require.Equal(t, want.Baseline.Phase(checkpoint.PhaseCatchUp).Append(nil), got.Baseline.Phase(checkpoint.PhaseCatchUp).Append(nil))
	want.Baseline, got.Baseline = nil, nil
	require.Equal(t, want, got)
}

func addTotals(sum *summary.Totals, s summary.Totals) {
	if sum.Events == 0 || s.EarliestMS < sum.EarliestMS {
		sum.EarliestMS = s.EarliestMS
	}
	sum.Events, sum.LatestMS = sum.Events+s.Events, max(sum.LatestMS, s.LatestMS)
	for i := range s.Kinds {
		sum.Kinds[i] += s.Kinds[i]
	}
	sum.Begun, sum.RemovedDone, sum.Aborted, sum.Retries = sum.Begun+s.Begun, sum.RemovedDone+s.RemovedDone, sum.Aborted+s.Aborted, sum.Retries+s.Retries
	sum.Aborts = append(sum.Aborts, s.Aborts...)
}
