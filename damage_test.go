package migrationlog_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// smallLog is a closed log of five events, and their entries' end positions.
func smallLog(t testing.TB) (dir string, events []checkpoint.Event, ends []int) {
	dir = filepath.Join(memDir(t), "log")
	s := open(t, dir, nil)
	a, b := checkpoint.NewMigrationID(), checkpoint.NewMigrationID()
	upsert(t, s, a, 0, addLearner)
	upsert(t, s, b, 0, addLearner)
	upsert(t, s, a, 0, catchUp)
	_, err := s.Abort(b, "target node unreachable", []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}})
	require.NoError(t, err)
	upsert(t, s, a, 1, catchUp)
	require.NoError(t, s.Close())
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		events = append(events, r.Event)
		ends = append(ends, int(r.Offset+r.Length))
	}
	require.Len(t, events, 5)
	return dir, events, ends
}

// eachFile tries each file of the small log, beside other tests.
func eachFile(t *testing.T, try func(t *testing.T, name string)) {
	for _, name := range []string{"wal/" + firstSegment, "MANIFEST", "wal/MANIFEST", "WATERMARK", "wal/WATERMARK", "snapshots/00000000000000000005"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, name)
		})
	}
}

// eventsIn are the whole events of a log by their numbers.
func eventsIn(t testing.TB, dir string) map[uint64]checkpoint.Event {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	events := map[uint64]checkpoint.Event{}
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		if r.Event != nil {
			require.NotContains(t, events, r.Seq)
			events[r.Seq] = r.Event
		}
	}
	return events
}

// D2, D3, D5, D7: with any one bit of any file flipped, Open succeeds, at most the
// frame of that bit is gone, the report names it, no number is given again, and
// the next Open tells the same.
func TestD2_OpenWithEveryBitFlipped(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of openings by one goroutine")
	}
	t.Parallel()
	dir, events, ends := smallLog(t)
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
			report := s.Report()
			report.Quarantined, report.SnapshotSeq, before.SnapshotSeq = nil, 0, 0
			require.Equal(t, before, report)
			owner := uint64(slices.IndexFunc(ends, func(end int) bool { return bit/8 < end }) + 1)
			want := map[uint64]checkpoint.Event{}
			for i, e := range events {
				want[uint64(i+1)] = e
			}
			if report.LostCount() > 0 {
				require.False(t, prefixes[bit/8], "a damaged length costs none")
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
		t.Logf("%d bits flipped, %d of them cost a frame", flips, cost)
	})
}

// D2, D4, D5, D7: with the log cut at any byte, Open succeeds with the whole
// frames before the cut, and the rest is in quarantine. What the watermark says
// was there is reported as lost and acknowledged, also where the cut is between
// two frames, and its numbers are not given again; the rest is a torn write.
func TestD4_OpenWithEveryCut(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of openings by one goroutine")
	}
	t.Parallel()
	dir, events, ends := smallLog(t)
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
			require.Equal(t, before.Damage, after.Damage, "cut at %d, watermark %d", size, watermark)
			require.Equal(t, lost, after.AcknowledgedLost)
			require.Nil(t, after.TornTail)
			require.NoError(t, os.RemoveAll(cut))
		}
	}
	t.Logf("%d cuts", 3*(len(whole)+1))
}

// D2, D3, D5, D7: with any file cut, zeroed or overwritten with garbage from any byte
// on, Open succeeds with the whole frames before that, and says of all others that
// they are lost and had been acknowledged.
func TestD2_OpenWithEveryEndDestroyed(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of openings by one goroutine")
	}
	t.Parallel()
	dir, events, ends := smallLog(t)
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
				// Garbage may look like more frames than there were; their numbers are passed over.
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

// setWatermark makes the watermark one that has not reached the disk since it
// said seq.
func setWatermark(t testing.TB, dir string, seq uint64) {
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots"))) // a snapshot proves more
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for _, name := range segment.WatermarkNames {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), segment.AppendWatermark(nil, reader.Manifest().UUID, seq), 0o600))
	}
}

