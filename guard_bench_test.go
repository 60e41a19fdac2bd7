//go:build unix

package migrationlog_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// The CPU time of upserts with and without guards. Compare cpu-ns/op of several runs with -count.
func BenchmarkGuarded(b *testing.B) {
	for _, guards := range []string{"none", "IfSeq", "all"} {
		b.Run("guards="+guards, func(b *testing.B) {
			const migrations = 1000
			checkpoints, seqs := make([]checkpoint.Checkpoint, migrations), make([]uint64, migrations)
			for i := range checkpoints {
				start := addLearner
				start.VShardID = uint32(i)
				checkpoints[i] = row(b, checkpoint.NewMigrationID(), 0, start)
			}
			s, err := migrationlog.Open(memDir(b), &migrationlog.Options{NoSync: true, SegmentSize: 1 << 30})
			require.NoError(b, err)
			b.ReportAllocs()
			started := cpuTime(b)
			for n := 0; b.Loop(); n = (n + 1) % migrations {
				var receipt migrationlog.Receipt
				c := &checkpoints[n]
				switch guards {
				case "none":
					receipt, err = s.Upsert(*c)
				case "IfSeq":
					receipt, err = s.Upsert(*c, migrationlog.IfSeq(seqs[n]))
				default:
					receipt, err = s.Upsert(*c, migrationlog.IfSeq(seqs[n]), migrationlog.IfVShardFree(), migrationlog.Strict(),
						migrationlog.Epoch(1), migrationlog.InOrder())
				}
				if err != nil {
					b.Fatal(err)
				}
				seqs[n] = receipt.Seq
				c.Attempt++
			}
			b.ReportMetric(float64((cpuTime(b)-started).Nanoseconds())/float64(b.N), "cpu-ns/op")
			require.NoError(b, s.Close())
		})
	}
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
