package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The messages about a selection name it, and each time once.
func TestSelection_Messages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	importedFrom(recordingFile)(t, dir)
	for _, test := range []struct {
		args    []string
		code    int
		message string
	}{
		{[]string{"state", dir, "--older", "5m", "--now", "2026-11-23T02:20:00Z"}, exitClean, "FOR is measured to 2026-11-23T02:20:00.000Z\n"},
		{[]string{"state", dir, "--at", "#4000", "--vshard", "2"}, exitClean, "FOR is measured to that point, 2026-11-23T"},
		{[]string{"state", dir}, exitClean, "6 rows are in flight and 325 Complete and not removed. To see only the first ones, add --in-flight\n"},
		{[]string{"state", dir, "--in-flight"}, exitClean, "325 other rows are Complete and not removed\n"},
		{[]string{"lint", dir, "--vshard", "2"}, exitFindings, "1 finding after the filters, in a log of 1485 migrations"},
		{[]string{"lint", dir, "--since", "-20s"}, exitClean, "no findings after the filters, in a log of 1485 migrations"},
		{[]string{"lint", dir}, exitFindings, "3 findings in 1485 migrations"},
	} {
		code, _, errs := runTool(t, nil, test.args...)
		require.Equal(t, test.code, code, test.args)
		require.Contains(t, errs, test.message, test.args)
	}
	_, _, errs := runTool(t, nil, "state", dir, "--in-flight")
	require.NotContains(t, errs, "To see only")
}

// The filters select decisions that were made from all rows. The number to ask about is that of triage.
func TestPlan_Filters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	importedFrom(recordingFile)(t, dir)
	code, out, errs := runTool(t, nil, "plan", dir, "--in-flight", "--vshard", "8,11", "-o", "ndjson")
	require.Zero(t, code, errs)
	require.Equal(t, 2, strings.Count(out, "\n"))
	require.Contains(t, errs, "329 decisions are not shown, because the filters do not select them\n")
	code, _, errs = runTool(t, nil, "plan", dir, "--vshard", "99")
	require.Equal(t, exitNoMatch, code)
	require.Contains(t, errs, "no decision matches the filters")

	cutAt(t, dir, 6391)
	code, _, errs = runTool(t, nil, "plan", dir)
	require.Equal(t, exitDamage, code)
	require.Contains(t, errs, "227 to ask about, and the moves that the log may not have\n")
	require.Contains(t, errs, "To list them, run: replay-tool verify "+dir+" --all\n")
	code, _, errs = runTool(t, nil, "plan", dir, "--in-flight")
	require.Equal(t, exitDamage, code)
	require.Contains(t, errs, "5 to ask about\n")
}
