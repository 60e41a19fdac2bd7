package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// If the log has lost an event, but a later snapshot includes its effect, show takes the row, or the
// absence of a row, from the snapshot.
func TestShow_ALostEventThatASnapshotCovers(t *testing.T) {
	for kind, want := range map[replay.Kind]string{
		replay.KindCheckpoint: "according to a snapshot. The event itself, seq",
		replay.KindRemove:     "according to a snapshot. The event that ended it is lost",
	} {
		dir := filepath.Join(t.TempDir(), "log")
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "testdata/kinds.ndjson"}, nil, io.Discard, io.Discard))
		if kind == replay.KindCheckpoint {
			// Add one that is not the last event, because the last event must stay intact.
			more := filepath.Join(t.TempDir(), "more.ndjson")
			require.NoError(t, os.WriteFile(more, []byte(`{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7aa","attempt":0,"phase":"AddLearner","payload":{"vshard_id":1,"source_node":1,"target_node":2,"source_group":3,"write_pause_budget_us":4,"started_at_hlc":{"wall_ns":5,"logical":6}},"ts_ms":7}
{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7aa","attempt":0,"phase":"CatchUp","payload":{"vshard_id":1,"learner_log_index_at_add":2},"ts_ms":8}
{"kind":"checkpoint","migration_id":"01a20629-44f1-75f5-8bf1-d9e9fef8b7ab","attempt":0,"phase":"CatchUp","payload":{"vshard_id":2,"learner_log_index_at_add":2},"ts_ms":9}
`), 0o600))
			require.Zero(t, run(t.Context(), []string{"import", "-q", dir, more}, nil, io.Discard, io.Discard))
		}
		reader, err := replay.Open(dir)
		require.NoError(t, err)
		var victim replay.Record
		for r, err := range reader.Records(t.Context(), replay.Query{Kinds: []replay.Kind{kind}}) {
			require.NoError(t, err)
			if u, ok := r.Event.(checkpoint.Upserted); kind == replay.KindRemove || ok && u.Checkpoint.TimestampMS == 8 {
				victim = r
			}
		}
		path := filepath.Join(dir, "wal", victim.Segment)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b[victim.Offset+victim.Length-1] ^= 1
		require.NoError(t, os.WriteFile(path, b, 0o600))
		id, _ := victim.Migration()
		var out bytes.Buffer
		require.Equal(t, exitDamage, run(t.Context(), []string{"show", dir, id.String()}, nil, &out, io.Discard))
		require.Contains(t, out.String(), want)
	}
}
