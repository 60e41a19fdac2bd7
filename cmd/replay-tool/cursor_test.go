package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// seqsOf returns the seqs of NDJSON records.
func seqsOf(text string) (seqs []string) {
	for _, m := range regexp.MustCompile(`(?m)^{"seq":(\d+),`).FindAllStringSubmatch(text, -1) {
		seqs = append(seqs, m[1])
	}
	return seqs
}

func cursorSeq(t *testing.T, file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	var position cursorPosition
	require.NoError(t, json.Unmarshal(b, &position), "%s", b)
	return position.Seq
}

// appendEvents appends events of new migrations to a log, each in its own segment.
func appendEvents(t *testing.T, dir string, n int, payload checkpoint.Payload) {
	store, err := migrationlog.Open(dir, &migrationlog.Options{SegmentSize: 1, NoSync: true})
	require.NoError(t, err)
	for range n {
		c, err := checkpoint.New(checkpoint.NewMigrationID(), 0, payload, 1_800_000_000_000)
		require.NoError(t, err)
		_, err = store.Upsert(c)
		require.NoError(t, err)
	}
	require.NoError(t, store.Close())
}

// followed is a running 'log -f'.
type followed struct {
	cancel context.CancelFunc
	code   chan int
	out    bytes.Buffer
	errs   bytes.Buffer
}

func follow(t *testing.T, args ...string) *followed {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	f := &followed{cancel: cancel, code: make(chan int, 1)}
	go func() { f.code <- run(ctx, args, nil, &f.out, &f.errs) }()
	return f
}

// stop interrupts the command and returns its output.
func (f *followed) stop(t *testing.T) string {
	f.cancel()
	require.Equal(t, exitInterrupted, <-f.code, f.errs.String())
	return f.out.String()
}

// The cursor file is written while 'log -f' runs, not only when it ends, and also across the
// beginning of a new segment. The next run continues after the cursor.
func TestLog_CursorWhileFollowingAcrossSegments(t *testing.T) {
	dir, file := segmentedLog(t, 3), filepath.Join(t.TempDir(), "cursor")
	args := []string{"log", dir, "-f", "-o", "ndjson", "--cursor-file", file}
	f := follow(t, args...)
	require.Eventually(t, func() bool { return cursorSeq(t, file) == 3 }, 10*time.Second, 5*time.Millisecond)
	appendEvents(t, dir, 4, checkpoint.CatchUp{})
	require.Eventually(t, func() bool { return cursorSeq(t, file) == 7 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7"}, seqsOf(f.stop(t)))
	require.Contains(t, f.errs.String(), "waiting for events after #3. To stop, press Ctrl-C\n")

	appendEvents(t, dir, 2, checkpoint.CatchUp{})
	f = follow(t, args...)
	require.Eventually(t, func() bool { return cursorSeq(t, file) == 9 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{"8", "9"}, seqsOf(f.stop(t)))
}

// With a filter, the cursor also moves over the records that the filter leaves out. The record after
// the cursor is printed.
func TestLog_CursorWithAFilter(t *testing.T) {
	dir, file := segmentedLog(t, 3), filepath.Join(t.TempDir(), "cursor")
	appendEvents(t, dir, 1, checkpoint.Complete{})
	args := []string{"log", dir, "-q", "-o", "ndjson", "--phase", "Complete", "--cursor-file", file}
	require.Equal(t, []string{"4"}, seqsOf(output(t, exitClean, args...)))
	require.EqualValues(t, 4, cursorSeq(t, file))
	appendEvents(t, dir, 1, checkpoint.Complete{})
	require.Equal(t, []string{"5"}, seqsOf(output(t, exitClean, args...)))
	appendEvents(t, dir, 1, checkpoint.CatchUp{})
	require.Empty(t, output(t, exitNoMatch, args...))
	require.EqualValues(t, 6, cursorSeq(t, file))
	appendEvents(t, dir, 1, checkpoint.Complete{})
	require.Equal(t, []string{"7"}, seqsOf(output(t, exitClean, args...)))
}

// With --since, a file that does not exist yet is made. A record before that time is not printed, and
// the next run does not print it either.
func TestLog_CursorWithSinceAndNoFile(t *testing.T) {
	dir, file := segmentedLog(t, 2), filepath.Join(t.TempDir(), "cursor")
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(oneEvent), io.Discard, io.Discard))
	args := []string{"log", dir, "-q", "-o", "ndjson", "--since", "1800000000001", "--cursor-file", file}
	require.Equal(t, []string{"3"}, seqsOf(output(t, exitClean, args...)))
	require.EqualValues(t, 3, cursorSeq(t, file))
	require.Empty(t, output(t, exitNoMatch, args...))
	require.Empty(t, output(t, exitClean, "log", dir, "-q", "-o", "ndjson", "--cursor-file", file))
}

// The cursor does not pass the end of --to and --until, so that the next run prints the records after
// it.
func TestLog_CursorStopsAtTheEndOfTheRange(t *testing.T) {
	dir, file := segmentedLog(t, 3), filepath.Join(t.TempDir(), "cursor")
	earlier := strings.Replace(oneEvent, `"ts_ms":1800000000001`, `"ts_ms":1790000000000`, 1)
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(earlier), io.Discard, io.Discard))
	next := []string{"log", dir, "-q", "-o", "ndjson", "--cursor-file", file}
	require.Equal(t, []string{"1", "2"}, seqsOf(output(t, exitClean, append(next, "--to", "2")...)))
	require.EqualValues(t, 2, cursorSeq(t, file))
	require.Equal(t, []string{"4"}, seqsOf(output(t, exitClean, append(next, "--until", "1790000000000")...)))
	require.EqualValues(t, 2, cursorSeq(t, file))
	require.Equal(t, []string{"3", "4"}, seqsOf(output(t, exitClean, next...)))
	require.EqualValues(t, 4, cursorSeq(t, file))
}

