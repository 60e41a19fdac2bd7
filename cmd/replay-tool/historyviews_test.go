package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// historyCommands are the views of the whole history.
var historyCommands = []string{
	"stats LOG", "stats LOG --by node", "stats LOG --by vshard", "stats LOG --by minute", "stats LOG --by reason",
	"quiet LOG", "quiet LOG --before #3", "diff LOG --at #3", "diff LOG --at #2 --at #4 --all",
}

// at140 returns the commands with a width of 140 columns.
func at140(commands []string) (wide []string) {
	for _, c := range commands {
		wide = append(wide, c+" --width 140")
	}
	return wide
}

var historyViews = map[string]view{
	"healthy": {importedFrom(recordingFile), []string{
		"stats LOG", "stats LOG --by node", "stats LOG --by minute", "stats LOG --by reason", "stats LOG --vshard 11", "stats LOG --vshard 99",
		"quiet LOG", "quiet LOG --before 2026-11-23T02:09:00Z", "diff LOG --at #4000 --at #6000 --vshard 6,7,22", "diff LOG --at #9502",
	}},
	"healthy at 140": {importedLines(40), at140(historyCommands)},
	"small":          {importedLines(40), historyCommands},
	"empty":          {makeEmpty, []string{"stats LOG", "quiet LOG", "diff LOG --at -5s", "diff LOG LOG"}},
	"torn": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		tearTail(t, dir)
	}, []string{"stats LOG", "quiet LOG", "diff LOG --at #3", "diff LOG LOG"}},
	"damaged in the middle": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
		flipBodies(t, dir, 5, 20, 21)
	}, append([]string{"diff LOG LOG"}, historyCommands...)},
	"read-only directory": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		readOnly(t, dir)
	}, []string{"stats LOG --by node", "quiet LOG", "diff LOG --at #3"}},
	"two copies": {func(t *testing.T, dir string) {
		importedLines(40)(t, dir)
		other := filepath.Join(filepath.Dir(dir), "COPY")
		require.NoError(t, os.CopyFS(other, os.DirFS(dir)))
		flipBodies(t, other, 5, 20, 21)
		flipBodies(t, dir, 5)
		tearTail(t, other)
	}, []string{"diff LOG COPY", "diff COPY LOG"}},
	"missing directory": {func(*testing.T, string) {}, []string{"stats LOG", "quiet LOG", "diff LOG --at #3", "diff LOG LOG"}},
	"not a log": {func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(dir, []byte("text"), 0o600))
	}, []string{"stats LOG", "quiet LOG", "diff LOG --at #3"}},
	"newer format": {func(t *testing.T, dir string) {
		importedLines(5)(t, dir)
		makeNewer(t, dir, 3)
	}, []string{"stats LOG", "quiet LOG", "diff LOG --at #2", "diff LOG LOG"}},
	// Two incarnations, and a clock that went back.
	"violations":        {importedFrom(violationsFile), historyCommands},
	"violations at 140": {importedFrom(violationsFile), at140(historyCommands)},
	"abort under way":   {importedFrom("testdata/kinds.ndjson"), []string{"stats LOG", "quiet LOG", "diff LOG --at #2"}},
}

func makeEmpty(t *testing.T, dir string) {
	code, _, _ := runTool(t, strings.NewReader(""), "import", "-q", dir, "-")
	require.Zero(t, code)
}

// The views of the whole history are those in testdata/views, with their exit codes. To rewrite them
// after a change, run
//
//	go test ./cmd/replay-tool -run TestViews_History -update-views
func TestViews_History(t *testing.T) {
	for name, v := range historyViews {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			inParentOf(t, v, func() {
				for _, command := range v.commands {
					out.WriteString(viewOf(t, command))
				}
			})
			checkView(t, "history "+name, out.String())
		})
	}
}

// inParentOf makes a log and calls f in the directory that has the log as LOG.
func inParentOf(t *testing.T, v view, f func()) {
	testdata, err := os.Getwd()
	require.NoError(t, err)
	parent := t.TempDir()
	v.make(t, filepath.Join(parent, "LOG"))
	t.Chdir(parent)
	f()
	t.Chdir(testdata)
}

// The tables of export of each log have no width.
func TestViews_Export(t *testing.T) {
	for _, name := range []string{"empty", "torn", "damaged in the middle", "read-only directory", "violations", "abort under way", "missing directory", "not a log", "newer format"} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			inParentOf(t, historyViews[name], func() {
				for _, args := range []string{"--format csv", "--format csv --table stay", "--format csv --table move", "--format csv --table damage", "--format sql"} {
					code, stdout, stderr := runTool(t, nil, append([]string{"export", "LOG"}, strings.Fields(args)...)...)
					fmt.Fprintf(&out, "$ replay-tool export LOG %s\n%sstderr:\n%sexit %d\n\n", args, endsOf(stdout), stderr, code)
				}
			})
			checkView(t, "export "+name, out.String())
		})
	}
}

// endsOf returns the first and the last lines of a text.
func endsOf(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= 30 {
		return text
	}
	return strings.Join(lines[:12], "") + "...\n" + strings.Join(lines[len(lines)-14:], "")
}
