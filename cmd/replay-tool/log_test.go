package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// recordingLog imports the recording into a new log.
func recordingLog(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "../../testdata/raft-moves.ndjson"}, nil, io.Discard, io.Discard))
	return dir
}

// output runs the tool and returns what it prints to stdout.
func output(t *testing.T, wantCode int, args ...string) string {
	var out, errs bytes.Buffer
	require.Equal(t, wantCode, run(t.Context(), args, nil, &out, &errs), "%v: %s", args, &errs)
	return out.String()
}

// Every row of a long table is aligned with the heading, also the rows of damage. At 80 and at 140
// columns each line fits. An abort and a removal have the vShard and the nodes of their migration.
func TestLog_ColumnsAreFixed(t *testing.T) {
	t.Parallel()
	dir := recordingLog(t)
	path := filepath.Join(dir, "wal", "00000000000000000001")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	clear(b[5000:5300]) // several frames
	b[7000] ^= 1        // one frame
	require.NoError(t, os.WriteFile(path, b, 0o600))

	for _, width := range []int{80, 140, 0} {
		fit := []string{"--wide"}
		if width > 0 {
			fit = []string{"--width", strconv.Itoa(width)}
		}
		text := output(t, exitDamage, append([]string{"log", "-q", dir}, fit...)...)
		if width > 0 {
			assertFits(t, text, width)
		}
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		require.Greater(t, len(lines), 9000)
		heading := lines[0]
		damaged := 0
		for i, line := range lines[2:] {
			starts := []string{"TIME", "MOVE", "STEP", "ID", "DETAIL"}
			if strings.Contains(line, "DAMAGE") {
				damaged++
				starts = []string{"STEP", "DETAIL"}
			} else {
				require.Regexp(t, `^ *\d+  [\d:.]{12}  +\d+  [\d?]+ -> [\d?]+  `, line)
			}
			for _, name := range starts {
				at := strings.Index(heading, name)
				if at < len(line) {
					require.Equal(t, "  ", line[at-2:at], "row %d: %s\n%s", i, name, line)
					require.NotEqual(t, byte(' '), line[at], "row %d: %s\n%s", i, name, line)
				}
			}
		}
		require.Equal(t, 2, damaged)
	}
}

// log -o json prints one array of the records that -o ndjson prints.
func TestLog_JSONIsOneArray(t *testing.T) {
	t.Parallel()
	dir := recordingLog(t)
	for _, n := range []string{"1", "3"} {
		var records []json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(output(t, exitClean, "log", "-q", dir, "-n", n, "-o", "json")), &records))
		var lines strings.Builder
		for _, r := range records {
			var line bytes.Buffer
			require.NoError(t, json.Compact(&line, r))
			lines.WriteString(line.String() + "\n")
		}
		require.Equal(t, output(t, exitClean, "log", "-q", dir, "-n", n, "-o", "ndjson"), lines.String())
	}
	require.Equal(t, "[]\n", output(t, exitNoMatch, "log", "-q", dir, "--vshard", "99", "-o", "json"))
}

// writeCounter counts the calls of Write.
type writeCounter struct{ calls, bytes int }

func (w *writeCounter) Write(b []byte) (int, error) {
	w.calls++
	w.bytes += len(b)
	return len(b), nil
}

// A command that prints many lines collects them into large writes.
func TestOutput_IsBuffered(t *testing.T) {
	t.Parallel()
	dir := recordingLog(t)
	for _, args := range [][]string{
		{"log", dir}, {"log", dir, "-o", "ndjson"}, {"log", dir, "-o", "json"}, {"log", dir, "--reverse"}, {"log", dir, "-n", "5000"},
		{"state", dir}, {"state", dir, "-o", "ndjson"}, {"state", dir, "--at", "#9000"}, {"show", dir, "01a2062a-e5a4"},
	} {
		var out writeCounter
		require.Zero(t, run(t.Context(), append(args, "-q"), nil, &out, io.Discard), "%v", args)
		require.LessOrEqual(t, out.calls, out.bytes/outputBufferBytes+1, "%v: %d bytes", args, out.bytes)
	}
}

// Data and messages appear in the order in which they were printed, although the data is buffered.
func TestOutput_OrderOfDataAndMessages(t *testing.T) {
	t.Parallel()
	dir := recordingLog(t)
	path := filepath.Join(dir, "wal", "00000000000000000001")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[5000] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
	for _, args := range [][]string{{"log", dir}, {"state", dir}, {"show", dir, "01a2062a-e5a4"}} {
		var both bytes.Buffer
		require.Equal(t, exitDamage, run(t.Context(), args, nil, &both, &both))
		data, messages, found := strings.Cut(both.String(), "damage: ")
		require.True(t, found)
		require.Greater(t, strings.Count(data, "\n"), 3, "%v", args)
		require.NotContains(t, messages, "01a2062a-e5a4", "%v", args)
	}
}

