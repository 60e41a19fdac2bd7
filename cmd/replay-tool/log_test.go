package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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

// Every row of a long table is aligned with the heading, also the rows of damage.
func TestLog_ColumnsAreFixed(t *testing.T) {
	dir := recordingLog(t)
	path := filepath.Join(dir, "wal", "00000000000000000001")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	clear(b[5000:5300]) // several frames
	b[7000] ^= 1        // one frame
	require.NoError(t, os.WriteFile(path, b, 0o600))

	lines := strings.Split(strings.TrimSuffix(output(t, exitDamage, "log", "-q", dir), "\n"), "\n")
	require.Greater(t, len(lines), 9000)
	heading := lines[0]
	damaged := 0
	for i, line := range lines[1:] {
		starts := []string{"TIME", "MIGRATION", "STEP", "ATTEMPT", "VSHARD", "DETAIL"}
		if strings.Contains(line, "DAMAGE") {
			damaged++
			starts = []string{"STEP", "DETAIL"}
		}
		for _, name := range starts {
			at := strings.Index(heading, name)
			if at < len(line) && (name != "ATTEMPT" && name != "VSHARD" || line[at] != ' ') { // an abort has neither
				require.Equal(t, "  ", line[at-2:at], "row %d: %s\n%s", i, name, line)
				require.NotEqual(t, byte(' '), line[at], "row %d: %s\n%s", i, name, line)
			}
		}
	}
	require.Equal(t, 2, damaged)
	for i, line := range lines {
		require.NotRegexp(t, ` $`, line, "row %d", i)
	}
}

// log -o json prints one array of the records that -o ndjson prints.
func TestLog_JSONIsOneArray(t *testing.T) {
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
