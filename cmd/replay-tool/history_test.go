package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay"
)

// If the context ends, a fold stops after the present record, even if more records were read ahead.
func TestFold_StopsWhenTheContextEnds(t *testing.T) {
	lines, err := os.Open("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer lines.Close()
	dir := filepath.Join(t.TempDir(), "log")
	require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, lines, io.Discard, io.Discard))

	ctx, cancel := context.WithCancel(t.Context())
	visits := 0
	_, err = (&tool{stderr: io.Discard, quiet: true}).fold(ctx, dir, func(*replay.Fold, replay.Record) error {
		visits++
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, visits)
}

// A part of an id may leave out the hyphens. The message about a part that no id has states which parts
// are compared.
func TestShow_PartsOfAnID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	importedLines(3)(t, dir)
	whole := "01a20629-44f1-75f5-8bf1-d9e9fef8b7a5"
	for _, part := range []string{whole, strings.ReplaceAll(whole, "-", ""), "01A2062944f175", "F8B7A5", "bf1d9e9fef8b7a5", "d9e9fef8b7a5", "1-d9e9fef8b7a5"} {
		code, out, errs := runTool(t, nil, "show", dir, part)
		require.Zero(t, code, errs)
		require.Contains(t, out, whole)
	}
	for part, message := range map[string]string{
		"7a5":                                  "a migration whose id begins with 7a5 (an end has at least 4 digits) is not in the log",
		"44f1":                                 "a migration whose id begins or ends with 44f1 is not in the log",
		"d9e-9fef8b7a5":                        "a migration whose id begins or ends with d9e-9fef8b7a5 is not in the log",
		"01a20629-44f1-75f5-8bf1-d9e9fef8b7a6": "migration 01a20629-44f1-75f5-8bf1-d9e9fef8b7a6 is not in the log",
	} {
		code, _, errs := runTool(t, nil, "show", dir, part)
		require.Equal(t, exitNoMatch, code)
		require.Contains(t, errs, message)
	}
}
