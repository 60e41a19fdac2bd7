package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
	"migrationlog/replay/timeline"
)

var updateTimeline = flag.Bool("update-timeline", false, "rewrite the expected output in testdata/timeline")

// line returns a line of NDJSON for a migration whose vShard is its number.
func line(n int, phase string, attempt int, ms int) string {
	payload := map[string]string{
		"AddLearner": `"source_node":%d,"target_node":9,"source_group":%[1]d,"write_pause_budget_us":500000,"started_at_hlc":{"wall_ns":1795399697649000000,"logical":0},`,
		"CatchUp":    `"learner_log_index_at_add":%d,`,
		"Cutover":    `"source_group":%d,"new_leader_node_id":9,`,
		"Complete":   `"actual_pause_us":%d,"ghost_stub_installed":true,`,
	}[phase]
	return fmt.Sprintf(`{"kind":"checkpoint","migration_id":%q,"attempt":%d,"phase":%q,"payload":{%s"vshard_id":%d},"ts_ms":%d}`+"\n",
		numberedID(n), attempt, phase, fmt.Sprintf(payload, n), n, clockOf(ms))
}

func numberedID(n int) string { return fmt.Sprintf("01a20629-44f1-75f5-8bf1-%012x", n) }

// clockOf returns a wall clock in 2026.
func clockOf(ms int) int { return 1795399697649 + ms }

func abortLine(n, ms int) string {
	return fmt.Sprintf(`{"kind":"abort","migration_id":%q,"reason":"x","compensations":[],"ts_ms":%d}`+"\n", numberedID(n), clockOf(ms))
}

func removeLine(n, ms int) string {
	return fmt.Sprintf(`{"kind":"remove","migration_id":%q,"ts_ms":%d}`+"\n", numberedID(n), clockOf(ms))
}

func importLines(t *testing.T, lines string) {
	require.Zero(t, run(t.Context(), []string{"import", "-q", "log", "-"}, strings.NewReader(lines), io.Discard, io.Discard))
}

// healthy has a move of each outcome.
var healthy = line(1, "AddLearner", 0, 0) + line(1, "CatchUp", 0, 200) + line(2, "AddLearner", 0, 300) + line(1, "Cutover", 0, 700) + line(1, "Complete", 0, 900) +
	line(2, "CatchUp", 0, 1000) + removeLine(1, 1100) + line(2, "CatchUp", 1, 1500) + abortLine(2, 2000) +
	line(3, "AddLearner", 0, 2100) + line(3, "CatchUp", 0, 2400) + line(1, "AddLearner", 0, 2600) + line(1, "Complete", 0, 3000)

