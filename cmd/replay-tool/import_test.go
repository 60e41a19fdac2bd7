package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

// catchUpLine is a line with a checkpoint of migration n.
func catchUpLine(n, attempt, index, tsMS int) string {
	return fmt.Sprintf(`{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-%012d","attempt":%d,"phase":"CatchUp","payload":{"vshard_id":%d,"learner_log_index_at_add":%d},"ts_ms":%d}`+"\n", n, attempt, n, index, tsMS)
}

func removeLineOf(n, tsMS int) string {
	return fmt.Sprintf(`{"kind":"remove","migration_id":"01a20629-44f1-75f5-8bf1-%012d","ts_ms":%d}`+"\n", n, tsMS)
}

// abortLines are one line of each kind that leaves the row of migration n in place.
func abortLines(n, tsMS int) []string {
	id := fmt.Sprintf(`"migration_id":"01a20629-44f1-75f5-8bf1-%012d"`, n)
	return []string{
		fmt.Sprintf(`{"kind":"abort_begun",%s,"reason":"stale","compensations":[{"kind":"RemoveLearner","group_id":9,"peer_id":3}],"ts_ms":%d}`+"\n", id, tsMS),
		fmt.Sprintf(`{"kind":"compensated",%s,"step":0,"ts_ms":%d}`+"\n", id, tsMS),
		fmt.Sprintf(`{"kind":"epoch_raised",%s,"ts_ms":%d,"epoch":%d}`+"\n", id, tsMS, tsMS+1),
	}
}

// runTool runs the tool, and returns its exit code and both outputs.
func runTool(t testing.TB, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(t.Context(), args, stdin, &out, &errs)
	return code, out.String(), errs.String()
}

func importText(t testing.TB, dir, text string, flags ...string) (code int, stdout, stderr string) {
	return runTool(t, strings.NewReader(text), append([]string{"import", dir, "-"}, flags...)...)
}

// import skips a byte order mark, also in front of a later line. It names the format of an input that
// is not text in UTF-8.
func TestImport_Formats(t *testing.T) {
	line, next := catchUpLine(1, 0, 2, 3), catchUpLine(1, 1, 2, 3)
	code, out, _ := importText(t, filepath.Join(t.TempDir(), "log"), byteOrderMark+line+byteOrderMark+next+byteOrderMark)
	require.Equal(t, exitClean, code)
	require.Contains(t, out, "2 lines: 2 events appended")

	utf16Of := func(order binary.AppendByteOrder, text string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := io.WriteString(w, line)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for input, want := range map[string]string{
		gz.String(): "the input is compressed with gzip: convert it to UTF-8 text first, as in 'gzip -dc FILE | replay-tool import DIR -'",
		"\x1f\x8b" + strings.Repeat("x", maxLineBytes+9): "compressed with gzip", // longer than any line
		utf16Of(binary.LittleEndian, byteOrderMark+line): "UTF-16, as PowerShell writes it: convert it to UTF-8 text first, as in 'iconv -f UTF-16",
		utf16Of(binary.BigEndian, byteOrderMark+line):    "UTF-16",
		utf16Of(binary.LittleEndian, line):               "UTF-16",
		utf16Of(binary.BigEndian, line):                  "UTF-16",
		"\xff\xfe\x00\x00{\x00\x00\x00":                  "UTF-32",
		"\x00\x00\xfe\xff\x00\x00\x00{":                  "UTF-32",
		"\x28\xb5\x2f\xfd....":                           "compressed with zstd",
		"\xfd7zXZ\x00":                                   "compressed with xz",
		"BZh91AY":                                        "compressed with bzip2",
		"PK\x03\x04..":                                   "a zip archive",
		strings.Replace(line, "CatchUp", "Catch\xe9", 1): fmt.Sprintf("line 1: byte %d (0xe9) is not valid UTF-8: convert the input to UTF-8", strings.Index(line, "CatchUp")+len("Catch")+1),
		"\x7b":                                "line 1: the line begins a JSON array, or an object of several lines: each line must be one JSON object. Print the events with 'log -o ndjson'. If you have only this file, convert it with 'jq -c . FILE'",
		`"`:                                   "line 1: the line is cut short after 1 byte: each line must be one JSON object",
		"[\n" + line:                          "with 'jq -c .[] FILE'",
		"[" + strings.TrimSpace(line) + "]\n": "with 'jq -c .[] FILE'",
		"seq,kind\n":                          "line 1: invalid character 's' looking for beginning of value near byte 1: each line must be one JSON object",
		strings.Replace(line, `"attempt":0`, `"attempt"=0`, 1): "line 1: invalid character '=' after object key near byte 84: each line",
	} {
		dir := filepath.Join(t.TempDir(), "log")
		code, _, errs := importText(t, dir, input)
		require.Equal(t, exitUsage, code, "%q", input[:1])
		require.Contains(t, errs, want)
		require.NoDirExists(t, dir)
	}
}

// If an import into a new log fails before it has appended an event, it leaves nothing behind. An
// existing directory stays.
func TestImport_LeavesNoNewDirectory(t *testing.T) {
	removals := strings.Repeat(removeLineOf(1, 2), maxBatchLines+1) // they append nothing
	tooLarge := fmt.Sprintf(`{"kind":"abort","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7a5","reason":%q,"compensations":[],"ts_ms":1}`, strings.Repeat("x", 70000))
	for name, input := range map[string]string{
		"the first line is invalid":          "{}\n" + catchUpLine(1, 0, 2, 3),
		"a line after removals is invalid":   removals + "{}\n",
		"a line after damage is invalid":     `{"kind":"damage","first_seq":1,"last_seq":1,"segment":"s","offset":0,"length":1,"reason":"r"}` + "\n{}",
		"the nil migration id":               strings.Replace(catchUpLine(1, 0, 2, 3), "01a20629-44f1-75f5-8bf1-000000000001", "00000000-0000-0000-0000-000000000000", 1),
		"an event that is too large":         tooLarge,
		"too large, after removals":          removals + tooLarge,
		"a line that is too long":            strings.Repeat("x", maxLineBytes+10),
		"an event of a kind that is unknown": `{"kind":"unknown","kind_code":99,"migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7a5","ts_ms":1}`,
	} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "a", "log")
		code, _, errs := importText(t, dir, input)
		require.Equal(t, exitUsage, code, name)
		require.Contains(t, errs, "import stopped: 0 events appended, and no log was created in "+dir, name)
		require.NoDirExists(t, filepath.Join(parent, "a"), name)

		require.NoError(t, os.MkdirAll(dir, 0o750))
		code, _, _ = importText(t, dir, input)
		require.Equal(t, exitUsage, code, name)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, name)
	}
	code, _, errs := importText(t, "/proc/nowhere/log", catchUpLine(1, 0, 2, 3)) // it cannot be created
	require.Equal(t, exitIO, code)
	require.Contains(t, errs, "import stopped: 0 events appended\n")
	dir := filepath.Join(t.TempDir(), "log")
	code, _, errs = importText(t, dir, removals+catchUpLine(1, 0, 2, 3)+"{}\n")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "created a new log in "+dir)
	require.Contains(t, errs, fmt.Sprintf("import stopped: 1 event appended and durable. To resume, correct line %d, and import the input from that line on", maxBatchLines+3))
	code, _, _ = runTool(t, nil, "verify", dir)
	require.Equal(t, exitClean, code)
}