// D5: a lost event puts those migrations in doubt whose last event it may have
// been; those that it may have been of, and that went on, are proven.
func TestD5_InDoubt(t *testing.T) {
	dir, events, ends := smallLog(t) // upsert a, upsert b, upsert a, abort b, upsert a
	a, b := events[0].Migration(), events[1].Migration()
	type doubts map[checkpoint.MigrationID]projection.Doubt
	for lost, want := range map[int]struct {
		inDoubt, proven []checkpoint.MigrationID
		each            doubts
	}{
		1: {nil, ids{a}, doubts{a: projection.Proven, b: projection.Untouched}},  // 3 names it as a's
		2: {nil, nil, doubts{a: projection.Untouched, b: projection.Proven}},     // 4 names it as b's, and b is aborted
		3: {nil, ids{a}, doubts{a: projection.Proven, b: projection.Untouched}},  // 5 names it as a's: it cannot have been b's
		4: {ids{b}, ids{a}, doubts{a: projection.Proven, b: projection.InDoubt}}, // b's abort: b has a row again
		5: {ids{a}, nil, doubts{a: projection.InDoubt, b: projection.InDoubt}},   // a's last, but it may have been a new b
	} {
		damaged := copyDir(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(damaged, "snapshots")))
		flip(t, segmentPath(damaged, firstSegment), ends[lost-1]-1)
		s := open(t, damaged, nil)
		report := s.Report()
		require.EqualValues(t, lost, report.Lost[0].First)
		require.Equal(t, want.inDoubt, report.InDoubt, "seq %d lost", lost)
		require.Equal(t, want.proven, report.Proven, "seq %d lost", lost)
		require.Equal(t, report.Lost, report.AcknowledgedLost)
		for id, doubt := range want.each {
			require.Equal(t, doubt, s.Doubt(id), "seq %d lost", lost)
			if r, ok := s.Row(id); ok {
				require.Equal(t, doubt, r.Doubt)
			}
		}
		require.NoError(t, s.Close())
	}
}

type ids = []checkpoint.MigrationID

func flip(t testing.TB, path string, at int) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[at] ^= 0x10
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// A doubt ends with a write of what is true, also where that changes nothing.
func TestD5_ConfirmEndsADoubt(t *testing.T) {
	dir, events, ends := smallLog(t)
	a, b := events[0].Migration(), events[1].Migration()
	flip(t, segmentPath(dir, firstSegment), ends[4]-1) // a's last; b was aborted before
	s := open(t, dir, nil)
	latest, _ := s.Get(a)
	require.Equal(t, projection.InDoubt, s.Doubt(a))
	require.Equal(t, projection.InDoubt, s.Doubt(b))
	receipt, err := s.Upsert(latest)
	require.NoError(t, err)
	require.Equal(t, migrationlog.Receipt{Duplicate: true}, receipt)
	receipt, err = s.Abort(b, "not there", nil)
	require.NoError(t, err)
	require.Zero(t, receipt.Seq)

	receipt, err = s.Upsert(latest, migrationlog.Confirm())
	require.NoError(t, err)
	require.EqualValues(t, 6, receipt.Seq)
	receipt, err = s.Abort(b, "not there", nil, migrationlog.Confirm())
	require.NoError(t, err)
	require.EqualValues(t, 7, receipt.Seq)
	for range 2 {
		require.Equal(t, projection.Proven, s.Doubt(a))
		require.Equal(t, projection.Proven, s.Doubt(b))
		s = reopen(t, s, dir)
	}
	require.Empty(t, s.Report().InDoubt)
}

// RefuseDamage leaves the directory as it is.
func TestRefuseDamage(t *testing.T) {
	dir, _, ends := smallLog(t)
	flip(t, segmentPath(dir, firstSegment), ends[2]-1)
	before := hashes(t, dir)
	_, err := migrationlog.Open(dir, &migrationlog.Options{OnDamage: migrationlog.RefuseDamage})
	require.ErrorIs(t, err, migrationlog.ErrDamaged)
	var damaged *migrationlog.DamagedError
	require.ErrorAs(t, err, &damaged)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 3}}, damaged.Report.Lost)
	require.Equal(t, before, hashes(t, dir))
	open(t, dir, nil)
}

