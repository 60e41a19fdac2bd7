package migrationlog_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// D7: a crash while a log is created leaves any of its files. The next Open creates or opens the
// log.
func TestD7_CrashWhileCreating(t *testing.T) {
	whole := filepath.Join(memDir(t), "log")
	require.NoError(t, open(t, whole, nil).Close())
	steps := [][]string{ // the files after each step, in the order of their creation
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

// D4, D5: a log without a watermark, from an older version, gets one in Open.
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

// An event of a kind from a newer version is kept and counted, and changes no row.
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
	history := historyOf(t, s, id)
	require.Len(t, history, 1)
	require.EqualValues(t, 9, history[0].Unknown.Kind)
	require.Equal(t, replay.KindUnknown, history[0].Kind())
	require.EqualValues(t, 7, upsert(t, s, id, 0, catchUp).Seq)
}

// fallbackLog returns a closed log of nine events in three segments, with snapshots at the ends of
// the first two. It also returns the position of each event, and the rows.
func fallbackLog(t testing.TB) (dir string, places map[uint64]replay.Record, rows []projection.Row) {
	dir = filepath.Join(memDir(t), "log")
	kept := map[string][]byte{} // snapshots
	ids := []checkpoint.MigrationID{{1}, {2}, {3}, {4}}
	for session, write := range []func(s *migrationlog.Store){
		func(s *migrationlog.Store) {
			for _, id := range ids[:3] {
				upsert(t, s, id, 0, addLearner)
			}
		},
		func(s *migrationlog.Store) {
			upsert(t, s, ids[0], 0, catchUp)
			_, err := s.Remove(ids[1])
			require.NoError(t, err)
			upsert(t, s, ids[3], 0, addLearner)
		},
		func(s *migrationlog.Store) {
			upsert(t, s, ids[2], 0, catchUp)
			upsert(t, s, ids[1], 0, addLearner)
			upsert(t, s, ids[0], 0, complete)
		},
	} {
		s := open(t, dir, &migrationlog.Options{SegmentSize: 2000}) // more than a session writes
		write(s)
		require.NoError(t, s.Close())
		rows = slices.Collect(s.Rows())
		name := snapshotPath(dir, uint64(3*session+3))
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		kept[name] = b
	}
	delete(kept, snapshotPath(dir, 9))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SnapshotDir)))
	require.NoError(t, os.Mkdir(filepath.Join(dir, segment.SnapshotDir), 0o700))
	for name, b := range kept {
		require.NoError(t, os.WriteFile(name, b, 0o600))
	}
	places = map[uint64]replay.Record{}
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		places[r.Seq] = r
	}
	require.Len(t, places, 9)
	require.Len(t, segments(t, dir), 3)
	return dir, places, rows
}

func snapshotPath(dir string, seq uint64) string {
	return filepath.Join(dir, segment.SnapshotDir, segment.Name(seq))
}

// changeSnapshot replaces a snapshot by another intact one.
func changeSnapshot(t testing.TB, dir string, seq uint64, change func(s *segment.Snapshot)) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	log := reader.Manifest().UUID
	b, err := os.ReadFile(snapshotPath(dir, seq))
	require.NoError(t, err)
	s, err := segment.DecodeSnapshot(b, log)
	require.NoError(t, err)
	change(&s)
	require.NoError(t, os.WriteFile(snapshotPath(dir, seq), s.Encode(log), 0o600))
}

// fallbackCase is a change to the log of fallbackLog, and the report of the opening after it.
type fallbackCase struct {
	name     string
	change   func(t testing.TB, dir string)
	opts     *migrationlog.Options
	snapshot uint64
	firstSeq uint64
	framesOK uint64
	damage   int
	lost     []replay.SeqRange
	lacks    int // rows
}

// Open starts from the newest snapshot that fits. If it does not fit, Open tries the older one,
// then the whole log without a snapshot, and last the log frame by frame. The rows are always the
// same, except for lost events that no snapshot has.
func TestOpen_Fallbacks(t *testing.T) {
	whole, places, rows := fallbackLog(t)
	destroy := func(t testing.TB, dir string, seq uint64) {
		flip(t, segmentPath(dir, places[seq].Segment), int(places[seq].Offset+places[seq].Length-1))
	}
	for _, tc := range append(snapshotsThatDoNotFit(), lossesAndSnapshots(destroy)...) {
		t.Run(tc.name, func(t *testing.T) {
			dir := copyDir(t, whole)
			if tc.change != nil {
				tc.change(t, dir)
			}
			s := open(t, dir, tc.opts)
			report := s.Report()
			require.Equal(t, tc.snapshot, report.SnapshotSeq)
			require.Equal(t, tc.firstSeq, report.FirstSeq)
			require.EqualValues(t, 9, report.LastSeq)
			require.Equal(t, tc.framesOK, report.FramesOK)
			require.Len(t, report.Damage, tc.damage)
			require.Equal(t, tc.lost, report.Lost)
			if tc.lacks == 0 {
				require.Equal(t, rows, slices.Collect(s.Rows()))
			}
			require.Equal(t, len(rows)-tc.lacks, s.Len())
			require.EqualValues(t, 10, upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp).Seq)
		})
	}
}