// The text has these lines and exit codes at 80 and at 140 columns. No line is longer. To rewrite
// the files, run
//
//	go test ./cmd/replay-tool -run TestTimeline_Golden -update-timeline
func TestTimeline_Golden(t *testing.T) {
	files, err := filepath.Abs("testdata/timeline")
	require.NoError(t, err)
	recording, err := filepath.Abs("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	wal := filepath.Join("log", "wal", firstSegment)
	change := func(edit func([]byte) []byte) {
		b, err := os.ReadFile(wal)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(wal, edit(b), 0o600))
	}
	for name, tc := range map[string]struct {
		arrange func(t *testing.T)
		args    []string
	}{
		"healthy":      {func(t *testing.T) { importLines(t, healthy) }, nil},
		"by-node":      {func(t *testing.T) { importLines(t, healthy) }, []string{"--by", "node"}},
		"by-migration": {func(t *testing.T) { importLines(t, healthy) }, []string{"--by", "migration", "--tz", "+02:00"}},
		"empty":        {func(t *testing.T) { importLines(t, "") }, nil},
		"no-match":     {func(t *testing.T) { importLines(t, healthy) }, []string{"--vshard", "7-9"}},
		"torn": {func(t *testing.T) {
			importLines(t, healthy)
			tearTail(t, "log")
		}, nil},
		"damage-in-the-middle": {func(t *testing.T) {
			importLines(t, healthy)
			require.NoError(t, os.RemoveAll("log/snapshots"))
			change(func(b []byte) []byte { b[1000] ^= 1; return b })
		}, nil},
		"lost-at-the-end": {func(t *testing.T) {
			importLines(t, healthy)
			require.NoError(t, os.RemoveAll("log/snapshots"))
			change(func(b []byte) []byte { return b[:1200] })
		}, nil},
		"two-incarnations": {func(t *testing.T) {
			importLines(t, line(5, "AddLearner", 0, 0)+abortLine(5, 1000)+line(5, "AddLearner", 0, 1500)+line(5, "Cutover", 0, 2000))
		}, nil},
		"overlap": {func(t *testing.T) {
			importLines(t, line(5, "AddLearner", 0, 0)+strings.Replace(line(6, "AddLearner", 0, 500), `"vshard_id":6`, `"vshard_id":5`, 1)+line(5, "Complete", 0, 1000))
		}, nil},
		"clock-back": {func(t *testing.T) {
			importLines(t, line(5, "AddLearner", 0, 2000)+line(5, "CatchUp", 0, 1000)+line(6, "AddLearner", 0, 1100)+line(5, "Cutover", 0, 2500)+line(5, "Complete", 0, 3000))
		}, nil},
		"read-only": {func(t *testing.T) {
			importLines(t, healthy)
			readOnly(t, "log")
		}, nil},
		"missing":   {func(*testing.T) {}, nil},
		"not-a-log": {func(t *testing.T) { require.NoError(t, os.Mkdir("log", 0o700)) }, nil},
		"newer-format": {func(t *testing.T) {
			importLines(t, healthy)
			makeNewer(t, "log", 3)
		}, nil},
		"recording-18s":     {func(t *testing.T) { importRecording(t, recording) }, []string{"--since", "02:09:47.649", "--until", "02:10:05.649"}},
		"recording-vshards": {func(t *testing.T) { importRecording(t, recording) }, []string{"--vshard", "1-13"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			tc.arrange(t)
			var all strings.Builder
			for _, width := range []string{"80", "140"} {
				args := append([]string{"timeline", "log", "--width", width}, tc.args...)
				var stdout, stderr bytes.Buffer
				code := run(t.Context(), args, nil, &stdout, &stderr)
				fmt.Fprintf(&all, "$ replay-tool %s\n%s", strings.Join(args, " "), &stdout)
				if stderr.Len() > 0 {
					fmt.Fprintf(&all, "stderr:\n%s", &stderr)
				}
				fmt.Fprintf(&all, "exit %d\n\n", code)
				assertFits(t, stdout.String(), map[string]int{"80": 80, "140": 140}[width])
			}
			file := filepath.Join(files, name+".txt")
			if *updateTimeline {
				require.NoError(t, os.WriteFile(file, []byte(all.String()), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), all.String())
		})
	}
}

func importRecording(t *testing.T, file string) {
	require.Zero(t, run(t.Context(), []string{"import", "-q", "log", file}, nil, io.Discard, io.Discard))
}

// A pipe gets 80 columns. --color colors only symbols that have a meaning without color too.
func TestTimeline_WidthAndColor(t *testing.T) {
	t.Chdir(t.TempDir())
	importLines(t, healthy)
	plain := output(t, exitClean, "timeline", "log")
	require.Equal(t, output(t, exitClean, "timeline", "log", "--width", "80"), plain)
	colored := output(t, exitClean, "timeline", "log", "--color", "always")
	require.Contains(t, colored, "\x1b[31m!\x1b[0m")
	require.Equal(t, plain, strings.NewReplacer("\x1b[31m", "", "\x1b[33m", "", "\x1b[1m", "", "\x1b[0m", "").Replace(colored))
}

// --out writes the same bytes as stdout to a file that it names when it is complete. It replaces no
// file without --force, and writes nothing into the log's directory.
func TestTimeline_Out(t *testing.T) {
	t.Chdir(t.TempDir())
	importLines(t, healthy)
	before, err := hashDir("log")
	require.NoError(t, err)
	for _, format := range []string{"ascii", "svg", "html", "perfetto"} {
		want := output(t, exitClean, "timeline", "log", "--format", format)
		require.Empty(t, output(t, exitClean, "timeline", "log", "--format", format, "--out", "picture", "--force"))
		got, err := os.ReadFile("picture")
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.Equal(t, want, output(t, exitClean, "timeline", "log", "--format", format, "--out", "-"))
	}
	require.NoError(t, os.WriteFile("picture", []byte("kept"), 0o600))
	require.NoError(t, os.Symlink("log", "link"))
	for _, out := range []string{"picture", "log/picture", "log/wal/picture", "link/picture", "../" + filepath.Base(mustGetwd(t)) + "/log/picture", "log"} {
		output(t, exitUsage, "timeline", "log", "--out", out)
	}
	output(t, exitUsage, "timeline", "log", "--out", "log/picture", "--force")
	output(t, exitIO, "timeline", "log", "--out", "missing/picture")
	output(t, exitNoMatch, "timeline", "log", "--vshard", "77", "--out", "none")
	got, err := os.ReadFile("picture")
	require.NoError(t, err)
	require.Equal(t, "kept", string(got))
	after, err := hashDir("log")
	require.NoError(t, err)
	require.Equal(t, before, after)
	names, err := filepath.Glob("*")
	require.NoError(t, err)
	hidden, err := filepath.Glob(".*")
	require.NoError(t, err)
	require.Equal(t, []string{"link", "log", "picture"}, append(names, hidden...), "no temporary file is left")
}

func mustGetwd(t *testing.T) string {
	dir, err := os.Getwd()
	require.NoError(t, err)
	return dir
}

// The flags are checked before the log is read.
func TestTimeline_Usage(t *testing.T) {
	t.Chdir(t.TempDir())
	importLines(t, healthy)
	for _, args := range [][]string{
		{"--format", "png"}, {"--by", "color"}, {"--last", "x"}, {"--last", "0s"}, {"--last", ""}, {"--last", "5s", "--since", "5s"}, {"--since", ""},
		{"--since", "-1s", "--until", "-2s"}, {"--vshard", "3-1"}, {"-o", "json", "--format", "svg"},
	} {
		output(t, exitUsage, append([]string{"timeline", "log"}, args...)...)
	}
}

// JSON has the lanes, the moves with their bars, the lost events and the findings.
func TestTimeline_JSON(t *testing.T) {
	t.Chdir(t.TempDir())
	importLines(t, line(5, "AddLearner", 0, 0)+line(5, "Complete", 0, 1000)) // without the phases between: a finding
	var got struct {
		By       string
		Moves    int
		Findings []struct{ Rule string }
		Lost     []segment.SeqRange
		Lanes    []struct {
			Key    string
			Number int
			Moves  []struct {
				Outcome string
				Bars    []timeline.Bar
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(output(t, exitClean, "timeline", "log", "-o", "json")), &got))
	require.Equal(t, 1, got.Moves)
	require.Equal(t, "5", got.Lanes[0].Key)
	require.Equal(t, "done", got.Lanes[0].Moves[0].Outcome)
	require.Len(t, got.Lanes[0].Moves[0].Bars, 1)
	rules := []string{}
	for _, f := range got.Findings {
		rules = append(rules, f.Rule)
	}
	require.Contains(t, rules, "phase-skip")
}
