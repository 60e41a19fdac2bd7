package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
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