// A file that tidwall/wal would delete segments for is set aside before it sees it.
func TestD4_StrayFilesAreSetAside(t *testing.T) {
	dir, events, _ := smallLog(t)
	for _, name := range []string{"00000000000000000003.START", "00000000000000000001.END", "00000000000000000000", "notes"} {
		require.NoError(t, os.WriteFile(segmentPath(dir, name), []byte(name), 0o600))
	}
	require.NoError(t, os.WriteFile(segmentPath(dir, "notes.json"), []byte("{}"), 0o600))
	s := open(t, dir, nil)
	require.Len(t, s.Report().Damage, 5)
	require.Len(t, s.Report().Quarantined, 5)
	require.EqualValues(t, len(events), s.Report().FramesOK)
	saved, err := os.ReadFile(filepath.Join(dir, "quarantine", "00000000000000000003.START"))
	require.NoError(t, err)
	require.Equal(t, "00000000000000000003.START", string(saved))
	notes, err := os.ReadFile(filepath.Join(dir, "quarantine", "notes.json.1"))
	require.NoError(t, err)
	require.Equal(t, "{}", string(notes), "no report was written over it")
	s = reopen(t, s, dir)
	require.True(t, s.Report().Clean())

	// Also one that is a second name of what quarantine/ has.
	require.NoError(t, s.Close())
	flip(t, segmentPath(dir, firstSegment), 60)
	require.NoError(t, open(t, dir, nil).Close())
	require.NoError(t, os.Link(segmentPath(dir, firstSegment), segmentPath(dir, firstSegment+".END")))
	require.NoError(t, open(t, dir, nil).Close())
	require.NoFileExists(t, segmentPath(dir, firstSegment+".END"))
	require.Len(t, eventsIn(t, dir), len(events)-1)

	// What has a segment's name and is none is for a person to decide.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "elsewhere"), nil, 0o600))
	require.NoError(t, os.Symlink("../elsewhere", segmentPath(dir, "00000000000000000009")))
	before := hashes(t, dir)
	_, err = migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair)
	require.Equal(t, before, hashes(t, dir))
}

// D4, D6: what comes among the segments while a store is open ends its writing,
// before tidwall/wal looks at the directory again and deletes segments for it.
func TestD4_StrayFileBesideAWriter(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 200})
	for range 5 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	}
	require.NoError(t, os.WriteFile(segmentPath(dir, firstSegment+".END"), nil, 0o600))
	acknowledged := 5
	for {
		_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, catchUp))
		if err != nil {
			require.ErrorIs(t, err, migrationlog.ErrFailed)
			require.ErrorContains(t, err, firstSegment+".END")
			break
		}
		acknowledged++
	}
	require.Less(t, acknowledged, 10, "the next segment was begun")
	require.ErrorIs(t, s.Close(), migrationlog.ErrFailed)
	s = open(t, dir, nil)
	require.Len(t, s.Report().Damage, 1, "the file itself")
	require.GreaterOrEqual(t, s.Len(), acknowledged)
}

// D4: a manifest that cannot be read is never replaced by that of a new log.
func TestD4_NoNewLogOverAnother(t *testing.T) {
	foreign := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "MANIFEST"), []byte("precious"), 0o600))
	unmounted, _, _ := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(unmounted, "wal")))
	flip(t, filepath.Join(unmounted, "MANIFEST"), 30)
	marked, _, _ := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(marked, "wal")))
	require.NoError(t, os.Remove(filepath.Join(marked, "MANIFEST")))
	for _, dir := range []string{foreign, unmounted, marked} {
		before := hashes(t, dir)
		_, err := migrationlog.Open(dir, nil)
		require.ErrorIs(t, err, segment.ErrManifestLost)
		require.ErrorContains(t, err, "restore MANIFEST from a backup")
		require.Equal(t, before, hashes(t, dir))
	}

	inside, _, _ := smallLog(t)
	before := hashes(t, inside)
	_, err := migrationlog.Open(filepath.Join(inside, "wal"), nil)
	require.ErrorIs(t, err, segment.ErrIsWALDir)
	require.Equal(t, before, hashes(t, inside), "also no lock file")

	older := filepath.Join(memDir(t), "log") // without a watermark
	require.NoError(t, os.CopyFS(older, os.DirFS("testdata/golden/v1/clean/log")))
	require.NoError(t, os.Remove(filepath.Join(older, "MANIFEST")))
	for _, path := range segments(t, older) {
		require.NoError(t, os.Remove(path))
	}
	_, err = migrationlog.Open(older, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair)
	require.NoFileExists(t, filepath.Join(older, "MANIFEST"))
	require.Empty(t, segments(t, older))
}

