package migrationlog_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// Open and Scrub log at most ten findings of each severity, and then how many more there are and
// how to list them. They log harmless findings as information.
func TestOpen_LogsFindingsOfEachSeverityUpToTen(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, nil)
	for range 40 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots"))) // so that Open reads all frames
	var ends []int
	for r := range recordsIn(t, dir) {
		ends = append(ends, int(r.Offset+r.Length))
	}
	for i := 0; i < 30; i += 2 { // 15 frames, each with an intact one after it
		flip(t, segmentPath(dir, firstSegment), ends[i]-1)
	}
	for i := range 12 {
		require.NoError(t, os.WriteFile(segmentPath(dir, fmt.Sprintf("%d.swp", i)), nil, 0o600))
	}
	flip(t, segmentPath(dir, firstSegment), ends[37]) // the length prefix of frame 39

	var out bytes.Buffer
	lines := func(level, message string) int {
		return strings.Count(out.String(), fmt.Sprintf("level=%s msg=%q", level, message))
	}
	check := func() {
		require.Equal(t, 11, lines("WARN", "migrationlog is damaged"), "ten that lose events, and the only one that endangers events")
		require.Contains(t, out.String(), `"migrationlog has more damage: run 'replay-tool verify', or see Store.Report or the result of Scrub" dir=`+dir+` severity="loses events" more=5`)
		require.Equal(t, 10, lines("INFO", "migrationlog has a harmless finding"))
		require.Contains(t, out.String(), `"migrationlog has more harmless findings: run 'replay-tool verify', or see Store.Report or the result of Scrub" dir=`+dir+` more=2`)
	}
	s = open(t, dir, &migrationlog.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	check()
	require.LessOrEqual(t, strings.Count(out.String(), "\n"), 40)
	require.Len(t, s.Report().Damage, 15+12+1)

	out.Reset()
	report, err := s.Scrub(t.Context())
	require.NoError(t, err)
	require.Len(t, report.Damage, 15+12+1)
	check()
}

// recordsIn yields the records of a log.
func recordsIn(t *testing.T, dir string) func(yield func(replay.Record) bool) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	return func(yield func(replay.Record) bool) {
		for r, err := range reader.Records(t.Context(), replay.Query{}) {
			require.NoError(t, err)
			if !yield(r) {
				return
			}
		}
	}
}
