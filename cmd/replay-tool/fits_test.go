package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// assertFits checks that no line of an output is longer than width, and that no line ends with a
// blank.
func assertFits(t *testing.T, output string, width int) {
	t.Helper()
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		require.LessOrEqual(t, textWidth(line), width, "%s", line)
		require.NotRegexp(t, `\s$`, line)
	}
}

// The lines about damage fit the width, and have the same words.
func TestReportFindings_Fits(t *testing.T) {
	dir := recordingLog(t)
	flipBodies(t, dir, 3000)
	lines := func(args ...string) []string {
		code, _, errs := runTool(t, nil, append([]string{"state", dir}, args...)...)
		require.Equal(t, exitDamage, code)
		require.Contains(t, errs, "damage: ")
		all := strings.Split(errs[strings.Index(errs, "damage: "):], "\n")
		n := 1
		for strings.HasPrefix(all[n], "  ") {
			n++
		}
		return all[:n]
	}
	whole := lines("--wide")
	require.Len(t, whole, 1)
	narrow := lines("--width", "60")
	require.Greater(t, len(narrow), 1)
	for _, line := range narrow {
		require.LessOrEqual(t, len(line), 60)
	}
	require.Equal(t, strings.Fields(whole[0]), strings.Fields(strings.Join(narrow, " ")))
}