// D3: files with wrong names neither hide frames nor make numbers be given twice.
func TestD3_SegmentsUnderWrongNames(t *testing.T) {
	whole := filepath.Join(memDir(t), "log")
	s := open(t, whole, &migrationlog.Options{SegmentSize: 200})
	for range 6 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	}
	require.NoError(t, s.Close())
	names := []string{}
	for _, path := range segments(t, whole) {
		names = append(names, filepath.Base(path))
	}
	require.Equal(t, []string{firstSegment, "00000000000000000004"}, names)

	for name, change := range map[string]func(dir string) error{
		"an empty file between": func(dir string) error {
			return os.WriteFile(segmentPath(dir, "00000000000000000002"), nil, 0o600)
		},
		"an empty file after": func(dir string) error {
			return os.WriteFile(segmentPath(dir, "00000000000000000005"), nil, 0o600)
		},
		"the last renamed lower": func(dir string) error {
			return os.Rename(segmentPath(dir, names[1]), segmentPath(dir, "00000000000000000002"))
		},
	} {
		dir := copyDir(t, whole)
		require.NoError(t, change(dir))
		require.Len(t, eventsIn(t, dir), 6, name)
		s := open(t, dir, nil)
		require.Equal(t, 6, s.Len(), name)
		require.Empty(t, s.Report().Lost, name)
		require.EqualValues(t, 7, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq, name)
		s = reopen(t, s, dir)
		require.Equal(t, 7, s.Len(), name)
	}
	dir := copyDir(t, whole)
	require.NoError(t, os.Rename(segmentPath(dir, names[1]), segmentPath(dir, "00000000000000000999")))
	require.Len(t, eventsIn(t, dir), 6)
	before := hashes(t, dir)
	_, err := migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair, "tidwall/wal would go on from 1000")
	require.ErrorContains(t, err, "give it back the name of its first frame")
	require.Equal(t, before[names[0]], hashes(t, dir)[names[0]])
}

// D5: a loss beyond the watermark stays one of which it cannot be known whether
// it had been acknowledged, whatever later writers append, or lose in their turn.
func TestD5_NobodyVouchesForALostTail(t *testing.T) {
	dir, _, ends := smallLog(t)
	flip(t, segmentPath(dir, firstSegment), ends[4]-1)
	setWatermark(t, dir, 4)
	for range 2 {
		s := open(t, dir, nil)
		require.Empty(t, s.Report().AcknowledgedLost)
		require.NoError(t, s.Close()) // without a write
	}
	for range 3 {
		s := open(t, dir, nil)
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		require.NoError(t, s.Close())
		require.Equal(t, []replay.SeqRange{{First: 5, Last: 5}}, verify(t, dir).Lost)
		require.Empty(t, verify(t, dir).AcknowledgedLost)
	}
	second := segmentPath(dir, "00000000000000000006")
	flip(t, second, 60) // the first frame of the next writer
	for range 2 {
		report := verify(t, dir)
		require.Equal(t, []replay.SeqRange{{First: 5, Last: 5}, {First: 6, Last: 6}}, report.Lost)
		require.Equal(t, []replay.SeqRange{{First: 6, Last: 6}}, report.AcknowledgedLost)
		require.NoError(t, open(t, dir, nil).Close())
	}
}

// D3, D5: a last segment that is gone was durable, and is reported; its numbers are
// not given again.
func TestD3_LastSegmentMissing(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 200})
	for range 6 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.Remove(segmentPath(dir, "00000000000000000004")))
	for range 2 {
		s = open(t, dir, nil)
		require.Equal(t, []replay.SeqRange{{First: 4, Last: 6}}, s.Report().Lost)
		require.Equal(t, []replay.SeqRange{{First: 4, Last: 6}}, s.Report().AcknowledgedLost)
		require.Len(t, s.Report().InDoubt, 3)
		require.NoError(t, s.Close())
	}
	s = open(t, dir, nil)
	require.EqualValues(t, 7, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq)
}

// D4, D5: a log from before there was a watermark gets one when it is opened.
func TestWatermark_OfAnOlderLog(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/golden/v1/clean/log")))
	require.NoFileExists(t, filepath.Join(dir, "WATERMARK"))
	s := open(t, dir, nil)
	require.True(t, s.Report().Clean())
	require.EqualValues(t, 42, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq)
	require.NoError(t, s.Close())
	require.NoError(t, os.Truncate(segmentPath(dir, "00000000000000000033"), 0))
	require.Equal(t, []replay.SeqRange{{First: 33, Last: 42}}, verify(t, dir).AcknowledgedLost)
}