// Import names the duplicates with another payload, and the difference: ten for people, all in JSON.
func TestImport_DuplicatesWithAnotherPayload(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	file := "../../testdata/raft-moves.ndjson"
	code, out, _ := runTool(t, nil, "import", "--check", dir, file, "-o", "json")
	require.Equal(t, exitClean, code)
	checked := summaryOf(t, out)
	require.EqualValues(t, 98, checked.Differs)
	require.Len(t, checked.Skipped, 98)
	code, out, errs := runTool(t, nil, "import", dir, file, "-o", "json")
	require.Equal(t, exitClean, code)
	summary := summaryOf(t, out)
	require.Len(t, summary.Skipped, 98)
	for i, s := range summary.Skipped {
		require.Len(t, s.Differences, 1)
		require.Equal(t, "started_at_hlc", s.Differences[0].Key)
		require.Positive(t, s.Seq)
		require.Equal(t, s.Line, checked.Skipped[i].Line)
		require.Equal(t, s.Differences, checked.Skipped[i].Differences)
	}
	require.Equal(t, 10, strings.Count(errs, "with another payload: started_at_hlc "))
	require.Contains(t, errs, "and 88 more such duplicates. To list all of them, use -o json")

	dir = filepath.Join(t.TempDir(), "log")
	const addLearner = `{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-000000000009","attempt":0,"phase":"AddLearner","payload":{"vshard_id":1,"source_node":%d,"target_node":3,"source_group":4,"write_pause_budget_us":5,"started_at_hlc":{"wall_ns":%d,"logical":0}},"ts_ms":4}` + "\n"
	code, out, errs = importText(t, dir, fmt.Sprintf(addLearner, 2, 5)+fmt.Sprintf(addLearner, 7, 6)+fmt.Sprintf(addLearner, 2, 5))
	require.Equal(t, exitClean, code)
	require.Contains(t, errs, "line 2: duplicate of #1 with another payload: source_node 2 in the log, 7 in the line; started_at_hlc 5/0 in the log, 6/0 in the line\n")
	require.NotContains(t, errs, "line 3")
	require.Contains(t, out, "3 lines: 1 event appended, skipped: 2 duplicates (1 with another payload: source_node 1, started_at_hlc 1)")
	_, _, errs = importText(t, filepath.Join(t.TempDir(), "none"), fmt.Sprintf(addLearner, 2, 5)+fmt.Sprintf(addLearner, 2, 6), "--check")
	require.Contains(t, errs, "line 2: duplicate of line 1 with another payload: started_at_hlc 5/0 in line 1, 6/0 in the line\n")
}

