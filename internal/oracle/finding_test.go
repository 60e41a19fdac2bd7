package oracle_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/internal/oracle"
	"migrationlog/replay"
)

var x, y, z, unused = uuid.UUID{1}, uuid.UUID{2}, uuid.UUID{3}, uuid.UUID{9}

// fixture is a log of which each test makes the history step by step.
type fixture struct {
	*testing.T
	dir       string
	clock     uint64
	snapshots []string // that were there when the log was opened
}

func newFixture(t *testing.T) *fixture {
	return &fixture{T: t, dir: filepath.Join(memDir(t), "log")}
}

// open opens the log. What is written until it is closed lies in a segment of its own.
func (f *fixture) open() *migrationlog.Store {
	s, err := migrationlog.Open(f.dir, &migrationlog.Options{SegmentSize: 1_000})
	require.NoError(f, err)
	f.Cleanup(func() { s.Close() })
	files, err := loadFolders(f.dir, "snapshots")
	require.NoError(f, err)
	f.snapshots = files.names("")
	return s
}

func (f *fixture) upsert(s *migrationlog.Store, id uuid.UUID, p checkpoint.Payload) uint64 {
	f.clock++
	c, err := checkpoint.New(id, uint32(f.clock), p, f.clock)
	require.NoError(f, err)
	r, err := s.Upsert(c)
	require.NoError(f, err)
	return r.Seq
}

// kill ends a store without closing it, before it has written a snapshot.
func (f *fixture) kill(s *migrationlog.Store) {
	files, err := load(f.dir)
	require.NoError(f, err)
	for _, name := range files.names("snapshots/") {
		if !slices.Contains(f.snapshots, name) {
			delete(files, name)
		}
	}
	require.NoError(f, s.Close())
	require.NoError(f, files.store(f.dir))
}

func (f *fixture) read() *oracle.Log {
	l, err := oracle.Read(f.dir)
	require.NoError(f, err)
	return l
}

// flip changes one bit in the body of a frame, and changes it back if it was changed before.
func (f *fixture) flip(e oracle.Event) {
	path := filepath.Join(f.dir, segmentName(e.Segment))
	b, err := os.ReadFile(path)
	require.NoError(f, err)
	b[e.Offset+e.Length-1] ^= 1
	require.NoError(f, os.WriteFile(path, b, 0o600))
}

func (f *fixture) event(seq uint64) oracle.Event {
	for _, e := range f.read().Events {
		if e.Seq == seq {
			return e
		}
	}
	require.FailNow(f, "no such event", "seq %d", seq)
	return oracle.Event{}
}

// unknown appends an event of an unknown kind.
func (f *fixture) unknown(id uuid.UUID, prev uint64) {
	f.clock++
	f.foreign(prev, oracle.UnknownBody(7, id, f.clock))
}

func (f *fixture) foreign(prev uint64, body []byte) {
	require.NoError(f, appendFrame(f.dir, f.read(), prev, body, false))
}

// opened returns a store of a copy of the log, after every reading was compared with the oracle.
func (f *fixture) opened() *migrationlog.Store {
	h := newHistory(memDir(f), 1, 1)
	h.ids = []uuid.UUID{x, y, z, unused}
	files, err := load(f.dir)
	require.NoError(f, err)
	require.NoError(f, files.store(h.dir))
	for _, readAll := range []bool{true, false} {
		if _, err := h.checkReadings(readAll); err != nil {
			f.Errorf("%v", err) // what the test asserts says more
		}
	}
	s, err := migrationlog.Open(f.copy(), nil)
	require.NoError(f, err)
	f.Cleanup(func() { s.Close() })
	return s
}

func (f *fixture) copy() string {
	dir := filepath.Join(memDir(f), "log")
	files, err := load(f.dir)
	require.NoError(f, err)
	require.NoError(f, files.store(dir))
	return dir
}

func addLearner(target uint64) checkpoint.AddLearner {
	return checkpoint.AddLearner{VShardID: 5, SourceNode: 4, TargetNode: target, SourceGroup: 6}
}

var catchUp = checkpoint.CatchUp{VShardID: 5, LearnerLogIndexAtAdd: 8}

