package migrationlog_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// D2, D3, D5, D7: if any one bit of any file is flipped, Open succeeds, loses at most the frame of
// that bit, and reports it. No number is used again. The next Open reports the same.
func TestD2_OpenWithEveryBitFlipped(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a log thousands of times")
	}
	t.Parallel()
	dir, events, ends := abortLog(t)
	prefixes := map[int]bool{0: true} // the bytes of the lengths: all entries are short
	for _, end := range ends {
		prefixes[end] = true
	}
	eachFile(t, func(t *testing.T, name string) {
		flips, cost := 0, 0
		whole, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		for bit := range len(whole) * 8 {
			damaged := copyDir(t, dir)
			flipped := slices.Clone(whole)
			flipped[bit/8] ^= 1 << (bit % 8)
			require.NoError(t, os.WriteFile(filepath.Join(damaged, name), flipped, 0o600))
			before := verify(t, damaged)
			require.NotEmpty(t, before.Damage, "%s bit %d", name, bit)
			require.Nil(t, before.TornTail, "%s bit %d", name, bit)

			s, err := migrationlog.Open(damaged, nil)
			require.NoError(t, err, "%s bit %d", name, bit)
			flips++
			requireAbortOrDoubt(t, s, events)
			report := s.Report()
			report.Quarantined, report.SnapshotSeq, before.SnapshotSeq = nil, 0, 0
			require.Equal(t, withoutTimes(before), withoutTimes(report))
			owner := uint64(slices.IndexFunc(ends, func(end int) bool { return bit/8 < end }) + 1)
			want := map[uint64]checkpoint.Event{}
			for i, e := range events {
				want[uint64(i+1)] = e
			}
			if report.LostCount() > 0 {
				require.False(t, prefixes[bit/8], "a damaged length prefix must not lose a frame")
				cost++
				require.Equal(t, []replay.SeqRange{{First: owner, Last: owner}}, report.Lost, "%s bit %d", name, bit)
				delete(want, owner)
			}
			id := checkpoint.NewMigrationID()
			require.EqualValues(t, 6, upsert(t, s, id, 0, catchUp).Seq, "%s bit %d", name, bit)
			require.NoError(t, s.Close())
			want[6] = checkpoint.Upserted{Checkpoint: row(t, id, 0, catchUp)}
			require.Equal(t, want, eventsIn(t, damaged))

			s, err = migrationlog.Open(damaged, nil)
			require.NoError(t, err)
			require.Equal(t, report.Lost, s.Report().Lost)
			require.Equal(t, report.AcknowledgedLost, s.Report().AcknowledgedLost, "%s bit %d", name, bit)
			require.NoError(t, s.Close())
			require.NoError(t, os.RemoveAll(damaged))
		}
		t.Logf("%d bits flipped, %d of them lost a frame", flips, cost)
	})
}

// requireAbortOrDoubt checks that the store has the row, the abort under way and the epoch of
// abortLog. If an event is lost that no snapshot covers, the migration is in doubt, and the epoch
// is uncertain.
func requireAbortOrDoubt(t testing.TB, s *migrationlog.Store, events []checkpoint.Event) {
	report, id := s.Report(), events[0].Migration()
	if report.LostCount() > 0 && report.SnapshotSeq == 0 {
		require.Equal(t, projection.InDoubt, s.Doubt(id))
		require.True(t, report.EpochUncertain)
		return
	}
	begun := events[1].(checkpoint.AbortBegun)
	found, ok := s.Row(id)
	require.True(t, ok)
	require.Equal(t, &projection.AbortProgress{
		Seq: 2, Reason: begun.Reason, Compensations: begun.Compensations, Done: []bool{false, true}, TimestampMS: begun.TimestampMS,
	}, found.Facts.Abort)
	require.EqualValues(t, 3, found.LastSeq)
	require.EqualValues(t, 300, report.Epoch)
	require.False(t, report.EpochUncertain)
}

