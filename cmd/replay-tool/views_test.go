package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/replay"
)

var updateViews = flag.Bool("update-views", false, "rewrite the expected outputs in testdata/views")

// recordingEndMS is the clock of the last event of the recording.
const recordingEndMS = 1795399805305

// setClock sets the clock of the commands for the time of a test.
func setClock(t *testing.T, ms int64) {
	before := wallClock
	wallClock = func() time.Time { return time.UnixMilli(ms) }
	t.Cleanup(func() { wallClock = before })
}

// view is a log whose views have an expected output in testdata/views.
type view struct {
	make     func(t *testing.T, dir string) // makes the log
	commands []string                       // without the directory, which is LOG
}

// importedFrom returns a function that imports NDJSON.
func importedFrom(path string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, path}, nil, io.Discard, io.Discard))
	}
}

// importedLines returns a function that imports the first lines of the recording.
func importedLines(n int) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(firstLines(t, n)), io.Discard, io.Discard))
	}
}

// cutAt removes the segment's bytes from the record seq on.
func cutAt(t *testing.T, dir string, seq uint64) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{FromSeq: seq, ToSeq: seq}) {
		require.NoError(t, err)
		require.NoError(t, os.Truncate(filepath.Join(dir, "wal", r.Segment), r.Offset))
	}
}

// flipBodies damages the bodies of the records.
func flipBodies(t *testing.T, dir string, seqs ...uint64) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		if slices.Contains(seqs, r.Seq) {
			path := filepath.Join(dir, "wal", r.Segment)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[r.Offset+r.Length-1] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o600))
		}
	}
}

// segmentOf returns the segment with an event.
func segmentOf(t *testing.T, dir string, seq uint64) string {
	names, err := segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	i := sort.SearchStrings(names, segment.Name(seq+1))
	require.Positive(t, i)
	return names[i-1]
}

const (
	recordingFile  = "../../testdata/raft-moves.ndjson"
	violationsFile = "testdata/violations.ndjson"
)

var views = map[string]view{
	"healthy":          {importedFrom(recordingFile), []string{"triage LOG", "show LOG 781d20", "show LOG 7a909", "show LOG --vshard 11 --bars=false", "show LOG 0000"}},
	"healthy at 140":   {importedFrom(recordingFile), []string{"triage LOG --width 140", "show LOG 7a909 --width 140"}},
	"at the last time": {importedFrom(recordingFile), []string{"triage LOG --now 02:10:06", "show LOG 781d20 --now 02:10:06", "triage LOG --window 20s --abort-timeout 5s"}},
	"empty": {func(t *testing.T, dir string) {
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(""), io.Discard, io.Discard))
	}, []string{"triage LOG", "show LOG 7a909"}},
	"torn": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		tearTail(t, dir)
	}, []string{"triage LOG", "show LOG f8b7a5"}},
	"damaged in the middle": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
		flipBodies(t, dir, 5, 20, 21)
	}, []string{"triage LOG", "show LOG f8b7a5", "show LOG 00ffff"}},
	"cut": {func(t *testing.T, dir string) {
		importedFrom(recordingFile)(t, dir)
		cutAt(t, dir, 6391)
	}, []string{"triage LOG"}},
	"harmless finding": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", ".DS_Store"), nil, 0o600))
	}, []string{"triage LOG"}},
	"read-only directory": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		readOnly(t, dir)
	}, []string{"triage LOG", "show LOG f8b7a5"}},
	"missing directory": {func(*testing.T, string) {}, []string{"triage LOG", "show LOG 7a909", "./LOG"}},
	"not a log": {func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(dir, []byte("text"), 0o600))
	}, []string{"triage LOG", "show LOG 7a909", "./LOG"}},
	"newer format": {func(t *testing.T, dir string) {
		importedLines(5)(t, dir)
		makeNewer(t, dir, 3)
	}, []string{"triage LOG", "show LOG f8b7a5"}},
	// Two incarnations, a clock that went back, and events that break rules.
	"violations":      {importedFrom(violationsFile), []string{"triage LOG", "triage LOG --check", "show LOG 000002", "show LOG 000001"}},
	"abort under way": {importedFrom("testdata/kinds.ndjson"), []string{"triage LOG", "show LOG 4700-7000-8000-000000000001"}},
}

// readOnly makes the files and directories of a log read-only until the end of the test.
func readOnly(t *testing.T, dir string) {
	set := func(file, directory os.FileMode) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(path, directory)
			}
			return os.Chmod(path, file)
		}))
	}
	set(0o400, 0o700) // a directory that is being walked must stay readable
	require.NoError(t, os.Chmod(dir, 0o500))
	t.Cleanup(func() { set(0o600, 0o700) })
}