// D1: an abort that was acknowledged while the event before it could not be read is not undone when
// that event can be read again.
func TestD1_AbortSurvivesHealing(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, x, addLearner(3))
	f.upsert(s, x, catchUp)
	f.kill(s)
	lost := f.event(2)
	f.flip(lost)

	s = f.open()
	require.Equal(t, []replay.SeqRange{{First: 2, Last: 2}}, s.Report().AcknowledgedLost)
	require.EqualValues(t, oracle.InDoubt, s.Doubt(x))
	receipt, err := s.Abort(x, "in doubt", nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, receipt.Seq)
	require.EqualValues(t, 1, f.event(3).Prev)
	require.NoError(t, s.Close())
	f.flip(lost)

	s = f.opened()
	require.Empty(t, s.Report().Lost)
	_, has := s.Row(x)
	require.False(t, has, "it was aborted")
	require.EqualValues(t, oracle.None, s.Doubt(x))
}

// D1: the same for a segment that is missing once, with a snapshot before it or of it.
func TestD1_AbortSurvivesTheReturnOfASegment(t *testing.T) {
	for name, leave := range map[string]func(*fixture, *migrationlog.Store){
		"snapshot before": (*fixture).kill,
		"snapshot of it":  func(f *fixture, s *migrationlog.Store) { require.NoError(f, s.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			s := f.open()
			f.upsert(s, x, addLearner(3))
			require.NoError(t, s.Close())
			require.FileExists(t, filepath.Join(f.dir, snapshotName(1)))
			s = f.open()
			f.upsert(s, x, catchUp)
			leave(f, s)
			path := filepath.Join(f.dir, segmentName(2))
			require.NoError(t, os.Rename(path, path+".away"))
			require.NoError(t, os.Rename(path+".away", f.dir+".away"))

			s = f.open()
			require.EqualValues(t, oracle.InDoubt, s.Doubt(x))
			_, err := s.Abort(x, "in doubt", nil)
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.NoError(t, os.Rename(f.dir+".away", path))

			s = f.opened()
			_, has := s.Row(x)
			require.False(t, has, "it was aborted")
			require.EqualValues(t, oracle.None, s.Doubt(x))
		})
	}
}

// D1: a snapshot of version 1, whose writer may have undone an abort, does not replace what intact
// events lead to.
func TestD1_AbortSurvivesASnapshotOfVersion1(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, x, addLearner(3))
	_, err := s.Abort(x, "no", nil)
	require.NoError(t, err)
	f.upsert(s, y, addLearner(3))
	f.kill(s)
	l := f.read()
	last := l.Events[2]
	l.Events = append(l.Events[:1], last) // as if the abort had never been
	b, ok := oracle.Fold(l).Snapshot(last).EncodeV1(l.UUID)
	require.True(t, ok)
	require.NoError(t, os.MkdirAll(filepath.Join(f.dir, "snapshots"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, snapshotName(3)), b, 0o600))
	require.Len(t, f.read().Snapshots, 1)

	s = f.opened()
	_, has := s.Row(x)
	require.False(t, has, "it was aborted")
	require.True(t, s.Report().Clean())
	f.flip(f.event(1)) // then the snapshot is better than nothing
	_, has = f.opened().Row(y)
	require.True(t, has)
}

// D1: no intact row vanishes where a segment is the same-named one of a copy that went another way.
func TestD1_RowsOfASwappedSegmentAreShown(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, y, addLearner(3))
	f.upsert(s, y, catchUp)
	require.NoError(t, s.Close())
	other := &fixture{T: t, dir: f.copy()}
	s = other.open()
	require.EqualValues(t, 3, f.upsert(s, z, addLearner(3)))
	f.upsert(s, y, catchUp)
	require.NoError(t, s.Close())

	s = f.open()
	f.upsert(s, x, addLearner(3))
	f.upsert(s, y, catchUp)
	require.NoError(t, s.Close())
	s = f.open()
	f.upsert(s, x, addLearner(9))
	require.NoError(t, s.Close())
	require.EqualValues(t, 3, f.event(5).Prev)
	swapped, err := os.ReadFile(filepath.Join(other.dir, segmentName(3)))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, segmentName(3)), swapped, 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(f.dir, "snapshots")))

	s = f.opened()
	row, has := s.Row(z)
	require.True(t, has, "its event is intact")
	require.EqualValues(t, 3, row.Seq)
	require.EqualValues(t, oracle.None, row.Doubt)
	row, has = s.Row(x)
	require.True(t, has)
	require.EqualValues(t, 5, row.Seq)
	require.EqualValues(t, oracle.Superseded, row.Doubt, "the event before is another migration's")
	require.EqualValues(t, 9, row.Facts.TargetNode)
	require.False(t, row.Facts.TargetUncertain, "its own event names the target")
}