// anotherHistory replaces a snapshot by one of a diverged copy of the log.
func anotherHistory(s *segment.Snapshot) { s.Last.HeaderCRC32C++ }

// snapshotsThatDoNotFit are logs in which all events are intact.
func snapshotsThatDoNotFit() []fallbackCase {
	return []fallbackCase{
		{name: "the newest snapshot", snapshot: 6, firstSeq: 4, framesOK: 6},
		{
			name: "newest snapshot damaged", snapshot: 3, firstSeq: 1, framesOK: 9, damage: 1,
			change: func(t testing.TB, dir string) { flip(t, snapshotPath(dir, 6), 50) },
		},
		{
			name: "newest snapshot of another history", snapshot: 3, firstSeq: 1, framesOK: 9,
			change: func(t testing.TB, dir string) { changeSnapshot(t, dir, 6, anotherHistory) },
		},
		{
			name: "newest snapshot with a body that is not rows", snapshot: 3, firstSeq: 1, framesOK: 9,
			change: func(t testing.TB, dir string) {
				changeSnapshot(t, dir, 6, func(s *segment.Snapshot) { s.Body = []byte("no rows") })
			},
		},
		{
			name: "newest snapshot with the name of a missing segment", snapshot: 3, firstSeq: 1, framesOK: 9,
			change: func(t testing.TB, dir string) {
				changeSnapshot(t, dir, 6, func(s *segment.Snapshot) { s.Last.Segment = 5 })
			},
		},
		{
			name: "newest snapshot with rows that do not match the events after it", snapshot: 3, firstSeq: 1, framesOK: 9,
			change: func(t testing.TB, dir string) {
				changeSnapshot(t, dir, 3, func(older *segment.Snapshot) {
					changeSnapshot(t, dir, 6, func(newer *segment.Snapshot) { newer.Body = older.Body })
				})
			},
		},
		{
			name: "newest snapshot missing", snapshot: 3, firstSeq: 1, framesOK: 9,
			change: func(t testing.TB, dir string) { require.NoError(t, os.Remove(snapshotPath(dir, 6))) },
		},
		{
			name: "both snapshots of another history", snapshot: 0, firstSeq: 1, framesOK: 9,
			change: func(t testing.TB, dir string) {
				changeSnapshot(t, dir, 3, anotherHistory)
				changeSnapshot(t, dir, 6, anotherHistory)
			},
		},
		{
			name: "both snapshots damaged", snapshot: 0, firstSeq: 1, framesOK: 9, damage: 2,
			change: func(t testing.TB, dir string) {
				flip(t, snapshotPath(dir, 3), 50)
				flip(t, snapshotPath(dir, 6), 5)
			},
		},
		{
			name: "no snapshot", snapshot: 0, firstSeq: 1, framesOK: 9,
			change: func(t testing.TB, dir string) {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SnapshotDir)))
			},
		},
		{name: "whole log, with VerifyAll", opts: &migrationlog.Options{VerifyAll: true}, snapshot: 0, firstSeq: 1, framesOK: 9},
		{name: "whole log, with RefuseDamage", opts: &migrationlog.Options{OnDamage: migrationlog.RefuseDamage}, snapshot: 0, firstSeq: 1, framesOK: 9},
	}
}