// The views of each log are those in testdata/views, with their exit codes, at 80 columns. To rewrite
// them after a change, run
//
//	go test ./cmd/replay-tool -run TestViews -update-views
func TestViews(t *testing.T) {
	setClock(t, recordingEndMS+(5*24+20)*3_600_000)
	for name, v := range views {
		t.Run(name, func(t *testing.T) {
			testdata, err := os.Getwd()
			require.NoError(t, err)
			parent := t.TempDir()
			v.make(t, filepath.Join(parent, "LOG"))
			t.Chdir(parent) // the width of a line depends on the name of the directory
			var out strings.Builder
			for _, command := range v.commands {
				out.WriteString(viewOf(t, command))
			}
			t.Chdir(testdata)
			checkView(t, name, out.String())
		})
	}
}

// viewOf returns a command and its output with the exit code. The command has a log in the directory
// LOG.
func viewOf(t *testing.T, command string) string {
	args, width := strings.Fields(command), 80
	if strings.Contains(command, "--width 140") {
		width = 140
	} else {
		args = append(args, "--width", "80")
	}
	code, out, errs := runTool(t, nil, args...)
	assertFits(t, out, width)
	text := fmt.Sprintf("$ replay-tool %s\n%s", command, out)
	if errs != "" {
		text += "stderr:\n" + errs
	}
	text = regexp.MustCompile(`(?m)^log [0-9a-f]{8}   `).ReplaceAllString(text, "log 00b97c17   ")
	return text + fmt.Sprintf("exit %d\n\n", code)
}

func checkView(t *testing.T, name, got string) {
	path := filepath.Join("testdata/views", strings.ReplaceAll(name, " ", "-")+".txt")
	if *updateViews {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// toolProgram returns the path of a replay-tool program.
func toolProgram(t *testing.T) string {
	program := filepath.Join(t.TempDir(), "replay-tool")
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, program)) // TestMain runs main under this name
	return program
}

// startWriter starts a process that imports the lines into a new log and keeps it open until stop is
// called. It returns when the events are in the log.
func startWriter(t *testing.T, dir string, lines []byte) (pid int, stop func()) {
	writer := exec.Command(toolProgram(t), "import", "-q", dir, "-")
	input, err := writer.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, writer.Start())
	_, err = input.Write(lines)
	require.NoError(t, err)
	events := bytes.Count(lines, []byte("\n"))
	require.Eventually(t, func() bool {
		reader, err := replay.Open(dir)
		if err != nil {
			return false
		}
		report, err := reader.Verify(t.Context())
		return err == nil && report.LastSeq == uint64(events)
	}, 10*time.Second, 5*time.Millisecond)
	return writer.Process.Pid, func() {
		require.NoError(t, input.Close())
		require.NoError(t, writer.Wait())
	}
}

// firstLines returns the first lines of the recording.
func firstLines(t *testing.T, n int) []byte {
	all, err := os.ReadFile(recordingFile)
	require.NoError(t, err)
	return bytes.Join(bytes.SplitAfterN(all, []byte("\n"), n+1)[:n], nil)
}

// While a writer process has the log open, the time in a phase is measured to the present.
func TestViews_LiveWriter(t *testing.T) {
	setClock(t, 1795399697764+90_000)
	parent := t.TempDir()
	testdata, err := os.Getwd()
	require.NoError(t, err)
	dir := filepath.Join(parent, "LOG")
	pid, stop := startWriter(t, dir, firstLines(t, 2))
	if !eventlog.FindWriter(dir).Known {
		stop()
		t.Skip("this system does not list its locks")
	}
	t.Chdir(parent)
	text := ""
	for _, command := range []string{
		"triage LOG", "show LOG f8b7a5", "stats LOG", "quiet LOG", "lint LOG --severity info", "timeline LOG", "diff LOG --at #1", "diff LOG LOG",
	} {
		text += viewOf(t, command)
	}
	stop()
	text = strings.ReplaceAll(text, fmt.Sprintf("process %d ", pid), "process 4711 ")
	text += viewOf(t, "triage LOG")
	t.Chdir(testdata)
	checkView(t, "being written", text)
}

