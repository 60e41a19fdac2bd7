package summary_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/replay"
	"migrationlog/replay/histogram"
	"migrationlog/replay/story"
)

// recording writes the events of the recording to a log with segments of that size.
func recording(t testing.TB, segmentSize int) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true, SegmentSize: segmentSize})
	require.NoError(t, err)
	file, err := os.Open("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer file.Close()
	var events []checkpoint.Event
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		events = append(events, r.Event)
	}
	_, err = s.WriteAll(events)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SummaryDir)))
	return dir
}

// logID returns the UUID of a log.
func logID(t testing.TB, dir string) uuid.UUID {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	return m.UUID
}

// build builds and writes the summaries of all segments of a log, in order, and returns them.
func build(t testing.TB, dir string) (all []*summary.Summary) {
	fsys, log := os.DirFS(dir), logID(t, dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, segment.SummaryDir), 0o750))
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, segment.WALDir, name))
		require.NoError(t, err)
		first, _ := segment.ParseName(name)
		built, ok := summary.Build(data, log, first, summary.NewIndex(fsys, log).Migration)
		require.True(t, ok, name)
		require.NoError(t, os.WriteFile(filepath.Join(dir, segment.SummaryDir, name), built.Encode(log), 0o640))
		opened, ok := summary.Open(fsys, log, name)
		require.True(t, ok, name)
		require.True(t, opened.IsIntact())
		inMemory, ok := summary.Of(built)
		require.True(t, ok)
		require.Equal(t, inMemory.Totals(), opened.Totals())
		matches, err := opened.Matches(fsys, log)
		require.NoError(t, err)
		require.True(t, matches)
		all = append(all, opened)
	}
	return all
}

// The summaries of the recording have the same counts, stays and migrations as its full history,
// whatever the size of the segments is.
func TestSummary_AgreesWithTheHistory(t *testing.T) {
	for _, size := range []int{8 << 10, 100 << 10, 0} {
		dir := recording(t, size)
		all := build(t, dir)
		reader, err := replay.Open(dir)
		require.NoError(t, err)
		tracker, want := story.NewTracker(story.Options{}), story.Baseline{}
		at := 0
		begun, aborted, done := uint64(0), uint64(0), uint64(0)
		for r, err := range reader.Records(t.Context(), replay.Query{}) {
			require.NoError(t, err)
			before := checkpoint.Phase(0)
			change := tracker.Add(r)
			if change.Stay != nil {
				want.Add(*change.Stay)
				before = change.Stay.From.Phase
			}
			i := change.Incarnation
			for r.Seq > all[at].LastSeq {
				at++
			}
			requireFrame(t, all[at], r, i)
			if change.Began {
				begun++
			}
			if r.Kind() == replay.KindAbort {
				aborted++
			}
			if i.Phase == checkpoint.PhaseComplete && before < checkpoint.PhaseComplete && r.Kind() == replay.KindCheckpoint {
				done++
			}
		}
		require.Equal(t, len(all)-1, at)
		var sum summary.Totals
		var stays [checkpoint.PhaseComplete + 1]histogram.Histogram
		for _, s := range all {
			totals := s.Totals()
			require.Equal(t, s.LastSeq-s.FirstSeq+1, totals.Events)
			sum.Begun, sum.Done, sum.Aborted, sum.Retries = sum.Begun+totals.Begun, sum.Done+totals.Done, sum.Aborted+totals.Aborted, sum.Retries+totals.Retries
			own, ok := s.Stays()
			require.True(t, ok)
			for phase := range own {
				stays[phase].Merge(&own[phase])
			}
		}
		require.Equal(t, summary.Totals{Begun: begun, Done: done, Aborted: aborted, Retries: 128}, sum)
		for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
			require.Equal(t, want.Phase(phase).Append(nil), stays[phase].Append(nil), "%s", phase)
		}
	}
}

// requireFrame requires that the summary has the frame of a record and its incarnation.
func requireFrame(t *testing.T, s *summary.Summary, r replay.Record, i *story.Incarnation) {
	t.Helper()
	frames, ok := s.Frames()
	require.True(t, ok)
	f, ok := frames.At(r.Seq)
	require.True(t, ok)
	migrations, ok := s.Migrations()
	require.True(t, ok)
	require.Equal(t, r.WallMS(), f.WallMS)
	require.Equal(t, r.Event != nil && checkpoint.KindOf(r.Event) == f.Kind, true)
	m := migrations.At(f.Migration)
	id, _ := r.Migration()
	require.Equal(t, id, m.ID)
	require.True(t, s.MayContain(id))
	require.Contains(t, slices.Collect(migrations.Find(id)), f.Migration)
	require.False(t, m.Partial)
	require.False(t, m.Several)
	totals := s.Totals()
	require.Contains(t, totals.VShards, m.VShardID)
	require.Contains(t, totals.Nodes, i.SourceNode)
	require.Contains(t, totals.Nodes, i.TargetNode)
	require.Equal(t, []any{i.VShardID, i.SourceNode, i.TargetNode, i.SourceGroup}, []any{m.VShardID, m.SourceNode, m.TargetNode, m.SourceGroup})
	if u, ok := r.Event.(checkpoint.Upserted); ok {
		require.Equal(t, u.Checkpoint.Phase(), f.Phase)
		require.Equal(t, u.Checkpoint.Attempt > 0, f.Retried)
	}
}

// The summaries take at most 16 % of the log.
func TestSummary_Size(t *testing.T) {
	for _, size := range []int{100 << 10, 0} {
		dir := recording(t, size)
		var log, index int64
		for _, s := range build(t, dir) {
			info, err := os.Stat(filepath.Join(dir, segment.SummaryDir, s.Name()))
			require.NoError(t, err)
			log, index = log+s.SizeBytes, index+info.Size()
		}
		t.Logf("segments of %d bytes: %d bytes of %d, %.1f %%", size, index, log, 100*float64(index)/float64(log))
		require.Less(t, float64(index), 0.16*float64(log))
	}
}

func BenchmarkBuild(b *testing.B) {
	dir := recording(b, 0)
	log := logID(b, dir)
	data, err := os.ReadFile(filepath.Join(dir, segment.WALDir, segment.Name(1)))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		_, ok := summary.Build(data, log, 1, nil)
		require.True(b, ok)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/9502, "ns/event")
}
