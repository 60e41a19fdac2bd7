package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A period that ends before the log, or before its own beginning, is not shown as a match.
func TestPeriods_OutsideTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	importedLines(40)(t, dir)
	for _, test := range []struct {
		args    []string
		code    int
		message string
	}{
		{[]string{"state", dir, "--at", "-5m"}, exitNoMatch, "no event is included: the first one, #1, has a later clock"},
		{[]string{"state", dir, "--at", "-5m", "--in-flight"}, exitNoMatch, "no event is included"},
		{[]string{"timeline", dir, "--until", "-5m"}, exitNoMatch, "no move matches"},
		{[]string{"timeline", dir, "--since", "now"}, exitNoMatch, "no move matches"},
		{[]string{"log", dir, "--since", "-1s", "--until", "-2s"}, exitUsage, "--until is before --since: give a later time"},
		{[]string{"lint", dir, "--since", "-1s", "--until", "-2s"}, exitUsage, "--until is before --since: give a later time"},
		{[]string{"stats", dir, "--since", "-1s", "--until", "-2s"}, exitUsage, "--until is before --since: give a later time"},
	} {
		code, out, errs := runTool(t, nil, test.args...)
		require.Equal(t, test.code, code, "%v: %s", test.args, out)
		require.Empty(t, out, test.args)
		require.Contains(t, errs, test.message, test.args)
	}
}