// The JSON of triage has the keys and the values of the table.
func TestTriage_JSON(t *testing.T) {
	setClock(t, recordingEndMS+86_400_000)
	dir := filepath.Join(t.TempDir(), "log")
	importedFrom(recordingFile)(t, dir)
	code, out, _ := runTool(t, nil, "triage", dir, "-o", "json")
	require.Zero(t, code)
	var got struct {
		Seq      [2]uint64 `json:"seq"`
		Writer   struct{ Alive *bool }
		InFlight []struct {
			VShardID   uint32  `json:"vshard_id"`
			ForMS      uint64  `json:"for_ms"`
			SlowerThan float64 `json:"slower_than"`
			Samples    uint64
			OnRestart  struct {
				Decision      string
				Compensations []struct{ Kind string }
			} `json:"on_restart"`
		} `json:"in_flight"`
		Moves  map[string]uint64
		Aborts []struct {
			Reason   string
			Count    uint64
			AfterMS  [2]uint64         `json:"after_ms"`
			ByTarget map[string]uint64 `json:"by_target"`
		}
		Findings   []struct{ Rule string }
		NotRemoved uint64 `json:"not_removed"`
		Next       []string
	}
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, [2]uint64{1, 9502}, got.Seq)
	require.Len(t, got.InFlight, 6)
	require.EqualValues(t, 11, got.InFlight[0].VShardID)
	require.InDelta(t, 0.943, got.InFlight[0].SlowerThan, 0.001)
	require.Equal(t, "abort", got.InFlight[0].OnRestart.Decision)
	require.Equal(t, "RemoveLearner", got.InFlight[0].OnRestart.Compensations[0].Kind)
	require.EqualValues(t, 1303, got.Moves["done"])
	require.EqualValues(t, 128, got.Moves["retried"])
	require.Equal(t, [2]uint64{2000, 2039}, got.Aborts[0].AfterMS)
	require.EqualValues(t, 21, got.Aborts[0].ByTarget["8"])
	require.Len(t, got.Findings, 3)
	require.EqualValues(t, 325, got.NotRemoved)
	require.NotEmpty(t, got.Next)
	for _, key := range []string{"log", "from_ms", "to_ms", "now_ms", "report", "unchecked_segments", "partial_segments"} {
		require.Contains(t, out, `"`+key+`"`)
	}
}

// largeRecordingLog returns a log of the recording with many segments and all summaries.
func largeRecordingLog(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	store, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true, SegmentSize: 64 << 10})
	require.NoError(t, err)
	lines, err := os.ReadFile(recordingFile)
	require.NoError(t, err)
	for chunk := range slices.Chunk(bytes.Split(bytes.TrimSpace(lines), []byte("\n")), 200) {
		events := make([]checkpoint.Event, len(chunk))
		for i, line := range chunk {
			var r replay.Record
			require.NoError(t, json.Unmarshal(line, &r))
			events[i] = r.Event
		}
		_, err := store.WriteAll(events)
		require.NoError(t, err)
	}
	require.NoError(t, store.Close())
	writeSummaries(t, dir)
	return dir
}

