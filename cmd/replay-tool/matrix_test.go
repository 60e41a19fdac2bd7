package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// matrixLog is a log that all reading commands read.
type matrixLog struct {
	name string // of its directory, and its column in testdata/exit-codes.txt
	id   string // the end of the id of a migration in it
	make func(t *testing.T, dir string)
}

const firstID = "f8b7a5" // of the recording

var matrixLogs = []matrixLog{
	{"healthy", firstID, importedLines(120)},
	{"empty", firstID, makeEmpty},
	{"torn", firstID, func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		tearTail(t, dir)
	}},
	{"damaged", firstID, func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
		flipBodies(t, dir, 5, 20, 21)
	}},
	{"written", firstID, func(t *testing.T, dir string) {
		_, stop := startWriter(t, dir, firstLines(t, 40))
		t.Cleanup(stop)
	}},
	{"readonly", firstID, func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		readOnly(t, dir)
	}},
	{"missing", firstID, func(*testing.T, string) {}},
	{"file", firstID, func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(dir, []byte("text"), 0o600))
	}},
	{"newer", firstID, func(t *testing.T, dir string) {
		importedLines(5)(t, dir)
		makeNewer(t, dir, 3)
	}},
	{"again", "000005", importedText(line(5, "AddLearner", 0, 0) + abortLine(5, 1000) + line(5, "AddLearner", 0, 1500) + line(5, "CatchUp", 0, 2000))},
	{"backwards", "000005", importedText(line(5, "AddLearner", 0, 2000) + line(5, "CatchUp", 0, 1000) + line(6, "AddLearner", 0, 1100) +
		line(5, "Cutover", 0, 2500) + line(5, "Complete", 0, 3000))},
}

// importedText returns a function that imports lines of NDJSON.
func importedText(lines string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		code, _, errs := importText(t, dir, lines)
		require.Zero(t, code, errs)
	}
}

// matrixCommands are the reading commands. LOG is the directory of the log, ID a migration in it, and
// NEW a path that does not exist.
var matrixCommands = []string{
	"LOG", "triage LOG", "triage LOG --check", "triage LOG --window 1h",
	"show LOG ID", "show LOG ID --bars=false", "show LOG --vshard 5",
	"state LOG", "state LOG -v", "state LOG --in-flight", "state LOG --at #2", "state LOG --at -1s", "state LOG --snapshot", "state LOG ID",
	"log LOG", "log LOG -n 3", "log LOG --reverse", "log LOG --kind abort", "log LOG --migration ID", "log LOG --until-first phase=Cutover",
	"plan LOG", "plan LOG --at #2", "what-if LOG", "crash-points LOG",
	"lint LOG", "lint LOG --severity info", "lint LOG --rule slow-phase",
	"stats LOG", "stats LOG --by node", "stats LOG --by vshard", "stats LOG --by minute", "stats LOG --by reason",
	"quiet LOG", "quiet LOG --before #3", "diff LOG --at #2", "diff LOG --at #2 --at #4 --all", "diff LOG LOG",
	"verify LOG", "verify LOG --all", "info LOG", "frame LOG 2",
	"timeline LOG", "timeline LOG --by node", "timeline LOG --by migration", "timeline LOG --format svg", "timeline LOG --format html", "timeline LOG --format perfetto",
	"export LOG --format ndjson", "export LOG --format csv", "export LOG --format csv --table move", "export LOG --format sql",
	"bundle LOG --all --out NEW", "salvage LOG --out NEW",
}

// matrixFile has a line for each command and a column for each log.
const matrixFile = "testdata/exit-codes.txt"

// Each reading command handles each log: no line is longer than 80 or 140 columns, the format and the
// color do not change the exit code, color changes nothing else, and JSON is valid. To rewrite the
// exit codes after a change, run
//
//	go test ./cmd/replay-tool -run TestMatrix -update-views
func TestMatrix(t *testing.T) {
	setClock(t, recordingEndMS+(5*24+20)*3_600_000)
	file, err := filepath.Abs(matrixFile)
	require.NoError(t, err)
	parent := t.TempDir()
	for _, l := range matrixLogs {
		l.make(t, filepath.Join(parent, l.name))
	}
	t.Chdir(parent) // the width of a line depends on the name of the directory
	codes := make([][]int, len(matrixCommands))
	t.Run("commands", func(t *testing.T) {
		for i, command := range matrixCommands {
			codes[i] = make([]int, len(matrixLogs))
			for j, l := range matrixLogs {
				t.Run(command+" of "+l.name, func(t *testing.T) {
					t.Parallel()
					codes[i][j] = checkMatrix(t, command, l)
				})
			}
		}
	})
	got := matrixTable(codes)
	if *updateViews {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// matrixTable returns the exit codes as a table.
func matrixTable(codes [][]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-38s", "")
	for _, l := range matrixLogs {
		fmt.Fprintf(&b, " %9s", l.name)
	}
	b.WriteByte('\n')
	for i, command := range matrixCommands {
		fmt.Fprintf(&b, "%-38s", command)
		for _, code := range codes[i] {
			fmt.Fprintf(&b, " %9d", code)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// styles are the escape sequences of --color.
var styles = regexp.MustCompile("\x1b\\[[0-9]*m")

// checkMatrix runs a command in each format and returns its exit code.
func checkMatrix(t *testing.T, command string, l matrixLog) (code int) {
	runs := 0
	with := func(flags ...string) (got int, out, errs string) {
		runs++
		newDir := fmt.Sprintf("%s-of-%s-%d", strings.Fields(command)[0], l.name, runs)
		fields := strings.Fields(command)
		for i, arg := range fields {
			switch arg {
			case "LOG":
				fields[i] = "./" + l.name
			case "ID":
				fields[i] = l.id
			case "NEW":
				fields[i] = newDir
			}
		}
		got, out, errs = runTool(t, nil, append(fields, flags...)...)
		return got, strings.ReplaceAll(out, newDir, "NEW"), strings.ReplaceAll(errs, newDir, "NEW")
	}
	isTable := !strings.Contains(command, "--format")
	code, pipe, pipeErrs := with()
	assert.NotContains(t, pipe+pipeErrs, "\x1b")
	assert.NotContains(t, pipe+pipeErrs, "panic")
	colored, out, errs := with("--color", "always")
	assert.Equal(t, code, colored)
	if !strings.Contains(command, "NEW") { // each copy has times or an id of its own
		assert.Equal(t, pipe, styles.ReplaceAllString(out, ""))
		assert.Equal(t, pipeErrs, styles.ReplaceAllString(errs, ""))
	}
	if !isTable {
		return code
	}
	for _, width := range []int{80, 140} {
		got, out, errs := with("--width", fmt.Sprint(width))
		assert.Equal(t, code, got)
		assertFits(t, out, width)
		assert.NotRegexp(t, `[ \t]\n`, errs)
	}
	got, out, _ := with("-o", "json")
	assert.Equal(t, code, got, out)
	assert.True(t, out == "" || json.Valid([]byte(out)), out)
	got, out, _ = with("-o", "ndjson")
	assert.Equal(t, code, got)
	for line := range strings.Lines(out) {
		assert.True(t, json.Valid([]byte(line)), line)
	}
	return code
}