// D5: an event of an unknown kind does not hide that facts are older than a lost event.
func TestD5_UnknownKindHidesNoGapInFacts(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, x, addLearner(3))
	f.upsert(s, x, addLearner(77))
	require.NoError(t, s.Close())
	f.unknown(x, 2)
	s = f.open()
	require.EqualValues(t, 4, f.upsert(s, x, catchUp))
	f.kill(s)
	require.NoError(t, os.RemoveAll(filepath.Join(f.dir, "snapshots")))
	f.flip(f.event(2))

	row, has := f.opened().Row(x)
	require.True(t, has)
	require.EqualValues(t, 3, row.Facts.TargetNode)
	require.True(t, row.Facts.TargetUncertain, "the lost event may have named another: it did")
	require.True(t, row.Facts.SourceUncertain)
	require.EqualValues(t, oracle.Superseded, row.Doubt)
}

// D5: an event of an unknown kind does not replace a lost removal.
func TestD5_UnknownKindSupersedesNoRemoval(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, x, addLearner(3))
	_, err := s.Remove(x)
	require.NoError(t, err)
	f.kill(s)
	f.unknown(x, 1)
	f.flip(f.event(2))
	require.EqualValues(t, oracle.InDoubt, f.opened().Doubt(x))
}

// D5: without a loss, an event of an unknown kind at either end of an incarnation raises no doubt,
// and the log gets snapshots as before.
func TestD5_UnknownKindWithoutLossRaisesNoDoubt(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.open().Close())
	f.unknown(x, 0)
	s := f.open()
	require.EqualValues(t, 2, f.upsert(s, x, addLearner(3)))
	require.NoError(t, s.Close())
	require.FileExists(t, filepath.Join(f.dir, snapshotName(2)))
	requireCertain(t, f.opened(), x)

	f.unknown(x, 2)
	f.clock++
	c, err := checkpoint.New(x, 0, addLearner(5), f.clock)
	require.NoError(t, err)
	body, err := checkpoint.EncodeEvent(checkpoint.Upserted{Checkpoint: c})
	require.NoError(t, err)
	f.foreign(0, body) // the unknown kind ended the incarnation
	s = f.open()
	require.EqualValues(t, 5, f.upsert(s, y, addLearner(3)))
	require.NoError(t, s.Close())
	require.FileExists(t, filepath.Join(f.dir, snapshotName(5)))
	requireCertain(t, f.opened(), x)
	require.NoError(t, os.RemoveAll(filepath.Join(f.dir, "snapshots")))
	requireCertain(t, f.opened(), x)

	f.unknown(z, 0)
	s = f.open()
	require.EqualValues(t, oracle.None, s.Doubt(z))
	require.EqualValues(t, 7, f.upsert(s, y, catchUp))
	require.NoError(t, s.Close())
	require.FileExists(t, filepath.Join(f.dir, snapshotName(7)), "also of a migration that has no row")
	s = f.open()
	require.EqualValues(t, 8, f.upsert(s, z, addLearner(3)))
	require.EqualValues(t, 6, f.event(8).Prev)
	requireCertain(t, f.opened(), z)
}

func requireCertain(t *testing.T, s *migrationlog.Store, id uuid.UUID) {
	row, has := s.Row(id)
	require.True(t, has)
	require.EqualValues(t, oracle.None, row.Doubt)
	require.False(t, row.Facts.TargetUncertain)
	require.False(t, row.Facts.SourceUncertain)
}

// D5: facts are certain again when a later event shows that the lost event was another migration's.
func TestD5_FactsAreCertainOnceTheLossIsAttributed(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, x, addLearner(3))
	f.upsert(s, y, addLearner(3))
	f.upsert(s, x, catchUp)
	f.upsert(s, y, catchUp)
	f.kill(s)
	f.flip(f.event(2))
	s = f.opened()
	requireCertain(t, s, x)
	require.EqualValues(t, oracle.Superseded, s.Doubt(y))
}

