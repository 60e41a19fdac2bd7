package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay"
)

// --kind takes the names of JSON, and the words that the tables print.
func TestParseKind(t *testing.T) {
	for name, want := range map[string]replay.Kind{"abort": replay.KindAbort, "aborted": replay.KindAbort, "removed": replay.KindRemove, "Checkpoint": replay.KindCheckpoint} {
		got, err := parseKind(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := parseKind("CatchUp")
	require.ErrorAs(t, err, new(usageError))
}

// The message about a second argument names the flag for a migration, if the command has it.
func TestArgCount_Migration(t *testing.T) {
	for command, want := range map[string]string{"log": "; to select a migration, use --migration ID, or replay-tool show DIR ID\n", "verify": " [flags])\n"} {
		code, _, stderr := runTool(t, nil, command, "log", "781d20")
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, want)
	}
}

// --vshard takes numbers and ranges, which include both ends.
func TestParseVShards(t *testing.T) {
	for text, want := range map[string][]uint32{"7": {7}, "3-5": {3, 4, 5}, "4294967294-4294967295": {4294967294, 4294967295}} {
		got, err := parseVShards([]string{text})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "x", "-", "1-", "-1", "5-3", "1-2-3", "4294967296", "1-4294967295", "0-10000"} {
		_, err := parseVShards([]string{text})
		require.ErrorAs(t, err, new(usageError), text)
	}
	_, err := parseVShards([]string{"1-9999", "1-2"})
	require.ErrorAs(t, err, new(usageError))
}