// D2, D4, D5: a log that is copied while a writer runs, and damaged in three places,
// opens and serves, names the three and the migrations in doubt, and keeps the
// damaged bytes.
func TestD5_CopyBesideAWriter(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 4000})
	for range 100 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}
	last := checkpoint.NewMigrationID()
	ended := make(chan error)
	go func() {
		var err error
		for attempt := uint32(0); err == nil; attempt++ {
			var c checkpoint.Checkpoint
			if c, err = checkpoint.New(last, attempt, catchUp, 1); err == nil {
				_, err = s.Upsert(c)
			}
		}
		ended <- err
	}()
	copied := copyDir(t, dir)
	for verify(t, copied).LostCount() > 0 { // the one write that was under way, if half of it was copied
		report := verify(t, copied)
		require.Empty(t, report.AcknowledgedLost)
		require.EqualValues(t, 1, report.LostCount())
		require.Greater(t, report.Lost[0].First, uint64(100), "what was written before is whole")
		copied = copyDir(t, dir)
	}
	require.NoError(t, os.RemoveAll(filepath.Join(copied, "snapshots")))
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-ended, migrationlog.ErrClosed)

	reader, err := replay.Open(copied)
	require.NoError(t, err)
	lost := map[uint64]checkpoint.MigrationID{7: {}, 50: {}, 93: {}}
	damaged := map[string]bool{}
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		require.Nil(t, r.Damage)
		if _, ok := lost[r.Seq]; ok {
			lost[r.Seq] = r.Event.Migration()
			flip(t, segmentPath(copied, r.Segment), int(r.Offset+r.Length/2))
			damaged[r.Segment] = true
		}
	}
	require.Len(t, damaged, 3)

	was := hashes(t, copied)
	opened := open(t, copied, nil)
	report := opened.Report()
	require.Equal(t, []replay.SeqRange{{First: 7, Last: 7}, {First: 50, Last: 50}, {First: 93, Last: 93}}, report.Lost)
	require.Equal(t, report.Lost, report.AcknowledgedLost)
	require.Len(t, report.InDoubt, 90, "the first 93 but for the lost")
	for _, id := range lost {
		require.Equal(t, projection.InDoubt, opened.Doubt(id), "it has no row")
	}
	require.NotContains(t, report.InDoubt, last)
	kept := hashes(t, filepath.Join(copied, "quarantine"))
	for name := range damaged {
		require.Equal(t, was["wal/"+name], kept[name])
	}
	upsert(t, opened, checkpoint.NewMigrationID(), 0, catchUp)
}

// D4: where a damaged segment's end is cut off, quarantine/ has all of it as it was.
func TestD4_DamagedAndTorn(t *testing.T) {
	dir, _, ends := smallLog(t)
	path := segmentPath(dir, firstSegment)
	setWatermark(t, dir, 4)
	flip(t, path, ends[1]-1)
	require.NoError(t, os.Truncate(path, int64(ends[4]-3)))
	original, err := os.ReadFile(path)
	require.NoError(t, err)
	s := open(t, dir, nil)
	require.NotNil(t, s.Report().TornTail)
	require.Len(t, s.Report().Damage, 1)
	kept, err := os.ReadFile(filepath.Join(dir, "quarantine", firstSegment))
	require.NoError(t, err)
	require.Equal(t, original, kept)
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, original[:ends[3]], left)
	require.EqualValues(t, 5, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq)
}

// D4: a log whose segments are gone is refused: they may be on a volume that is not
// mounted.
func TestD4_SegmentsGone(t *testing.T) {
	dir, _, _ := smallLog(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "wal")))
	before := hashes(t, dir)
	_, err := migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNeedsRepair)
	require.ErrorContains(t, err, "is a volume not mounted")
	require.Equal(t, before, hashes(t, dir))
}