func summaryOf(t testing.TB, text string) (m importer) {
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	return m
}

// --check predicts the result of an import: the counts, the skipped lines, the error and the exit code.
// It changes no byte, and creates no log.
func TestImport_Check(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	lines := func(n int) string {
		var b strings.Builder
		for range random.IntN(n) {
			id, ts := 1+random.IntN(4), random.IntN(50)
			switch random.IntN(14) {
			case 12, 13:
				b.WriteString(abortLines(id, ts)[random.IntN(3)])
			case 0, 1:
				b.WriteString(removeLineOf(id, ts))
			case 2:
				b.WriteString("\n")
			case 3:
				if random.IntN(2) == 0 {
					b.WriteString("{}\n")
				}
			default:
				line := catchUpLine(id, random.IntN(2), random.IntN(2), ts)
				if random.IntN(2) == 0 {
					line = strings.Replace(line, `"CatchUp","payload":{`, `"Complete","payload":{"actual_pause_us":1,"ghost_stub_installed":true,`, 1)
					line = line[:strings.Index(line, `,"learner_log`)] + line[strings.Index(line, `},"ts_ms"`):]
				}
				b.WriteString(line)
			}
		}
		return b.String()
	}
	codes := map[int]int{}
	byLine, bySeq := 0, 0
	for round := range 150 {
		dir := filepath.Join(t.TempDir(), "log")
		exists := round%4 != 0
		if exists {
			importText(t, dir, catchUpLine(1, 9, 9, 9)+lines(20))
		}
		input, flags := lines(20), []string{"-o", "json"}
		if round%5 == 0 {
			flags = append(flags, "--confirm")
		}
		before := ""
		if exists {
			before = contentHash(t, dir)
		}
		// A file is read to its end after a repeated event. Of a stream, the message counts the events
		// that have arrived.
		file := filepath.Join(t.TempDir(), "input.ndjson")
		require.NoError(t, os.WriteFile(file, []byte(input), 0o600))
		args := append([]string{"import", dir, file}, flags...)
		checkCode, checkOut, checkErrs := runTool(t, nil, append(args, "--check")...)
		if exists {
			require.Equal(t, before, contentHash(t, dir))
		} else {
			require.NoDirExists(t, dir)
		}
		code, out, errs := runTool(t, nil, args...)
		require.Equal(t, code, checkCode, "%s\n%s\n%s", input, errs, checkErrs)
		codes[code]++
		if code != exitClean {
			// A conflict with an earlier line names its seq if its batch was written, else the line.
			place := regexp.MustCompile(`with another payload at (seq|line) \d+`)
			message := func(errs string) string {
				return place.ReplaceAllString(errs[strings.Index(errs, "replay-tool: "):], "with another payload")
			}
			if exists {
				require.Equal(t, message(errs), message(checkErrs))
			}
			continue
		}
		want, got := summaryOf(t, out), summaryOf(t, checkOut)
		require.True(t, got.Check)
		require.False(t, want.Check)
		require.Equal(t, len(want.Skipped), len(got.Skipped))
		for i := range want.Skipped {
			w, g := &want.Skipped[i], &got.Skipped[i]
			require.Positive(t, w.Seq)
			require.Zero(t, w.RowLine)
			if g.RowLine == 0 {
				bySeq++ // the row is in the log already
				continue
			}
			byLine++ // the row is of an earlier line, so the check does not know its seq
			require.Less(t, g.RowLine, g.Line)
			require.Zero(t, g.Seq)
			w.Seq, g.RowLine = 0, 0
		}
		got.Check = false
		if exists { // a check does not read the history of the log
			want.HistoryErrors = nil
		}
		require.Equal(t, want, got, "%s", input)
	}
	require.Positive(t, byLine)
	require.Positive(t, bySeq)
	require.Greater(t, codes[exitClean], 4, "%v", codes)
	require.Greater(t, codes[exitUsage], 4, "%v", codes)
}

func contentHash(t testing.TB, dir string) string {
	h, err := hashDir(dir)
	require.NoError(t, err)
	return h
}

