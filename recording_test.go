package migrationlog_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// recording is testdata/raft-moves.ndjson: 9,600 events of real replica moves.
func recording(t testing.TB) (events []checkpoint.Event) {
	f, err := os.Open("testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		events = append(events, r.Event)
	}
	require.Len(t, events, 9600)
	return events
}

// record writes an event, and returns the receipt.
func record(t testing.TB, s *migrationlog.Store, event checkpoint.Event) migrationlog.Receipt {
	var receipt migrationlog.Receipt
	var err error
	switch e := event.(type) {
	case checkpoint.Upserted:
		receipt, err = s.Upsert(e.Checkpoint)
	case checkpoint.Aborted:
		receipt, err = s.Abort(e.MigrationID, e.Reason, e.Compensations, migrationlog.WithTimestamp(e.TimestampMS))
	case checkpoint.Removed:
		receipt, err = s.Remove(e.MigrationID, migrationlog.WithTimestamp(e.TimestampMS))
	}
	require.NoError(t, err)
	return receipt
}

// stateJSON is the store's rows as `replay-tool state -o json` prints them.
func stateJSON(t testing.TB, s *migrationlog.Store) string {
	rows := []map[string]any{}
	for r := range s.Rows() {
		c := r.Checkpoint
		rows = append(rows, map[string]any{
			"migration_id": c.MigrationID, "attempt": c.Attempt, "phase": c.Phase(), "payload": c.Payload,
			"crc32c": c.CRC32C, "ts_ms": c.TimestampMS, "seq": r.Seq,
		})
	}
	b, err := json.Marshal(rows)
	require.NoError(t, err)
	return string(b)
}

// D1, D8: the recorded migrations lead to the rows that an independent model computed. Each row has
// the number of the same event, also after a reload.
func TestD8_RecordedMigrations(t *testing.T) {
	b, err := os.ReadFile("testdata/raft-moves.expected.json")
	require.NoError(t, err)
	var expected struct {
		EventsAppended uint64           `json:"events_appended"`
		Duplicates     uint64           `json:"duplicates"`
		Rows           []map[string]any `json:"rows"`
	}
	require.NoError(t, json.Unmarshal(b, &expected))
	require.Len(t, expected.Rows, 331)

	dir := filepath.Join(t.TempDir(), "log")
	s := open(t, dir, &migrationlog.Options{NoSync: true, SegmentSize: 128 << 10})
	for _, e := range recording(t) {
		record(t, s, e)
	}
	require.Equal(t, expected.EventsAppended, s.Stats().Appended)
	require.Equal(t, expected.Duplicates, s.Stats().Duplicates)
	for range 2 {
		var rows []map[string]any
		require.NoError(t, json.Unmarshal([]byte(stateJSON(t, s)), &rows))
		for _, r := range rows {
			require.Contains(t, r, "crc32c") // the model has none
			delete(r, "crc32c")
		}
		require.Equal(t, expected.Rows, rows)
		s = reopen(t, s, dir)
	}
	report := verify(t, dir)
	require.EqualValues(t, 9502, report.FramesOK)
	require.True(t, report.Clean())
	require.Greater(t, len(segments(t, dir)), 5)
}