// D3, D5, D6: a writer whose files were replaced notices, and says no more of what
// is durable.
func TestD6_FilesReplacedBesideAWriter(t *testing.T) {
	replace := func(path string) error {
		b, err := os.ReadFile(path)
		return errors.Join(err, os.Remove(path), os.WriteFile(path, b, 0o600))
	}
	for _, name := range []string{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment} {
		dir := filepath.Join(memDir(t), "log")
		s := open(t, dir, nil)
		upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		require.NoError(t, replace(filepath.Join(dir, name)))
		before := hashes(t, dir)
		if name == "wal/"+firstSegment {
			_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, catchUp))
			require.ErrorIs(t, err, migrationlog.ErrFailed)
		}
		require.ErrorIs(t, s.Close(), migrationlog.ErrFailed, name)
		require.Equal(t, before["WATERMARK"], hashes(t, dir)["WATERMARK"], name)
	}
}

// D7: what lies in the place of a file, and cannot be read or saved under its name,
// does not keep a log from opening.
func TestD7_OddFiles(t *testing.T) {
	for _, name := range []string{"MANIFEST", "wal/MANIFEST", "WATERMARK", "wal/WATERMARK"} {
		for kind, put := range map[string]func(path string) error{
			"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"directory": func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
			"symlink":   func(path string) error { return os.Symlink("nowhere", path) },
		} {
			dir, events, _ := smallLog(t)
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
			require.NoError(t, put(filepath.Join(dir, name)))
			s, err := migrationlog.Open(dir, nil)
			require.NoError(t, err, "%s is a %s", name, kind)
			require.EqualValues(t, len(events), s.Report().FramesOK)
			require.NoError(t, s.Close())
			require.True(t, verify(t, dir).Clean(), "%s is a %s", name, kind)
		}
	}
	dir, events, _ := smallLog(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, firstSegment), nil, 0o600), "somebody's copy, in the wrong place")
	require.NoError(t, os.WriteFile(segmentPath(dir, strings.Repeat("x", 255)), nil, 0o600))
	require.NoError(t, os.MkdirAll(segmentPath(dir, "lost+found"), 0o700))
	s := open(t, dir, nil)
	require.EqualValues(t, len(events), s.Report().FramesOK)
	require.Len(t, s.Report().Damage, 1)
	require.DirExists(t, segmentPath(dir, "lost+found"), "tidwall/wal passes over it, and so do we")
}

// D5: a reader of a log whose segments are gone says what was there, and one that was
// there before a writer came goes by what that has written down.
func TestD5_ReadersKnowWhatIsGone(t *testing.T) {
	dir, events, ends := smallLog(t)
	require.NoError(t, os.Remove(segmentPath(dir, firstSegment)))
	report := verify(t, dir)
	require.Equal(t, []replay.SeqRange{{First: 1, Last: 5}}, report.AcknowledgedLost)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	view, err := reader.StateAt(t.Context(), replay.Point{})
	require.NoError(t, err)
	require.Equal(t, projection.InDoubt, view.Doubt(events[0].Migration()))

	dir, _, _ = smallLog(t)
	setWatermark(t, dir, 4)
	flip(t, segmentPath(dir, firstSegment), ends[4]-1)
	reader, err = replay.Open(dir)
	require.NoError(t, err)
	s := open(t, dir, nil)
	upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
	report, err = reader.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, []replay.SeqRange{{First: 5, Last: 5}}, report.Lost)
	require.Empty(t, report.AcknowledgedLost)
}