// --check does not take the lock, and has the exit codes of an import for directories without a log.
func TestImport_CheckExitCodes(t *testing.T) {
	line := catchUpLine(1, 0, 2, 3)
	dir := filepath.Join(t.TempDir(), "log")
	importText(t, dir, line)
	bare := t.TempDir()
	file := filepath.Join(bare, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	gone := filepath.Join(t.TempDir(), "log")
	importText(t, gone, line)
	require.NoError(t, os.Remove(filepath.Join(gone, "wal", "00000000000000000001")))
	for _, args := range [][]string{{dir}, {filepath.Join(dir, "wal")}, {file}, {gone}, {"", "--confirm"}, {bare, "--confirm"}, {filepath.Join(bare, "x"), "--confirm"}} {
		checked, _, checkErrs := importText(t, args[0], line, append(args[1:], "--check")...)
		code, _, errs := importText(t, args[0], line, args[1:]...)
		require.Equal(t, code, checked, "%s: %s%s", args, checkErrs, errs)
	}
}

// If the log already has an event that would be appended, import stops before it. A file is therefore
// not imported twice, and no row goes back to an earlier phase.
func TestImport_EventsThatAreInTheLog(t *testing.T) {
	first := catchUpLine(1, 0, 2, 3) + catchUpLine(2, 0, 2, 3) + catchUpLine(2, 0, 9, 3) + removeLineOf(2, 4) + catchUpLine(1, 1, 2, 5)
	dir := filepath.Join(t.TempDir(), "log")
	code, _, _ := importText(t, dir, first)
	require.Equal(t, exitClean, code)
	_, history, _ := runTool(t, nil, "log", dir, "-o", "ndjson")
	require.Equal(t, 4, strings.Count(history, "\n"))

	file := filepath.Join(t.TempDir(), "again.ndjson")
	require.NoError(t, os.WriteFile(file, []byte(first+"\n"+catchUpLine(3, 0, 1, 1)), 0o600))
	for _, check := range []bool{true, false} {
		args := []string{"import", dir, file}
		if check {
			args = append(args, "--check")
		}
		code, _, errs := runTool(t, nil, args...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, "line 1: this event is in the log already. If it is appended again, its migration may go back to an earlier phase. "+
			"From this line to the end of the input, the log has 4 of 6 events, the last on line 5. "+
			"To continue, import only the lines after line 5. To append an event again on purpose, use --confirm\n")
		_, again, _ := runTool(t, nil, "log", dir, "-o", "ndjson")
		require.Equal(t, history, again)
	}
	// An input that may not end is not read any further than the lines that have arrived.
	in, pipe := io.Pipe()
	go io.WriteString(pipe, first) // and the pipe stays open
	code, _, errs := runTool(t, in, "import", dir, "-")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "to the end of the input that was read")
	require.NoError(t, in.Close())

	// The lines before the event are durable. The latest row itself is a duplicate, as before.
	code, _, errs = importText(t, dir, catchUpLine(1, 1, 2, 5)+catchUpLine(3, 0, 1, 1)+catchUpLine(1, 0, 2, 3))
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "import stopped: 1 event appended and durable\n")
	require.Contains(t, errs, "line 3: this event is in the log already")

	// The same id may be used again, and an operator may append an event again.
	code, out, _ := importText(t, dir, catchUpLine(2, 0, 2, 6))
	require.Equal(t, exitClean, code)
	require.Contains(t, out, "1 event appended")
	code, out, _ = importText(t, dir, catchUpLine(1, 0, 2, 3), "--confirm")
	require.Equal(t, exitClean, code)
	require.Contains(t, out, "1 event appended")

	// A copy may have the same event twice, because the original has.
	_, history, _ = runTool(t, nil, "log", dir, "-o", "ndjson")
	code, _, errs = importText(t, filepath.Join(t.TempDir(), "copy"), history)
	require.Equal(t, exitClean, code, errs)
}

// If another process creates the log after the import began, the import stops before its first event.
func TestImport_LogAppearsMeanwhile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	lines, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	first := bytes.SplitAfterN(lines, []byte("\n"), 4)
	calls := 0
	input := readerFunc(func(b []byte) (int, error) {
		if calls++; calls > 1 {
			return 0, io.EOF
		}
		_, _, errs := runTool(t, bytes.NewReader(first[0]), "import", dir, "-")
		require.Contains(t, errs, "created a new log")
		return copy(b, bytes.Join(first[:3], nil)), nil
	})
	code, _, errs := runTool(t, input, "import", dir, "-")
	require.Equal(t, exitIO, code)
	require.Contains(t, errs, "another process created the log after this import began: run the import again")
	_, out, _ := runTool(t, nil, "log", dir, "-o", "ndjson")
	require.Equal(t, 1, strings.Count(out, "\n"), "nothing was appended")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