// lossesAndSnapshots are logs that lost events before, between or after the snapshots.
func lossesAndSnapshots(destroy func(t testing.TB, dir string, seq uint64)) []fallbackCase {
	type ranges = []replay.SeqRange
	return []fallbackCase{
		{
			name: "event lost before the snapshots, not noticed", snapshot: 6, firstSeq: 4, framesOK: 6,
			change: func(t testing.TB, dir string) { destroy(t, dir, 2) },
		},
		{
			name: "event lost before the only snapshot", snapshot: 3, firstSeq: 1, framesOK: 8, damage: 1, lost: ranges{{First: 2, Last: 2}},
			change: func(t testing.TB, dir string) {
				destroy(t, dir, 2)
				require.NoError(t, os.Remove(snapshotPath(dir, 6)))
			},
		},
		{
			name: "event lost before the only snapshot that matches", snapshot: 3, firstSeq: 1, framesOK: 8, damage: 1, lost: ranges{{First: 2, Last: 2}},
			change: func(t testing.TB, dir string) {
				destroy(t, dir, 2)
				changeSnapshot(t, dir, 6, anotherHistory)
			},
		},
		{
			name: "event lost between the snapshots", snapshot: 6, firstSeq: 1, framesOK: 8, damage: 1, lost: ranges{{First: 4, Last: 4}},
			change: func(t testing.TB, dir string) { destroy(t, dir, 4) },
		},
		{
			name: "event lost after the snapshots", snapshot: 0, firstSeq: 1, framesOK: 8, damage: 1, lost: ranges{{First: 8, Last: 8}}, lacks: 1,
			change: func(t testing.TB, dir string) { destroy(t, dir, 8) },
		},
		{
			name: "events lost before and after the snapshots", snapshot: 6, firstSeq: 2, framesOK: 7, damage: 2, lost: ranges{{First: 1, Last: 1}, {First: 8, Last: 8}}, lacks: 1,
			change: func(t testing.TB, dir string) {
				destroy(t, dir, 1)
				destroy(t, dir, 8)
			},
		},
		{
			name: "first segment missing", snapshot: 6, firstSeq: 4, framesOK: 6, damage: 1, lost: ranges{{First: 1, Last: 3}},
			change: func(t testing.TB, dir string) { require.NoError(t, os.Remove(segmentPath(dir, firstSegment))) },
		},
		{
			name: "segment in the middle missing, and its snapshot", snapshot: 0, firstSeq: 1, framesOK: 6, damage: 1, lost: ranges{{First: 4, Last: 6}}, lacks: 1,
			change: func(t testing.TB, dir string) {
				require.NoError(t, os.Remove(segmentPath(dir, segment.Name(4))))
				require.NoError(t, os.Remove(snapshotPath(dir, 6)))
			},
		},
	}
}

// appendUnknown appends an event of an unknown kind to a segment.
func appendUnknown(t testing.TB, dir, name string, seq uint64) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	id := checkpoint.MigrationID{7}
	body, err := cbor.Marshal(map[int]any{1: 99, 2: id[:], 3: 5})
	require.NoError(t, err)
	log := reader.Manifest().UUID
	frame := segment.AppendFrame(nil, &log, segment.Header{Seq: seq, DurableThrough: seq - 1}, segment.NewBody(body))
	b, err := os.ReadFile(segmentPath(dir, name))
	require.NoError(t, err)
	b = append(binary.AppendUvarint(b, uint64(len(frame))), frame...)
	require.NoError(t, os.WriteFile(segmentPath(dir, name), b, 0o600))
}

// If an event of an unknown kind follows the snapshot, Open reads every frame. The event changes no
// row.
func TestOpen_UnknownKindBehindASnapshot(t *testing.T) {
	dir, _, rows := fallbackLog(t)
	appendUnknown(t, dir, segment.Name(7), 10)
	s := open(t, dir, nil)
	report := s.Report()
	require.Zero(t, report.SnapshotSeq)
	require.EqualValues(t, 10, report.FramesOK)
	require.EqualValues(t, 1, report.UnknownKinds)
	require.True(t, report.Clean())
	require.Equal(t, rows, slices.Collect(s.Rows()))
}

// Open starts from a snapshot even if the last write is torn.
func TestOpen_TornTailBehindASnapshot(t *testing.T) {
	dir, places, rows := fallbackLog(t)
	path := segmentPath(dir, segment.Name(7))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	entry := b[places[9].Offset-1:] // with its prefix
	require.NoError(t, os.WriteFile(path, append(b, entry[:30]...), 0o600))
	s := open(t, dir, nil)
	report := s.Report()
	require.EqualValues(t, 6, report.SnapshotSeq)
	require.EqualValues(t, 6, report.FramesOK)
	require.EqualValues(t, 10, report.TornTail.FirstSeq)
	require.Empty(t, report.Damage)
	require.Equal(t, rows, slices.Collect(s.Rows()))
}

// The watermark shows that the last event is lost. Then no snapshot is used, and Open reads every
// frame.
func TestOpen_LastEventLostBehindASnapshot(t *testing.T) {
	dir, places, rows := fallbackLog(t)
	flip(t, segmentPath(dir, places[9].Segment), int(places[9].Offset+places[9].Length-1))
	s := open(t, dir, nil)
	report := s.Report()
	require.Zero(t, report.SnapshotSeq)
	require.EqualValues(t, 1, report.FirstSeq)
	require.EqualValues(t, 8, report.FramesOK)
	require.Equal(t, []replay.SeqRange{{First: 9, Last: 9}}, report.AcknowledgedLost)
	require.Equal(t, len(rows), s.Len())
	require.Equal(t, projection.InDoubt, s.Doubt(checkpoint.MigrationID{1}))
}
