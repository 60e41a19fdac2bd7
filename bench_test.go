package migrationlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// Durable upserts by a number of writers, each with migrations of its own.
func BenchmarkUpsert(b *testing.B) {
	for _, writers := range []int{1, 8, 64, 256} {
		for _, noSync := range []bool{false, true} {
			name := fmt.Sprintf("writers=%d/durable", writers)
			if noSync {
				name = fmt.Sprintf("writers=%d/nosync", writers)
			}
			b.Run(name, func(b *testing.B) {
				s, err := migrationlog.Open(b.TempDir(), &migrationlog.Options{NoSync: noSync})
				require.NoError(b, err)
				var left atomic.Int64
				left.Store(int64(b.N))
				var wait sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range writers {
					wait.Go(func() {
						ids := make([]checkpoint.MigrationID, max(1, 1000/writers))
						for i := range ids {
							ids[i] = checkpoint.NewMigrationID()
						}
						for n := 0; left.Add(-1) >= 0; n++ {
							upsertAttempt(b, s, ids[n%len(ids)], n/len(ids))
						}
					})
				}
				wait.Wait()
				b.StopTimer()
				stats := s.Stats()
				b.ReportMetric(float64(stats.Appended)/float64(stats.Batches), "events/append")
				require.NoError(b, s.Close())
			})
		}
	}
}

func upsertAttempt(b testing.TB, s *migrationlog.Store, id checkpoint.MigrationID, n int) {
	c, err := checkpoint.New(id, uint32(n), checkpoint.AddLearner{
		VShardID: uint32(id[15]) * 4, SourceNode: 3, TargetNode: 900, SourceGroup: uint64(n), WritePauseBudgetUS: 50_000,
		StartedAtHLC: checkpoint.HLC{WallNS: 1_700_000_000_000_000_000 + uint64(n)},
	}, 1_700_000_000_000)
	if err == nil {
		_, err = s.Upsert(c)
	}
	if err != nil {
		b.Error(err)
	}
}

// An opening, with a snapshot and without one, of a log with 1,000 live migrations.
func BenchmarkWriteAll(b *testing.B) {
	s, err := migrationlog.Open(b.TempDir(), nil)
	require.NoError(b, err)
	events := moves(b, 1000)
	b.ReportAllocs()
	for n := uint32(1); b.Loop(); n++ {
		for i, e := range events {
			c := e.(checkpoint.Upserted).Checkpoint
			c.Attempt = n
			events[i] = checkpoint.Upserted{Checkpoint: c}
		}
		_, err := s.WriteAll(events)
		require.NoError(b, err)
	}
	require.NoError(b, s.Close())
	b.ReportMetric(float64(len(events))*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkOpen(b *testing.B) {
	for _, events := range []int{10_000, 1_000_000} {
		dir := b.TempDir()
		s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
		require.NoError(b, err)
		for n := range events {
			upsertAttempt(b, s, checkpoint.MigrationID{1, byte(n % 1000), byte(n % 1000 >> 8)}, n)
		}
		require.NoError(b, s.Close())
		for _, with := range []string{"snapshot", "nothing"} {
			b.Run(fmt.Sprintf("events=%d/with=%s", events, with), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if with == "nothing" {
						b.StopTimer()
						require.NoError(b, os.RemoveAll(filepath.Join(dir, "snapshots")))
						b.StartTimer()
					}
					s, err := migrationlog.Open(dir, nil)
					require.NoError(b, err)
					b.StopTimer()
					require.NoError(b, s.Close())
					b.StartTimer()
				}
				b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
			})
		}
	}
}

// A Get of a random row, while another goroutine upserts durably, and all rows.
func BenchmarkRead(b *testing.B) {
	for _, rows := range []int{1000, 100_000} {
		s, err := migrationlog.Open(b.TempDir(), &migrationlog.Options{NoSync: true})
		require.NoError(b, err)
		ids := make([]checkpoint.MigrationID, rows)
		for i := range ids {
			ids[i] = checkpoint.NewMigrationID()
			upsertAttempt(b, s, ids[i], 0)
		}
		b.Run(fmt.Sprintf("get/rows=%d", rows), func(b *testing.B) {
			stop := make(chan struct{})
			var writer sync.WaitGroup
			writer.Go(func() {
				for n := 1; ; n++ {
					select {
					case <-stop:
						return
					default:
						upsertAttempt(b, s, ids[n%rows], n)
						time.Sleep(100 * time.Microsecond)
					}
				}
			})
			for n := 0; b.Loop(); n += 7919 {
				if _, ok := s.Get(ids[n%rows]); !ok {
					b.Fatal("no row")
				}
			}
			close(stop)
			writer.Wait()
		})
		b.Run(fmt.Sprintf("all/rows=%d", rows), func(b *testing.B) {
			for b.Loop() {
				require.Len(b, s.All(), rows)
			}
		})
		require.NoError(b, s.Close())
	}
}

// What one upsert takes from the heap, and that a Get takes nothing.
func TestAllocations(t *testing.T) {
	s := open(t, memDir(t), &migrationlog.Options{NoSync: true})
	id := checkpoint.NewMigrationID()
	c := row(t, id, 0, addLearner)
	upsert := testing.AllocsPerRun(500, func() {
		c.Attempt++
		if _, err := s.Upsert(c); err != nil {
			t.Error(err)
		}
	})
	require.LessOrEqual(t, upsert, 16.0)
	require.Zero(t, testing.AllocsPerRun(500, func() { s.Get(id) }))
	require.NoError(t, s.Close())
}
