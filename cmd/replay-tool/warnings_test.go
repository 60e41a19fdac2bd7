package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/replay"
)

// import warns of numbers that look rounded, with the first ten lines, if no checksum protects them.
// Even --quiet does not suppress it.
func TestWarnings_RoundedNumbers(t *testing.T) {
	var input strings.Builder
	input.WriteString(catchUpLine(99, 0, 1795399697649400619, 1)) // exact
	for i := range 13 {
		input.WriteString(catchUpLine(i+1, 0, 1795399697649400576, 1))
	}
	for _, flag := range []string{"--check", "-q"} {
		dir := filepath.Join(t.TempDir(), "log")
		code, _, errs := importText(t, dir, input.String(), flag)
		require.Equal(t, exitClean, code)
		require.Contains(t, errs, "warning: line 2: \"payload.learner_log_index_at_add\": 1795399697649400576 may have been rounded, and the line has no crc32c\n")
		require.Equal(t, 10, strings.Count(errs, "warning: line "))
		require.Contains(t, errs, "warning: and 3 more lines with numbers that may have been rounded\nwarning: compare these numbers with their source: about 1 in 100 looks rounded by chance. "+replay.RoundingHint+"\n")
	}
	dir := filepath.Join(t.TempDir(), "log")
	_, _, errs := importText(t, dir, catchUpLine(1, 0, 1795399697649400576, 1)+"{}\n")
	require.Contains(t, errs, "warning: line 1: ", "also if the import stops")
	_, history, _ := runTool(t, nil, "log", dir, "-o", "ndjson")
	_, _, errs = importText(t, filepath.Join(t.TempDir(), "copy"), history)
	require.NotContains(t, errs, "warning", "the line has a checksum")
}

// import warns of events whose clock is after the year 9999, or more than a day ahead, with their
// number and the first line. Lines that are not appended do not count.
func TestWarnings_Clocks(t *testing.T) {
	ahead := int(time.Now().Add(25 * time.Hour).UnixMilli())
	soon := int(time.Now().Add(23 * time.Hour).UnixMilli())
	for _, flag := range []string{"--check", "-q"} {
		code, _, errs := importText(t, filepath.Join(t.TempDir(), "log"), catchUpLine(1, 0, 1, soon)+catchUpLine(2, 0, 1, ahead)+
			catchUpLine(2, 0, 1, ahead)+catchUpLine(3, 0, 1, 253402300799999)+catchUpLine(4, 0, 1, 253402300800000)+removeLineOf(4, 1795399697649400619), flag)
		require.Equal(t, exitClean, code)
		require.Contains(t, errs, "warning: 2 events have a clock after the year 9999, the first on line 5: ts_ms 253402300800000. ")
		require.Contains(t, errs, "warning: 2 events have a clock more than a day ahead of this machine's clock, the first on line 2: "+
			time.UnixMilli(int64(ahead)).UTC().Format("2006-01-02T15:04:05.000Z")+". ")
		require.Equal(t, 2, strings.Count(errs, "warning"))
	}
	_, _, errs := importText(t, filepath.Join(t.TempDir(), "log"), catchUpLine(1, 0, 1, 253402300800000))
	require.Contains(t, errs, "warning: 1 event has a clock after the year 9999, the first on line 1")
	_, _, errs = importText(t, filepath.Join(t.TempDir(), "log"), catchUpLine(1, 0, 1, soon))
	require.NotContains(t, errs, "warning")
}

