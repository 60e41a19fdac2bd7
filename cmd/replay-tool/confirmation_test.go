package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/stats"
)

// inDoubtLines returns the lines that the runbook's command for many migrations makes: for each row
// of the log its AddLearner, which restores the facts, and the row.
func inDoubtLines(t *testing.T, dir string) string {
	_, stdout, _ := runTool(t, nil, "state", dir, "-q", "-o", "ndjson")
	var lines strings.Builder
	for rows := bufio.NewScanner(strings.NewReader(stdout)); rows.Scan(); {
		var r struct {
			Facts factsJSON
		}
		require.NoError(t, json.Unmarshal(rows.Bytes(), &r))
		var row replay.Record
		require.NoError(t, row.UnmarshalJSON(rows.Bytes()))
		c, f := row.Event.(checkpoint.Upserted).Checkpoint, r.Facts
		if f.SourceNode != nil {
			facts, err := checkpoint.New(c.MigrationID, checkpoint.FactsAttempt, checkpoint.AddLearner{
				VShardID: c.Payload.Shard(), SourceNode: *f.SourceNode, TargetNode: *f.TargetNode, SourceGroup: *f.SourceGroup,
				WritePauseBudgetUS: *f.WritePauseBudgetUS, StartedAtHLC: *f.StartedAtHLC,
			}, c.TimestampMS)
			require.NoError(t, err)
			line, err := json.Marshal(replay.Record{Event: checkpoint.Upserted{Checkpoint: facts}})
			require.NoError(t, err)
			fmt.Fprintf(&lines, "%s\n", line)
		}
		fmt.Fprintf(&lines, "%s\n", rows.Text())
	}
	return lines.String()
}

// If all rows of a log are confirmed, lint has the same findings, and the moves are counted as before.
func TestImport_ConfirmedRows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	importedLines(5000)(t, dir)
	_, found, _ := runTool(t, nil, "lint", dir, "--severity", "info", "-o", "ndjson")
	before := jsonOf[stats.Result](t, exitClean, "stats", dir)
	lines := inDoubtLines(t, dir)
	code, stdout, stderr := importText(t, dir, lines, "--confirm")
	require.Zero(t, code, stderr)
	require.Regexp(t, `(\d+) lines: (\d+) events appended, skipped: 0 duplicates`, stdout)

	_, stdout, _ = runTool(t, nil, "lint", dir, "--severity", "info", "-o", "ndjson")
	require.Equal(t, found, stdout)
	repaired := jsonOf[stats.Result](t, exitClean, "stats", dir)
	require.Equal(t, before.Moves, repaired.Moves)
	require.Equal(t, before.Phases, repaired.Phases)
	_, triage, _ := runTool(t, nil, "triage", dir)
	require.NotContains(t, triage, "4294967296")
	_, id, _ := strings.Cut(lines, `"migration_id":"`)
	_, show, _ := runTool(t, nil, "show", dir, id[:36])
	require.Contains(t, show, "AddLearner, to restore facts")
	require.NotContains(t, show, "4294967296")
}