// A cursor after the end of a damaged log names its last intact event.
func TestLog_CursorAfterLostEvents(t *testing.T) {
	dir, file := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "cursor")
	importedLines(10)(t, dir)
	output(t, exitClean, "log", dir, "-q", "--cursor-file", file)
	saved, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, bytes.Replace(saved, []byte(`"seq":10`), []byte(`"seq":99`), 1), 0o600))
	cutAt(t, dir, 8)
	code, _, errs := runTool(t, nil, "log", dir, "--cursor-file", file)
	require.Equal(t, exitIO, code)
	require.Contains(t, errs, "the cursor is at #99, and the log ends with #10, and the last one that is not lost is #7")
}

// A cursor of another log, a file that is no cursor, and a cursor after the end of the log are errors.
// The file stays as it is.
func TestLog_CursorOfAnotherLog(t *testing.T) {
	dir, other := segmentedLog(t, 3), segmentedLog(t, 3)
	file := filepath.Join(t.TempDir(), "cursor")
	backup := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, os.CopyFS(backup, os.DirFS(dir)))
	appendEvents(t, dir, 1, checkpoint.CatchUp{})
	output(t, exitClean, "log", dir, "-q", "--cursor-file", file)
	saved, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, test := range []struct {
		dir, content string
		code         int
		message      string
	}{
		{other, string(saved), exitUsage, "is a cursor in log"},
		{dir, "{}", exitUsage, "is not a cursor file"},
		{dir, "9502\n", exitUsage, "is not a cursor file"},
		{backup, string(saved), exitIO, "the cursor is at #4, and the log ends with #3"},
		{dir, regexp.MustCompile(`"header_crc32c":\d+`).ReplaceAllString(string(saved), `"header_crc32c":1`), exitIO, "the log has another event #4 than the one at the cursor"},
	} {
		require.NoError(t, os.WriteFile(file, []byte(test.content), 0o600))
		var errs bytes.Buffer
		require.Equal(t, test.code, run(t.Context(), []string{"log", test.dir, "-q", "--cursor-file", file}, nil, io.Discard, &errs), errs.String())
		require.Contains(t, errs.String(), test.message)
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, test.content, string(after))
	}
}

// failingWriter fails at its first write.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("the pipe is closed") }

// If the output cannot be written, the cursor does not move.
func TestLog_CursorStaysIfTheOutputFails(t *testing.T) {
	dir, file := segmentedLog(t, 3), filepath.Join(t.TempDir(), "cursor")
	require.Equal(t, exitIO, run(t.Context(), []string{"log", dir, "-q", "--cursor-file", file}, nil, failingWriter{}, io.Discard))
	require.NoFileExists(t, file)
}

// log --until-first stops after the first record that meets all conditions, also with --follow.
func TestLog_UntilFirst(t *testing.T) {
	dir := recordingLog(t)
	out := output(t, exitClean, "log", dir, "-q", "-o", "ndjson", "--until-first", "phase=cutover, vshard=11")
	seqs := seqsOf(out)
	require.Equal(t, "68", seqs[len(seqs)-1])
	require.Len(t, seqs, 68)
	require.Equal(t, []string{"68"}, seqsOf(output(t, exitClean, "log", dir, "-q", "-o", "ndjson", "-f", "--kind", "abort", "--until-first", "phase=Cutover,vshard=11")))
	require.Len(t, seqsOf(output(t, exitNoMatch, "log", dir, "-q", "-o", "ndjson", "--until-first", "vshard=99")), 9502)
	for _, bad := range []string{"phase", "since=5m", "phase=Never", "vshard=x", ""} {
		output(t, exitUsage, "log", dir, "--until-first", bad)
	}
	output(t, exitUsage, "log", dir, "--until-first", "", "--cursor-file", filepath.Join(t.TempDir(), "cursor"))
}
