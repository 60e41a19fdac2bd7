package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/triage"
)

// If the lost event is that of a migration without a row, no row is in doubt.
func TestTriage_DoubtWithoutARow(t *testing.T) {
	var out bytes.Buffer
	m := &triageCommand{tool: &tool{unbuffered: &out, stdout: &out}}
	m.printDoubt(triageScreen{Summary: triage.Summary{NotRemoved: 2, Report: replay.Report{InDoubt: []checkpoint.MigrationID{{1}}}}, dir: "log"})
	require.Equal(t, "\n"+doNotTrust+"that all migrations are listed; 1 migration without a row may have one (replay-tool verify log)\n", out.String())
}

// A picture of any width must fit into memory.
func TestWidth_Limit(t *testing.T) {
	var errs bytes.Buffer
	require.Equal(t, exitUsage, run(t.Context(), []string{"timeline", t.TempDir(), "--width", "1000000000"}, nil, io.Discard, &errs))
	require.Contains(t, errs.String(), "--width 1000000000: give a number of at most 10000")
}