// log -n prints the last records of the whole log, although it reads only the last segments. It prints
// how many segments it did not check. It reads the whole log if it is damaged.
func TestLog_LastOfManySegments(t *testing.T) {
	dir := segmentedLog(t, 40)
	all := strings.SplitAfter(output(t, exitClean, "log", "-q", dir, "-o", "ndjson"), "\n")
	last := strings.Join(all[len(all)-4:], "") // the last string is empty
	var out, errs bytes.Buffer
	args := []string{"log", dir, "-n", "3", "-o", "ndjson"}
	require.Zero(t, run(t.Context(), args, nil, &out, &errs))
	require.Equal(t, last, out.String())
	require.Regexp(t, `^\d+ segments not checked. To check the whole log, run: replay-tool verify .*\n$`, errs.String())

	errs.Reset()
	out.Reset()
	require.Zero(t, run(t.Context(), append(args, "--kind", "checkpoint"), nil, &out, &errs))
	require.Equal(t, last, out.String())
	require.Regexp(t, `^\d+ segments not checked`, errs.String())
	errs.Reset()
	require.Zero(t, run(t.Context(), []string{"log", dir, "-n", "1000", "-o", "ndjson"}, nil, io.Discard, &errs))
	require.Empty(t, errs.String(), "every segment was read")
	huge := []string{"log", "-q", dir, "-n", "5000000000000000000", "-o", "ndjson"}
	require.Equal(t, strings.Join(all, ""), output(t, exitClean, huge...))
	require.Equal(t, strings.Join(all, ""), output(t, exitClean, append(huge, "--kind", "checkpoint")...))

	names, err := segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "wal", names[1])))
	out.Reset()
	require.Equal(t, exitDamage, run(t.Context(), args, nil, &out, &errs))
	require.Equal(t, last, out.String())
}

// segmentedLog returns a log in which each event is in its own segment.
func segmentedLog(t *testing.T, events int) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	store, err := migrationlog.Open(dir, &migrationlog.Options{SegmentSize: 1, NoSync: true})
	require.NoError(t, err)
	for i := range events {
		c, err := checkpoint.New(checkpoint.NewMigrationID(), 0, checkpoint.CatchUp{LearnerLogIndexAtAdd: uint64(i)}, 1_800_000_000_000)
		require.NoError(t, err)
		_, err = store.Upsert(c)
		require.NoError(t, err)
	}
	require.NoError(t, store.Close())
	return dir
}

// log --reverse prints the same records as log, in reverse order, also with a filter that depends on
// earlier events, and also for a damaged log. With a filter, log reads few segments, so it may find the
// same loss at another place.
func TestLog_Reverse(t *testing.T) {
	dir := segmentedLog(t, 40)
	events := oneEvent + `{"kind":"abort","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7aa","reason":"r","compensations":[],"ts_ms":1800000000002}` + "\n"
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(events), io.Discard, io.Discard))
	for _, code := range []int{exitClean, exitDamage} {
		for _, filter := range [][]string{{}, {"--vshard", "7"}, {"--from", "20", "--to", "30"}, {"--phase", "CatchUp"}} {
			args := append([]string{"log", "-q", dir, "-o", "ndjson"}, filter...)
			place := regexp.MustCompile(`"segment":"\d+","offset":.*"severity"`)
			lines := strings.SplitAfter(place.ReplaceAllString(output(t, code, args...), ""), "\n")
			slices.Reverse(lines)
			require.Equal(t, strings.Join(lines, ""), place.ReplaceAllString(output(t, code, append(args, "--reverse")...), ""), "%v", filter)
		}
		names, err := segment.Names(os.DirFS(dir))
		require.NoError(t, err)
		require.NoError(t, os.Remove(filepath.Join(dir, "wal", names[25])))
	}
}

// log -f stops with a message and exit code 1 if another log, or an older copy of the log, replaces it.
func TestLog_FollowStopsAtAnotherLog(t *testing.T) {
	for _, text := range []string{"its id was", "event #3 is no longer in segment"} {
		dir := segmentedLog(t, 2)
		backup := filepath.Join(t.TempDir(), "backup")
		if text == "its id was" {
			backup = segmentedLog(t, 5)
		} else {
			require.NoError(t, os.CopyFS(backup, os.DirFS(dir)))
		}
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(oneEvent), io.Discard, io.Discard))
		link := filepath.Join(t.TempDir(), "log") // it can be changed in one step
		require.NoError(t, os.Symlink(dir, link))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		out, in := io.Pipe()
		var errs bytes.Buffer
		code := make(chan int)
		go func() {
			code <- run(ctx, []string{"log", link, "-f", "-o", "ndjson"}, nil, in, &errs)
		}()
		shown := bufio.NewScanner(out)
		for range 3 {
			require.True(t, shown.Scan())
		}
		require.NoError(t, os.Symlink(backup, link+".new"))
		require.NoError(t, os.Rename(link+".new", link))
		go func() { _, _ = io.Copy(io.Discard, out) }()
		require.Equal(t, exitIO, <-code)
		require.Contains(t, errs.String(), text)
		require.Contains(t, errs.String(), "start 'log -f' again")
	}
}

const oneEvent = `{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7aa","attempt":0,"phase":"CatchUp","payload":{"vshard_id":7,"learner_log_index_at_add":2},"ts_ms":1800000000001}
`
