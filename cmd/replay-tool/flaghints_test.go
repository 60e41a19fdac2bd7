package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The message about a wrong flag, value or argument names the right one.
func TestUsage_Hints(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	importedLines(40)(t, dir)
	for _, test := range []struct {
		args    []string
		message string
	}{
		{[]string{"state", dir, "--inflight"}, "unknown flag: --inflight. Did you mean --in-flight?"},
		{[]string{"log", dir, "--vshards", "2"}, "unknown flag: --vshards. Did you mean --vshard?"},
		{[]string{"triage", dir, "--at", "-5m"}, "unknown flag: --at. It is a flag of state, plan, diff"},
		{[]string{"--version"}, "unknown flag: --version. Run 'replay-tool version'"},
		{[]string{"log", dir, "--last", "20s"}, "For a time span, use --since, such as --since -20s"},
		{[]string{"log", dir, "--from", "#x"}, "give a whole number that is not negative"},
		{[]string{"log", dir, "--from", "index:9"}, "the events of the log have no raft index. Give a seq"},
		{[]string{"log", dir, "7a909"}, "to select a migration, use --migration ID, or replay-tool show DIR ID"},
		{[]string{"show", "7a909"}, "7a909 is an id and not a directory: run replay-tool show DIR 7a909"},
		{[]string{"state", dir, "--at", "7a909"}, "A point can also be #SEQ, index:RAFT_INDEX or ID@PHASE, such as '#9402', index:12840 or 781d20@Cutover"},
		{[]string{"state", dir, "--at", "end"}, "A point can also be #SEQ, index:RAFT_INDEX or ID@PHASE"},
		{[]string{"state", dir, "--wide", "--width", "40"}, "--wide and --width cannot be used together"},
		{[]string{"state", dir, "--width", "0"}, "--width 0: give a number of at least 1"},
		{[]string{"state", dir, "--at", "-30"}, "A point can also be #SEQ, index:RAFT_INDEX or ID@PHASE"},
	} {
		code, _, errs := runTool(t, nil, test.args...)
		require.Equal(t, exitUsage, code, test.args)
		require.Contains(t, errs, test.message, test.args)
	}
	_, _, errs := runTool(t, nil, "state", dir, "--zebra")
	require.NotContains(t, errs, "mean")
	code, out, _ := runTool(t, nil, "log", dir, "-q", "-o", "ndjson", "--from", "#3", "--to", "#4")
	require.Zero(t, code)
	require.Equal(t, []string{"3", "4"}, seqsOf(out))
}

// The format of the picture follows the ending of the file, unless it is given.
func TestTimeline_FormatOfTheFile(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "log"), t.TempDir()
	importedLines(40)(t, dir)
	for name, start := range map[string]string{"t.html": "<!DOCTYPE html>", "t.SVG": "<svg", "t.json": "{", "t.txt": "2026-11-23"} {
		file := filepath.Join(out, name)
		code, _, errs := runTool(t, nil, "timeline", dir, "--out", file)
		require.Zero(t, code, errs)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, start, string(b[:len(start)]), name)
	}
	file := filepath.Join(out, "text.html")
	code, _, errs := runTool(t, nil, "timeline", dir, "--format", "ascii", "--out", file)
	require.Zero(t, code, errs)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "2026-11-23", string(b[:10]))
}