// While import waits for the disk, it prints the warning of the store. It prints the other messages
// of the store itself.
func TestWarnings_SlowDisk(t *testing.T) {
	var errs bytes.Buffer
	tl := &tool{stderr: &errs}
	logger, stop := tl.storeLogger()
	logger.Info("still being opened", "dir", "a b", "elapsed", 1500*time.Millisecond)
	logger.Warn("migrationlog waits for the disk", "dir", "d", "operation", "sync", "since", time.Now(), "elapsed", 2*time.Second)
	logger.Warn("migrationlog is damaged", "dir", "d", "severity", "x")
	tl.quiet = true
	logger.Info("quiet", "elapsed", time.Second)
	logger.Warn("loud", "elapsed", time.Second)
	stop()
	logger.Warn("after the end", "elapsed", time.Second)
	text := errs.String()
	require.Equal(t, "still being opened ('a b', 1.5s)\nmigrationlog waits for the disk (d, sync, 2s)\nloud (1s)\n", text)

	logged, err := os.Create(filepath.Join(t.TempDir(), "logged"))
	require.NoError(t, err)
	defer logged.Close()
	m := &importer{tool: tl, dir: filepath.Join(t.TempDir(), "log"), logger: slog.New(slog.NewTextHandler(logged, nil))}
	require.NoError(t, m.open())
	require.NoError(t, m.store.Close())
	content, err := os.ReadFile(logged.Name())
	require.NoError(t, err)
	require.Contains(t, string(content), "migrationlog is open", "import passes its logger to the store")
}

// A report with very many findings ends with a hint to the verdict and to info.
func TestFindings_LongReport(t *testing.T) {
	dir, _ := smallLog(t, 4)
	for i := range longReportLines {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", fmt.Sprintf("%d.swp", i)), nil, 0o600))
	}
	const hint = "findings and migrations are listed. The first line is the verdict. To print only the counts, run 'replay-tool info'\n"
	_, _, errs := runTool(t, nil, "verify", dir)
	require.NotContains(t, errs, hint)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", "more.swp"), nil, 0o600))
	_, out, errs := runTool(t, nil, "verify", dir)
	require.Contains(t, errs, "101 "+hint)
	require.Equal(t, 101, strings.Count(out, "harmless: "))
	_, _, errs = runTool(t, nil, "verify", "-q", dir)
	require.Empty(t, errs)
}

// Without a watermark nobody knows if events are lost at the end, so info does not say that none is.
func TestInfo_LostEventsThatAreNotKnown(t *testing.T) {
	dir, _ := smallLog(t, 4)
	require.NoError(t, os.Remove(filepath.Join(dir, "WATERMARK")))
	require.NoError(t, os.Remove(filepath.Join(dir, "wal", "WATERMARK")))
	code, out, _ := runTool(t, nil, "info", dir)
	require.Equal(t, exitDamage, code)
	require.Regexp(t, `bytes      DAMAGED in \d places?: 0 events known to be lost, 0 migrations in doubt`, out)
}

// A number and its noun agree.
func TestCounts_Grammar(t *testing.T) {
	require.Equal(t, "1 event has", have(1, "event"))
	require.Equal(t, "2 events have", have(2, "event"))
	require.Equal(t, "0 events have", have(0, "event"))
	_, out, _ := importText(t, filepath.Join(t.TempDir(), "log"), catchUpLine(1, 0, 2, 3)+removeLineOf(2, 3))
	require.Contains(t, out, "2 lines: 1 event appended, skipped: 0 duplicates (0 with another payload), 1 abort or removal of a migration without a row\n")
	for n, want := range map[uint64]string{1: "\n1 event has a kind that", 2: "\n2 events have a kind that"} {
		var text bytes.Buffer
		(&tool{stdout: &text, stderr: io.Discard}).verifyText(replay.Verification{Report: replay.Report{FramesOK: 3, UnknownKinds: n}}, verifyOptions{})
		require.Contains(t, text.String(), want)
	}
	dir, _ := smallLog(t, 4)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wal", ".DS_Store"), []byte("x"), 0o600))
	var verified bytes.Buffer
	require.Equal(t, exitHarmless, run(t.Context(), []string{"verify", dir}, nil, &verified, io.Discard))
	require.Contains(t, verified.String(), "harmless: wal/.DS_Store, 1 byte: not a file")
}
