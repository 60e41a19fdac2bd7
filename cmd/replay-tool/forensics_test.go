package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const forensicsFile = "../../docs/FORENSICS.md"

// The commands of the post-mortem print the output that it shows. TestRunbook_Commands describes how
// to rewrite it.
func TestForensics_Commands(t *testing.T) { runDocument(t, forensicsFile) }

// The table of questions answers each question with at most two commands. Each of them works on the
// recording, and each link leads to a section.
func TestForensics_Questions(t *testing.T) {
	content, err := os.ReadFile(forensicsFile)
	require.NoError(t, err)
	var titles []string
	for _, s := range parseRunbook(string(content)) {
		titles = append(titles, anchorOf(s.title))
	}
	recorded := recordingLog(t)
	t.Chdir(t.TempDir())
	require.NoError(t, os.Rename(recorded, "log"))
	require.NoError(t, os.CopyFS("copy", os.DirFS("log")))
	flipBodies(t, "copy", 4795)

	rows := regexp.MustCompile(`(?m)^\| ([^|]+\?) \| ([^|]+) \| \[below\]\(#([^)]+)\) \|$`).FindAllStringSubmatch(string(content), -1)
	require.Len(t, rows, 10)
	for _, row := range rows {
		require.Contains(t, titles, row[3], row[1])
		commands := regexp.MustCompile("`replay-tool ([^`]+)`").FindAllStringSubmatch(row[2], -1)
		require.NotEmpty(t, commands, row[1])
		require.LessOrEqual(t, len(commands), 2, row[1])
		for _, command := range commands {
			args := strings.Fields(strings.ReplaceAll(command[1], "-5m", "-50s")) // the recording is shorter
			var out strings.Builder
			code := run(t.Context(), args, nil, &out, io.Discard)
			require.Contains(t, []int{exitClean, exitDamage, exitFindings}, code, command[1])
			require.True(t, out.Len() > 0 || slices.Contains(args, "--out"), command[1])
		}
	}
	require.FileExists(t, "moves.html")
}
