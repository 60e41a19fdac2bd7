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