// Of a large log, triage reads only the summaries, a snapshot and the end. Its values are those of the
// whole log, except for the findings of earlier events and the nodes that stand out.
func TestViews_LargeLog(t *testing.T) {
	setClock(t, recordingEndMS+86_400_000)
	dir := largeRecordingLog(t)
	type screen struct {
		Seq         [2]uint64
		Events      uint64
		Unchecked   int               `json:"unchecked_segments"`
		InFlight    []json.RawMessage `json:"in_flight"`
		Moves       json.RawMessage
		Restart     json.RawMessage
		Aborts      []map[string]any
		NotRemoved  uint64 `json:"not_removed"`
		Findings    []json.RawMessage
		LintedFrom  uint64 `json:"linted_from"`
		FromMS      uint64 `json:"from_ms"`
		ToMS, NowMS uint64
	}
	read := func(args ...string) (s screen, errs string) {
		code, out, errs := runTool(t, nil, append([]string{"triage", dir, "-o", "json"}, args...)...)
		require.Zero(t, code)
		require.NoError(t, json.Unmarshal([]byte(out), &s))
		for _, a := range s.Aborts {
			delete(a, "stands_out")
		}
		return s, errs
	}
	parts, errs := read()
	require.Positive(t, parts.Unchecked)
	require.Contains(t, errs, "segments not checked. To check all, run: replay-tool verify")
	require.Greater(t, parts.LintedFrom, uint64(1))
	require.Empty(t, parts.Findings)
	whole, _ := read("--window", "1000d") // a window needs the whole log
	require.Zero(t, whole.Unchecked)
	require.EqualValues(t, 1, whole.LintedFrom)
	require.Len(t, whole.Findings, 3)
	parts.Unchecked, parts.LintedFrom, parts.Findings = whole.Unchecked, whole.LintedFrom, whole.Findings
	require.Equal(t, whole, parts)

	// show reads only the segments with the migration, also for one that has ended.
	for _, id := range []string{"781d20", "7a909", "f8b7a5"} {
		shown := func(args ...string) (values map[string]any, errs string) {
			code, out, errs := runTool(t, nil, append([]string{"show", dir, "-o", "json", id}, args...)...)
			require.Zero(t, code)
			require.NoError(t, json.Unmarshal([]byte(out), &values))
			return values, errs
		}
		parts, errs := shown()
		require.Contains(t, errs, "segments not checked")
		require.Positive(t, parts["unchecked_segments"])
		require.Nil(t, parts["before"])
		require.NoError(t, os.Rename(filepath.Join(dir, "snapshots"), filepath.Join(dir, "hidden"))) // then the whole log is read
		whole, errs := shown()
		require.NoError(t, os.Rename(filepath.Join(dir, "hidden"), filepath.Join(dir, "snapshots")))
		require.Empty(t, errs)
		require.NotNil(t, whole["before"])
		for _, key := range []string{"unchecked_segments", "before", "findings"} {
			delete(parts, key)
			delete(whole, key)
		}
		require.Equal(t, whole, parts)
	}

	// An early loss is not noticed, but the counts of a segment without a summary say that they lack facts.
	flipBodies(t, dir, 3000)
	require.NoError(t, os.Remove(filepath.Join(dir, segment.SummaryDir, segmentOf(t, dir, 3000))))
	for _, command := range [][]string{{"triage", dir}, {"show", dir, "781d20"}} {
		code, out, errs := runTool(t, nil, append(command, "-q", "-o", "json")...)
		require.Zero(t, code)
		require.Contains(t, errs, "segment with moves whose earlier events are lost or removed")
		require.Contains(t, out, `"partial_segments": 1`)
	}

	flipBodies(t, dir, 9400) // after a loss at the end, the whole log is read
	code, out, _ := runTool(t, nil, "triage", dir)
	require.Equal(t, exitDamage, code)
	require.Contains(t, out, "DAMAGED: 2 of 9502 events are lost")
	require.Regexp(t, `(?m)^FINDINGS \d+ +\(all:`, out) // and not only from a later event on
}

// writeSummaries writes the summary of each segment. A store does this in the background.
func writeSummaries(t *testing.T, dir string) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	fsys, log := os.DirFS(dir), reader.Manifest().UUID
	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SummaryDir)))
	require.NoError(t, os.Mkdir(filepath.Join(dir, segment.SummaryDir), 0o750))
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, segment.WALDir, name))
		require.NoError(t, err)
		first, _ := segment.ParseName(name)
		built, ok := summary.Build(data, log, first, summary.NewIndex(fsys, log).Migration)
		require.True(t, ok)
		require.NoError(t, os.WriteFile(filepath.Join(dir, segment.SummaryDir, name), built.Encode(log), 0o600))
	}
}

// With --check, the exit code is 7 if a rule of severity error is broken, if a migration has been in its
// phase for five minutes up to now, or if a migration in flight is in doubt. Damage comes first.
func TestTriage_Check(t *testing.T) {
	for name, tc := range map[string]struct {
		make    func(t *testing.T, dir string)
		laterMS int64 // after the end of the recording
		code    int
		message string
	}{
		"in flight for a moment": {importedFrom(recordingFile), 1000, exitClean, ""},
		"in flight for too long": {importedFrom(recordingFile), 300_000, exitFindings, "check: 6 in-flight migrations have been in one phase for at least 5m"},
		"an error":               {importedFrom(violationsFile), 0, exitFindings, "check: 9 findings of severity error"},
		"a doubt": {func(t *testing.T, dir string) {
			importedFrom(recordingFile)(t, dir)
			cutAt(t, dir, 6391)
		}, 0, exitDamage, "check: 5 in-flight migrations are in doubt"},
	} {
		t.Run(name, func(t *testing.T) {
			setClock(t, recordingEndMS+tc.laterMS)
			dir := filepath.Join(t.TempDir(), "log")
			tc.make(t, dir)
			code, _, errs := runTool(t, nil, "triage", dir, "--check")
			require.Equal(t, tc.code, code, errs)
			require.Contains(t, errs, tc.message)
		})
	}
}
