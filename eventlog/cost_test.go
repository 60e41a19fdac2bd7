package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// beginLog opens a log that is closed when the test ends.
func beginLog(t testing.TB, dir string, opts Options) *Log {
	log := openLog(t, dir, opts)
	t.Cleanup(func() { log.Close() })
	return log
}

func openLog(t testing.TB, dir string, opts Options) *Log {
	r, err := Begin(dir, opts)
	require.NoError(t, err)
	for _, err := range r.Scan(segment.ScanAll) {
		require.NoError(t, err)
	}
	log, err := r.Finish(segment.FrameID{})
	require.NoError(t, err)
	return log
}

// write writes one frame for each body and syncs the log.
func write(log *Log, bodies ...[]byte) error {
	var entries []Entry
	for _, b := range bodies {
		entries = append(entries, Entry{Body: segment.NewBody(b)})
	}
	return errors.Join(log.Write(entries), log.Sync())
}

var body = bytes.Repeat([]byte{0xa5}, 90) // an event's usual size

// BenchmarkCost measures one durable append and the parts of it that each check takes. Write and
// Sync run these parts once per batch or once per frame.
func BenchmarkCost(b *testing.B) {
	b.Run("append", func(b *testing.B) {
		log := beginLog(b, b.TempDir(), Options{})
		for b.Loop() {
			require.NoError(b, write(log, body))
		}
	})
	b.Run("append/write_only", func(b *testing.B) {
		log := beginLog(b, b.TempDir(), Options{NoSync: true})
		for b.Loop() {
			require.NoError(b, write(log, body))
		}
	})
	b.Run("watermark", func(b *testing.B) {
		log := beginLog(b, b.TempDir(), Options{})
		for b.Loop() {
			require.NoError(b, log.watermark.set(42))
		}
	})
	b.Run("check_lock", func(b *testing.B) {
		log := beginLog(b, b.TempDir(), Options{})
		for b.Loop() {
			_, err := log.lock.change()
			require.NoError(b, err)
		}
	})
	b.Run("check_segment", func(b *testing.B) {
		log := beginLog(b, b.TempDir(), Options{})
		for b.Loop() {
			require.NoError(b, log.tail.checkUnmodified())
		}
	})
	b.Run("frame_checksums", func(b *testing.B) {
		var frame []byte
		for b.Loop() {
			frame = segment.AppendFrame(frame[:0], &uuid.UUID{1}, segment.Header{Seq: 7}, segment.NewBody(body))
		}
	})
	b.Run("rotate", func(b *testing.B) { // includes the first append and the sync of wal/; excludes the background work
		log := beginLog(b, b.TempDir(), Options{})
		require.NoError(b, write(log, body))
		for b.Loop() {
			b.StopTimer()
			log.next = log.startPreparation()
			require.NoError(b, errors.Join(log.next.work.wait(), log.awaitClose()))
			b.StartTimer()
			require.NoError(b, log.rotate())
			require.NoError(b, write(log, body))
		}
	})
	b.Run("rotate/close", func(b *testing.B) {
		log := beginLog(b, b.TempDir(), Options{})
		for b.Loop() {
			b.StopTimer()
			require.NoError(b, errors.Join(write(log, body), log.rotate(), log.sync()))
			b.StartTimer()
			require.NoError(b, log.awaitClose())
		}
	})
	b.Run("prepare", func(b *testing.B) {
		log := beginLog(b, b.TempDir(), Options{})
		for b.Loop() {
			p := log.startPreparation()
			require.NoError(b, p.work.wait())
			b.StopTimer()
			require.NoError(b, p.take().discard())
			b.StartTimer()
		}
	})
}

// BenchmarkCost_Open measures an opening after a clean close and after a kill, with last segments
// of different sizes.
func BenchmarkCost_Open(b *testing.B) {
	for _, events := range []int{0, 1000, 30000} {
		for _, ending := range []string{"closed", "killed"} {
			b.Run(fmt.Sprintf("%s/events=%d", ending, events), func(b *testing.B) {
				dir := filepath.Join(b.TempDir(), "log")
				log := openLog(b, dir, Options{NoSync: true})
				for range events {
					require.NoError(b, write(log, body))
				}
				require.NoError(b, log.Close())
				for b.Loop() {
					if ending == "killed" { // and no watermark has reached the disk
						b.StopTimer()
						for _, name := range segment.WatermarkNames {
							require.NoError(b, os.WriteFile(filepath.Join(dir, name), segment.AppendWatermark(nil, log.uuid, 0), 0o600))
						}
						b.StartTimer()
					}
					require.NoError(b, openLog(b, dir, Options{}).Close())
				}
			})
		}
	}
}