// D2, D4, D5, D7: if the log is cut at any byte, Open succeeds with the intact frames before the
// cut, and the bytes after them are in quarantine. Frames up to the watermark are reported as
// acknowledged and lost, even if the cut is between two frames, and their numbers are not used
// again. Frames beyond it are a torn write.
func TestD4_OpenWithEveryCut(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a log thousands of times")
	}
	t.Parallel()
	dir, events, ends := abortLog(t)
	whole, err := os.ReadFile(segmentPath(dir, firstSegment))
	require.NoError(t, err)
	for _, watermark := range []uint64{0, 2, 5} {
		for size := range len(whole) + 1 {
			cut := copyDir(t, dir)
			require.NoError(t, os.RemoveAll(filepath.Join(cut, "snapshots"))) // which would be set aside
			setWatermark(t, cut, watermark)
			require.NoError(t, os.Truncate(segmentPath(cut, firstSegment), int64(size)))
			n, boundary := 0, 0
			for n < len(ends) && ends[n] <= size {
				boundary = ends[n]
				n++
			}
			rest := whole[boundary:size]
			lost := []replay.SeqRange(nil)
			next := uint64(n + 1)
			if watermark > uint64(n) {
				lost, next = []replay.SeqRange{{First: next, Last: watermark}}, watermark+1
			}
			before := verify(t, cut)
			require.Equal(t, lost, before.Lost, "cut at %d, watermark %d", size, watermark)
			require.Equal(t, lost, before.AcknowledgedLost)
			require.Equal(t, lost == nil && len(rest) > 0, before.TornTail != nil, "cut at %d, watermark %d", size, watermark)
			require.Equal(t, lost == nil, len(before.Damage) == 0)

			s, err := migrationlog.Open(cut, nil)
			require.NoError(t, err, "cut at %d", size)
			report := s.Report()
			require.EqualValues(t, n, report.FramesOK)
			if len(rest) == 0 {
				require.NoDirExists(t, filepath.Join(cut, "quarantine"))
			} else {
				require.Len(t, report.Quarantined, 1)
				saved, err := os.ReadFile(filepath.Join(cut, report.Quarantined[0]))
				require.NoError(t, err)
				if lost != nil {
					saved = saved[boundary:] // of the whole segment
				}
				require.Equal(t, rest, saved, "cut at %d", size)
			}
			require.Equal(t, next, upsert(t, s, checkpoint.NewMigrationID(), 0, complete).Seq)
			require.NoError(t, s.Close())
			got := eventsIn(t, cut)
			require.Len(t, got, n+1)
			for i, e := range events[:n] {
				require.Equal(t, e, got[uint64(i+1)])
			}
			after := verify(t, cut)
			require.Equal(t, withoutTimes(before).Damage, withoutTimes(after).Damage, "cut at %d, watermark %d", size, watermark)
			require.Equal(t, lost, after.AcknowledgedLost)
			require.Nil(t, after.TornTail)
			require.NoError(t, os.RemoveAll(cut))
		}
	}
	t.Logf("%d cuts", 3*(len(whole)+1))
}

// D2, D3, D5, D7: if any file is cut, zeroed or overwritten with garbage from any byte on, Open
// succeeds with the intact frames before that byte. It reports all later frames as acknowledged and
// lost.
func TestD2_OpenWithEveryEndDestroyed(t *testing.T) {
	if testing.Short() {
		t.Skip("opens a log thousands of times")
	}
	t.Parallel()
	dir, events, ends := abortLog(t)
	eachFile(t, func(t *testing.T, name string) {
		garbage := rand.NewChaCha8([32]byte{})
		tried := 0
		whole, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		for _, how := range []string{"cut", "zeros", "garbage"} {
			for at := range len(whole) {
				damaged, b := copyDir(t, dir), slices.Clone(whole)
				switch how {
				case "cut":
					b = b[:at]
				case "zeros":
					clear(b[at:])
				case "garbage":
					garbage.Read(b[at:])
				}
				if bytes.Equal(b, whole) { // a byte of garbage may be the same
					continue
				}
				require.NoError(t, os.WriteFile(filepath.Join(damaged, name), b, 0o600))
				want, lost := events, []replay.SeqRange(nil)
				if name == "wal/"+firstSegment {
					n := slices.IndexFunc(ends, func(end int) bool { return !bytes.HasPrefix(b, whole[:end]) })
					want, lost = events[:n], []replay.SeqRange{{First: uint64(n + 1), Last: 5}}
				}
				s, err := migrationlog.Open(damaged, nil)
				require.NoError(t, err, "%s: %s from %d", name, how, at)
				report := s.Report()
				require.NotEmpty(t, report.Damage, "%s: %s from %d", name, how, at)
				require.Nil(t, report.TornTail)
				require.Equal(t, lost, report.AcknowledgedLost, "%s: %s from %d", name, how, at)
				requireAbortOrDoubt(t, s, events)
				// Garbage may look like more frames than there were. Their numbers are skipped.
				require.GreaterOrEqual(t, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq, uint64(6))
				require.NoError(t, s.Close())
				got := eventsIn(t, damaged)
				require.Len(t, got, len(want)+1, "%s: %s from %d", name, how, at)
				for i, e := range want {
					require.Equal(t, e, got[uint64(i+1)])
				}
				require.Equal(t, lost, verify(t, damaged).AcknowledgedLost)
				require.NoError(t, os.RemoveAll(damaged))
				tried++
			}
		}
		t.Logf("%d ends destroyed", tried)
	})
}

// eachFile runs a parallel subtest for each file of the small log.
func eachFile(t *testing.T, try func(t *testing.T, name string)) {
	for _, name := range []string{"wal/" + firstSegment, "MANIFEST", "wal/MANIFEST", "WATERMARK", "wal/WATERMARK", "snapshots/00000000000000000005"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, name)
		})
	}
}

// withoutTimes returns the report without the times of the damage. They are missing if the events
// were not decoded, and change if events are appended.
func withoutTimes(r replay.Report) replay.Report {
	r = r.Clone()
	for i := range r.Damage {
		r.Damage[i].AfterMS, r.Damage[i].BeforeMS = 0, 0
	}
	if r.TornTail != nil {
		r.TornTail.AfterMS, r.TornTail.BeforeMS = 0, 0
	}
	return r
}