// D4: what is damaged has its original bytes in quarantine/, once for each damage,
// with a report that names it.
func TestD4_DamagedSegmentsAreKept(t *testing.T) {
	dir, _, ends := smallLog(t)
	flip(t, segmentPath(dir, firstSegment), ends[1]-1)
	damaged, err := os.ReadFile(segmentPath(dir, firstSegment))
	require.NoError(t, err)
	s := open(t, dir, nil)
	require.Equal(t, []string{"quarantine/" + firstSegment}, s.Report().Quarantined)
	kept, err := os.ReadFile(filepath.Join(dir, "quarantine", firstSegment))
	require.NoError(t, err)
	require.Equal(t, damaged, kept)
	var report struct{ Damage []replay.Damage }
	text, err := os.ReadFile(filepath.Join(dir, "quarantine", firstSegment+".json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &report))
	require.Len(t, report.Damage, 1)
	require.EqualValues(t, 2, report.Damage[0].FirstSeq)

	s = reopen(t, s, dir)
	require.Empty(t, s.Report().Quarantined, "it is there")
	require.NoError(t, s.Close())
	flip(t, segmentPath(dir, firstSegment), ends[3]-1)
	s = open(t, dir, nil)
	require.Equal(t, []string{"quarantine/" + firstSegment + ".1"}, s.Report().Quarantined, "there is more")
}

// What earlier phases told is marked where an abort in between may be lost.
func TestD5_FactsAfterALossAreUncertain(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	id := checkpoint.NewMigrationID()
	s := open(t, dir, nil)
	upsert(t, s, id, 0, addLearner)
	_, err := s.Abort(id, "gone", nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	b, err := os.ReadFile(segmentPath(dir, firstSegment))
	require.NoError(t, err)
	flip(t, segmentPath(dir, firstSegment), len(b)-1)

	s = open(t, dir, nil)
	require.Equal(t, []checkpoint.MigrationID{id}, s.Report().InDoubt)
	upsert(t, s, id, 0, catchUp)
	for range 2 {
		r, _ := s.Row(id)
		require.True(t, r.Facts.HasSource)
		require.True(t, r.Facts.SourceUncertain)
		require.True(t, r.Facts.TargetUncertain)
		s = reopen(t, s, dir)
	}
	upsert(t, s, id, 0, checkpoint.PromoteLearner{VShardID: 22, TargetNode: 3, SourceGroup: 9})
	r, _ := s.Row(id)
	require.False(t, r.Facts.TargetUncertain, "it told anew")
	require.True(t, r.Facts.SourceUncertain)
	upsert(t, s, id, 1, addLearner)
	r, _ = s.Row(id)
	require.False(t, r.Facts.SourceUncertain, "it told anew")
}

// A kind that a newer version wrote is kept and counted, and changes no row.
func TestUnknownKind(t *testing.T) {
	dir, _, ends := smallLog(t)
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	id := checkpoint.MigrationID{7}
	body, err := cbor.Marshal(map[int]any{1: 9, 2: id[:], 3: 5, 8: 12})
	require.NoError(t, err)
	log := reader.Manifest().UUID
	frame := segment.AppendFrame(nil, &log, segment.Header{Seq: 6, DurableThrough: 5}, segment.NewBody(body))
	f, err := os.OpenFile(segmentPath(dir, firstSegment), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(append(binary.AppendUvarint(nil, uint64(len(frame))), frame...))
	require.NoError(t, err)
	require.NoError(t, f.Close())

	s := open(t, dir, nil)
	report := s.Report()
	require.True(t, report.Clean())
	require.EqualValues(t, 1, report.UnknownKinds)
	require.EqualValues(t, len(ends)+1, report.FramesOK)
	history, err := s.History(id)
	require.NoError(t, err)
	require.Len(t, history, 1)
	require.EqualValues(t, 9, history[0].Unknown.Kind)
	require.Equal(t, replay.KindUnknown, history[0].Kind())
	require.EqualValues(t, 7, upsert(t, s, id, 0, catchUp).Seq)
}

// D7: whatever a crash leaves of the making of a log, the next Open makes or
// opens it.
func TestD7_CrashWhileCreating(t *testing.T) {
	whole := filepath.Join(memDir(t), "log")
	require.NoError(t, open(t, whole, nil).Close())
	steps := [][]string{ // what is there after each step, in the order of its making
		{"LOCK"},
		{"LOCK", "WATERMARK.new"},
		{"LOCK", "WATERMARK"},
		{"LOCK", "WATERMARK", "wal/WATERMARK.new"},
		{"LOCK", "WATERMARK", "wal/WATERMARK"},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment, "wal/MANIFEST.new"},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment, "wal/MANIFEST"},
		{"LOCK", "WATERMARK", "wal/WATERMARK", "wal/" + firstSegment, "wal/MANIFEST", "MANIFEST.new"},
	}
	for _, files := range steps {
		dir := filepath.Join(memDir(t), "log")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "wal"), 0o700))
		for _, name := range files {
			b, err := os.ReadFile(filepath.Join(whole, strings.TrimSuffix(name, ".new")))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		s := open(t, dir, &migrationlog.Options{OnDamage: migrationlog.RefuseDamage})
		require.EqualValues(t, 1, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq, "%v", files)
		require.NoError(t, s.Close())
		require.True(t, verify(t, dir).Clean(), "%v", files)
	}
}