// D5: if wal/ is an older copy's, a snapshot that is newer is evidence of the events that are gone:
// they are reported as acknowledged and lost, and their numbers are not given again.
func TestD5_OlderSegmentsBesideANewerSnapshot(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, x, addLearner(3))
	f.upsert(s, y, addLearner(3))
	require.NoError(t, s.Close())
	older, err := load(f.dir)
	require.NoError(t, err)
	s = f.open()
	f.upsert(s, x, catchUp)
	f.upsert(s, y, catchUp)
	require.NoError(t, s.Close())
	files, err := load(f.dir)
	require.NoError(t, err)
	for _, name := range files.names("wal/") {
		delete(files, name)
	}
	for _, name := range older.names("wal/") {
		files[name] = older[name]
	}
	require.NoError(t, files.store(f.dir))

	_, err = migrationlog.Open(f.copy(), &migrationlog.Options{OnDamage: migrationlog.RefuseDamage})
	var damaged *migrationlog.DamagedError
	require.ErrorAs(t, err, &damaged)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 4}}, damaged.Report.AcknowledgedLost)
	s = f.opened()
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 4}}, s.Report().Lost)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 4}}, s.Report().AcknowledgedLost)
	require.EqualValues(t, oracle.InDoubt, s.Doubt(x))
	require.Empty(t, s.Report().Quarantined, "the snapshot is the evidence")
	require.EqualValues(t, 5, f.upsert(s, z, addLearner(3)))
}

// D5: an opening that begins with a snapshot returns the same Doubt about an ended migration as an
// opening that reads a loss before the snapshot.
func TestD5_EndBehindASnapshotOfABrokenIncarnation(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, y, addLearner(3))
	f.upsert(s, y, catchUp)
	require.NoError(t, s.Close())
	f.clock++
	c, err := checkpoint.New(x, 0, catchUp, f.clock)
	require.NoError(t, err)
	body, err := checkpoint.EncodeEvent(checkpoint.Upserted{Checkpoint: c})
	require.NoError(t, err)
	f.foreign(1, body) // it names an event of another migration
	s = f.open()
	require.EqualValues(t, oracle.Superseded, s.Doubt(x))
	f.upsert(s, y, catchUp)
	require.NoError(t, s.Close())
	require.FileExists(t, filepath.Join(f.dir, snapshotName(4)))
	s = f.open()
	_, err = s.Abort(x, "no", nil)
	require.NoError(t, err)
	f.kill(s)
	f.flip(f.event(1))
	require.EqualValues(t, oracle.None, f.opened().Doubt(x))
}

// D5: if the header of a torn tail is valid, its durable-through number counts. After a power cut the
// watermarks may be too low to show that those events were durable.
func TestD5_HeaderOfATornTailIsEvidence(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	for _, id := range []uuid.UUID{x, y, z} {
		f.upsert(s, id, addLearner(3))
	}
	f.kill(s)
	l := f.read()
	require.True(t, l.TailClean)
	f.flip(f.event(3))
	path := filepath.Join(f.dir, segmentName(1))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	torn := oracle.AppendEntry(nil, l.UUID, 4, 0, 3, oracle.UnknownBody(7, x, 9))
	require.NoError(t, os.WriteFile(path, append(b[:l.TailEnd], torn[:len(torn)-1]...), 0o600))
	for _, name := range []string{"WATERMARK", "wal/WATERMARK"} {
		require.NoError(t, os.WriteFile(filepath.Join(f.dir, name), oracle.AppendWatermark(nil, l.UUID, 1), 0o600))
	}
	report := f.opened().Report()
	require.NotNil(t, report.TornTail)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 3}}, report.Lost)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 3}}, report.AcknowledgedLost, "4 was written after 3 was durable")
}

// D8: a query for a vShard or a node finds the migration's events of unknown kinds.
func TestD8_QueryFindsUnknownKinds(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	f.upsert(s, x, addLearner(3))
	require.NoError(t, s.Close())
	f.unknown(x, 1)
	f.unknown(y, 0)
	reader, err := replay.Open(f.dir)
	require.NoError(t, err)
	for _, q := range []replay.Query{{VShards: []uint32{5}}, {Nodes: []uint64{3}}, {Nodes: []uint64{4}}} {
		var found []uint64
		for r, err := range reader.Records(t.Context(), q) {
			require.NoError(t, err)
			found = append(found, r.Seq)
		}
		require.Equal(t, []uint64{1, 2}, found, "%+v", q)
	}
}
