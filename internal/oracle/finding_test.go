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

// fixture is a log. Each test writes its history step by step.
type fixture struct {
	*testing.T
	dir       string
	clock     uint64
	snapshots []string // the snapshots that existed when the log was opened
}

func newFixture(t *testing.T) *fixture {
	return &fixture{T: t, dir: filepath.Join(memDir(t), "log")}
}

// open opens the log. All events of one opening are in a segment of their own.
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

// kill closes a store and removes the snapshots that were written since it was opened, as if the
// process had been killed.
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
	f.foreign(prev, oracle.UnknownBody(20, id, f.clock))
}

func (f *fixture) foreign(prev uint64, body []byte) {
	require.NoError(f, appendFrame(f.dir, f.read(), prev, body, false))
}

// opened compares every reading of the log with the oracle. Then it opens a copy of the log and
// returns the store.
func (f *fixture) opened() *migrationlog.Store {
	h := newHistory(memDir(f), 1, 1)
	h.ids = []uuid.UUID{x, y, z, unused}
	files, err := load(f.dir)
	require.NoError(f, err)
	require.NoError(f, files.store(h.dir))
	for _, readAll := range []bool{true, false} {
		if _, err := h.checkReadings(readAll); err != nil {
			f.Errorf("%v", err) // continue, because the assertions of the test are more specific
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

// D1: an abort is acknowledged while the event before it cannot be read. The abort stays in effect
// when that event can be read again.
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

// D1: the same holds for a segment that is missing for some time, with a snapshot before it or of
// it.
func TestD1_AbortSurvivesTheReturnOfASegment(t *testing.T) {
	for name, leave := range map[string]func(*fixture, *migrationlog.Store){
		"snapshot before the segment": (*fixture).kill,
		"snapshot of the segment":     func(f *fixture, s *migrationlog.Store) { require.NoError(f, s.Close()) },
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

// D1: a snapshot of version 1 does not replace the state that results from intact events, because
// its writer may have undone an abort.
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
	l.Events = append(l.Events[:1], last) // as if the abort had never been written
	b, ok := oracle.Fold(l).Snapshot(last).EncodeV1(l.UUID)
	require.True(t, ok)
	require.NoError(t, os.MkdirAll(filepath.Join(f.dir, "snapshots"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, snapshotName(3)), b, 0o600))
	require.Len(t, f.read().Snapshots, 1)

	s = f.opened()
	_, has := s.Row(x)
	require.False(t, has, "it was aborted")
	require.True(t, s.Report().Clean())
	f.flip(f.event(1)) // now an event is lost, so the snapshot is used
	_, has = f.opened().Row(y)
	require.True(t, has)
}

// D1: a segment is replaced by the segment with the same name from a diverged copy. All rows whose
// events are intact exist.
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
	require.EqualValues(t, oracle.Superseded, row.Doubt, "the event before it belongs to another migration")
	require.EqualValues(t, 9, row.Facts.TargetNode)
	require.False(t, row.Facts.TargetUncertain, "its own event has the target")
}

// D5: an event of an unknown kind does not hide that a lost event may have changed the facts.
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
	require.True(t, row.Facts.TargetUncertain, "the lost event changed the target")
	require.True(t, row.Facts.SourceUncertain)
	require.EqualValues(t, oracle.Superseded, row.Doubt)
}

// D5: an event of an unknown kind does not supersede a lost removal.
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

// D5: without a loss, an event of an unknown kind at the start or the end of an incarnation causes
// no doubt, and snapshots are still written.
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
	f.foreign(0, body) // previous number 0: the event of the unknown kind ended the incarnation
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
	require.FileExists(t, filepath.Join(f.dir, snapshotName(7)), "a snapshot is also written if a migration has no row")
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

// D5: facts are certain again if a later event shows that the lost event belonged to another
// migration.
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

// D5: wal/ is replaced by an older copy. A newer snapshot proves that later events were written.
// They are reported as acknowledged and lost, and their numbers are not used again.
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
	require.Empty(t, s.Report().Quarantined, "the snapshot must stay, because it is the evidence")
	require.EqualValues(t, 5, f.upsert(s, z, addLearner(3)))
}

// D5: an opening that starts from a snapshot returns the same Doubt about an ended migration as an
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
	f.foreign(1, body) // its previous number is an event of another migration
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

// D5: the durable-through number in the header of a torn tail is evidence, if the header is valid.
// After a power cut the watermarks may be too low to show that those events were durable.
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
	torn := oracle.AppendEntry(nil, l.UUID, 4, 0, 3, oracle.UnknownBody(20, x, 9))
	require.NoError(t, os.WriteFile(path, append(b[:l.TailEnd], torn[:len(torn)-1]...), 0o600))
	for _, name := range []string{"WATERMARK", "wal/WATERMARK"} {
		require.NoError(t, os.WriteFile(filepath.Join(f.dir, name), oracle.AppendWatermark(nil, l.UUID, 1), 0o600))
	}
	report := f.opened().Report()
	require.NotNil(t, report.TornTail)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 3}}, report.Lost)
	require.Equal(t, []replay.SeqRange{{First: 3, Last: 3}}, report.AcknowledgedLost, "seq 4 was written after seq 3 was durable")
}

// D8: a query for a vShard or a node also finds the events of unknown kinds of its migrations.
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
