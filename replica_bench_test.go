//go:build unix

package migrationlog_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// A replica's batches of 64 entries. The 10,000 migrations take turns. On a busy machine, compare
// cpu-ns/entry.
func BenchmarkReplica_Apply(b *testing.B) {
	for _, relaxed := range []bool{false, true} {
		b.Run(fmt.Sprintf("batch=64/relaxed=%t", relaxed), func(b *testing.B) {
			const batch, migrations = 64, 10_000
			r := openReplica(b, b.TempDir(), &migrationlog.ReplicaOptions{RelaxedSync: relaxed})
			entries, index := make([]migrationlog.Entry, batch), 0
			b.ReportAllocs()
			started := cpuTime(b)
			for b.Loop() {
				for i := range entries {
					turn, n := index/migrations, index%migrations
					phase := checkpoint.Phase(turn%int(checkpoint.PhaseComplete) + 1)
					c := row(b, numberedID(n), uint32(turn/int(checkpoint.PhaseComplete)), payloadOf(phase, uint32(n), 2))
					index++
					entries[i] = migrationlog.Entry{Index: uint64(index), Term: 1, Event: checkpoint.Upserted{Checkpoint: c}}
				}
				applied, err := r.Apply(entries)
				require.NoError(b, err)
				require.NoError(b, applied[batch-1].Err)
			}
			b.ReportMetric(float64((cpuTime(b)-started).Nanoseconds())/float64(index), "cpu-ns/entry")
		})
	}
}
