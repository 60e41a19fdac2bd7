package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/export"
	"migrationlog/replay/stats"
)

// loaded writes events to a log, exports the log, and loads the SQL into SQLite.
func loaded(t *testing.T, events []checkpoint.Event) (*sql.DB, stats.Result, []replay.Record, string) {
	dir := filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	for len(events) > 0 {
		n := min(len(events), 1000)
		_, err := s.WriteAll(events[:n])
		require.NoError(t, err)
		events = events[n:]
	}
	require.NoError(t, s.Close())
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	var script bytes.Buffer
	e, err := export.New(&script, export.Options{Format: export.SQL})
	require.NoError(t, err)
	counted := stats.New(stats.Options{})
	var records []replay.Record
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		require.NoError(t, e.Add(r))
		counted.Add(r)
		records = append(records, r)
	}
	_, err = e.Finish()
	require.NoError(t, err)
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1) // each connection has a database of its own
	_, err = db.ExecContext(t.Context(), script.String())
	require.NoError(t, err)
	return db, counted.Result(), records, script.String()
}

// sqlRows returns the rows of a query as text.
func sqlRows(t *testing.T, db *sql.DB, query string) (list []string) {
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err, query)
	defer rows.Close()
	names, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		row, into := make([]any, len(names)), make([]any, len(names))
		for i := range row {
			into[i] = &row[i]
		}
		require.NoError(t, rows.Scan(into...))
		line := ""
		for i, v := range row {
			if i > 0 {
				line += " "
			}
			line += fmt.Sprint(v)
		}
		list = append(list, line)
	}
	require.NoError(t, rows.Err())
	return list
}

func sqlRow(t *testing.T, db *sql.DB, query string) string {
	list := sqlRows(t, db, query)
	require.Len(t, list, 1, query)
	return list[0]
}

// The SQL of the recording has the events, stays and moves that replay/stats counts.
func TestExport_SQLite(t *testing.T) {
	file, err := os.Open("../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer file.Close()
	var events []checkpoint.Event
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		events = append(events, r.Event)
	}
	db, counted, records, script := loaded(t, events)

	require.Equal(t, "9502 1 9502", sqlRow(t, db, "SELECT count(*), min(seq), max(seq) FROM event"))
	require.Equal(t, []string{"abort 176", "checkpoint 8348", "remove 978"}, sqlRows(t, db, "SELECT kind, count(*) FROM event GROUP BY kind ORDER BY kind"))
	for _, r := range []replay.Record{records[0], records[4711], records[9501]} {
		id, _ := r.Migration()
		require.Equal(t, fmt.Sprint(r.Kind(), " ", id, " ", r.WallMS()), sqlRow(t, db, fmt.Sprint("SELECT kind, migration_id, ts_ms FROM event WHERE seq = ", r.Seq)))
	}
	for _, p := range counted.Phases {
		require.NotZero(t, p.Count)
		require.Equal(t, fmt.Sprint(p.Count, " ", p.MaxMS, " ", p.TotalMS), sqlRow(t, db, fmt.Sprintf("SELECT count(ms), max(ms), sum(ms) FROM stay WHERE phase = '%s'", p.Phase)))
		require.Equal(t, fmt.Sprint(p.P90MS), sqlRow(t, db, fmt.Sprintf("SELECT ms FROM stay WHERE phase = '%s' AND ms NOT NULL ORDER BY ms LIMIT 1 OFFSET %d", p.Phase, (p.Count*9+9)/10-1)))
	}
	require.Equal(t, []string{"aborted 176", "done 325", "in_flight 6", "removed 978"}, sqlRows(t, db, "SELECT outcome, count(*) FROM move GROUP BY outcome ORDER BY outcome"))
	require.Equal(t, fmt.Sprint(counted.Done.Count, " ", counted.Done.TotalMS), sqlRow(t, db, "SELECT count(*), sum(ended_ms - started_ms) FROM move WHERE outcome IN ('done', 'removed')"))
	require.Equal(t, fmt.Sprint(counted.Paused.TotalUS), sqlRow(t, db, "SELECT sum(payload ->> 'actual_pause_us') FROM event WHERE phase = 'Complete'"))
	require.Len(t, counted.Nodes, 9)
	for _, n := range counted.Nodes {
		require.Equal(t, fmt.Sprint(n.AsTarget, " ", n.Aborted, " ", n.InFlight),
			sqlRow(t, db, fmt.Sprintf("SELECT count(*), sum(outcome = 'aborted'), sum(outcome = 'in_flight') FROM move WHERE target_node = %d", n.Node)))
	}
	require.Equal(t, "0", sqlRow(t, db, "SELECT count(*) FROM damage"))

	_, err = db.ExecContext(context.Background(), script)
	require.Error(t, err, "a second load must not double the rows")
	require.Equal(t, "1485", sqlRow(t, db, "SELECT count(*) FROM move"))
}

// A reason with quotes and line breaks arrives in SQLite as it was. A NUL is readable in a move, and
// as it was in the payload. Numbers above 2^63 keep all digits.
func TestExport_SQLiteText(t *testing.T) {
	reason := "it's \"gone\"\r\n.quit\n'); DROP TABLE event; -- \\ \x00 é 💥"
	id := checkpoint.NewMigrationID()
	c, err := checkpoint.New(id, 0, checkpoint.AddLearner{SourceNode: math.MaxUint64, TargetNode: 1 << 63, SourceGroup: 7, WritePauseBudgetUS: math.MaxUint64}, 1_795_399_697_649)
	require.NoError(t, err)
	db, _, _, _ := loaded(t, []checkpoint.Event{checkpoint.Upserted{Checkpoint: c}, checkpoint.Aborted{MigrationID: id, Reason: reason, TimestampMS: 1_795_399_697_650}})
	require.Equal(t, "it's \"gone\"\r\n.quit\n'); DROP TABLE event; -- \\ \\u0000 é 💥", sqlRow(t, db, "SELECT reason FROM move"))
	var payload struct{ Reason string }
	require.NoError(t, json.Unmarshal([]byte(sqlRow(t, db, "SELECT payload FROM event WHERE kind = 'abort'")), &payload))
	require.Equal(t, reason, payload.Reason)
	require.Equal(t, "18446744073709551615 9223372036854775808 7", sqlRow(t, db, "SELECT source_node, target_node, source_group FROM move"))
	require.Equal(t, "1", sqlRow(t, db, "SELECT count(*) FROM move WHERE source_node = '18446744073709551615'"))
	require.Contains(t, sqlRow(t, db, "SELECT payload FROM event WHERE phase = 'AddLearner'"), `"write_pause_budget_us":18446744073709551615`)
}
