package migrationlog_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// D8: a snapshot and the events after it, the last frame of each migration, and all frames from the
// first on lead to the same rows, also after a kill, and with either snapshot.
func TestD8_SnapshotAndTail(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	begun := map[bool]int{}
	for range 60 {
		dir := filepath.Join(memDir(t), "log")
		opts := &migrationlog.Options{SegmentSize: 300 + rng.IntN(4000)}
		for range 4 {
			s := open(t, dir, opts)
			for range rng.IntN(120) {
				randomWrite(t, s, rng)
			}
			if rng.IntN(2) == 0 {
				killed := copyDir(t, dir)
				begun[equalOpenings(t, killed)]++
			}
			require.NoError(t, s.Close())
			begun[equalOpenings(t, dir)]++
		}
		require.NoError(t, os.RemoveAll(filepath.Dir(dir)))
	}
	require.Positive(t, begun[true], "openings from a snapshot")
	require.Positive(t, begun[false], "openings without one")
}

// randomWrite writes the next step of a random migration.
func randomWrite(t testing.TB, s *migrationlog.Store, rng *rand.Rand) {
	id := checkpoint.MigrationID{1, byte(rng.IntN(12))}
	var err error
	writeAny := func(e checkpoint.Event) error { // an abort under way would refuse some of them
		_, err := s.WriteAll([]checkpoint.Event{e})
		return err
	}
	switch rng.IntN(11) {
	case 8, 9:
		_, err = s.WriteAll([]checkpoint.Event{
			checkpoint.AbortBegun{MigrationID: id, Reason: "stale", Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 9}, {Kind: checkpoint.RemoveGhostStub}}},
			checkpoint.Compensated{MigrationID: id, Step: uint32(rng.IntN(3)), Epoch: rng.Uint64N(100)},
		}[rng.IntN(2):])
	case 10:
		err = writeAny(checkpoint.EpochRaised{MigrationID: id, Epoch: 1 + rng.Uint64N(100)})
	case 0:
		err = writeAny(checkpoint.Aborted{MigrationID: id, Reason: "for want of room", Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9}}})
	case 1:
		err = writeAny(checkpoint.Removed{MigrationID: id})
	case 2:
		_, err = s.WriteAll([]checkpoint.Event{checkpoint.Removed{MigrationID: id}}, migrationlog.Confirm())
	case 3:
		err = writeAny(checkpoint.Upserted{Checkpoint: row(t, id, uint32(rng.IntN(3)), checkpoint.PromoteLearner{VShardID: uint32(rng.IntN(3)), TargetNode: rng.Uint64(), SourceGroup: 7})})
	case 4:
		err = writeAny(checkpoint.Upserted{Checkpoint: row(t, id, uint32(rng.IntN(3)), checkpoint.AddLearner{VShardID: uint32(rng.IntN(3)), SourceNode: rng.Uint64(), TargetNode: 8})})
	default:
		err = writeAny(checkpoint.Upserted{Checkpoint: row(t, id, uint32(rng.IntN(9)), checkpoint.CatchUp{VShardID: uint32(rng.IntN(3))})})
	}
	require.NoError(t, err)
}

// equalOpenings opens copies of a log in every possible way, and reports whether the first way
// started from a snapshot.
func equalOpenings(t testing.TB, dir string) (withSnapshot bool) {
	want := rowsAfter(t, copyDir(t, dir), &migrationlog.Options{VerifyAll: true})
	snapshots, err := segment.SnapshotNames(os.DirFS(dir))
	require.NoError(t, err)
	require.LessOrEqual(t, len(snapshots), 3, "there is one more while a new one is written")
	for taken := range len(snapshots) + 1 { // the newest is removed first
		other := copyDir(t, dir)
		for _, name := range snapshots[:taken] {
			require.NoError(t, os.Remove(filepath.Join(other, "snapshots", name)))
		}
		got := rowsAfter(t, other, nil)
		require.Equal(t, want.rows, got.rows)
		require.Equal(t, want.lastSeq, got.lastSeq)
		require.Equal(t, want.epoch, got.epoch)
		require.Equal(t, want.shards, got.shards)
		withSnapshot = withSnapshot || taken == 0 && got.snapshotSeq > 0
	}
	return withSnapshot
}

type opened struct {
	rows                 []projection.Row
	shards               [][]projection.Row
	lastSeq, snapshotSeq uint64
	epoch                uint64
}

func rowsAfter(t testing.TB, dir string, opts *migrationlog.Options) (o opened) {
	defer os.RemoveAll(dir)
	s := open(t, dir, opts)
	defer func() { require.NoError(t, s.Close()) }()
	require.True(t, s.Report().Clean())
	o = opened{rows: slices.Collect(s.Rows()), lastSeq: s.Stats().LastSeq, snapshotSeq: s.Report().SnapshotSeq, epoch: s.Report().Epoch}
	for shard := range uint32(3) {
		o.shards = append(o.shards, s.RowsByVShard(shard))
	}
	return o
}

// D8: if the newer of two snapshots is damaged, Open uses the older one. If both are damaged, it
// uses the log alone.
func TestD8_DamagedSnapshots(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 1000})
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		randomWrite(t, s, rng)
	}
	require.NoError(t, s.Close())
	want := rowsAfter(t, copyDir(t, dir), &migrationlog.Options{VerifyAll: true})
	snapshots, err := filepath.Glob(filepath.Join(dir, "snapshots", "*"))
	require.NoError(t, err)
	require.Len(t, snapshots, 2)
	flip(t, snapshots[1], 50)
	s = open(t, dir, nil)
	report := s.Report()
	require.Equal(t, filepath.Base(snapshots[0]), segment.Name(report.SnapshotSeq))
	require.Len(t, report.Damage, 1)
	require.Len(t, report.Quarantined, 1, "Open moves the damaged snapshot away")
	require.Equal(t, want.rows, slices.Collect(s.Rows()))
	require.NoError(t, s.Close())

	for _, path := range snapshots {
		require.NoError(t, os.WriteFile(path, []byte("nonsense"), 0o600))
	}
	s = open(t, dir, nil)
	require.Zero(t, s.Report().SnapshotSeq)
	require.Len(t, s.Report().Damage, 2)
	require.Equal(t, want.rows, slices.Collect(s.Rows()))
	require.NoError(t, s.Close())
}

// D3: a snapshot can be newer than the log after a power cut without syncs, or in a backup. Open
// moves it away before its numbers are given to other events.
func TestD3_SnapshotBeyondTheLog(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{NoSync: true})
	ids := []checkpoint.MigrationID{{1}, {2}, {3}, {4}}
	upsert(t, s, ids[0], 0, addLearner)
	require.NoError(t, s.Close())
	before := copyDir(t, dir)
	s = open(t, dir, &migrationlog.Options{NoSync: true})
	upsert(t, s, ids[1], 0, addLearner)
	upsert(t, s, ids[2], 0, catchUp)
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(before, "snapshots")))
	require.NoError(t, os.CopyFS(filepath.Join(before, "snapshots"), os.DirFS(filepath.Join(dir, "snapshots"))))

	s = open(t, before, nil) // 2 and 3 are used again, 3 for the same event
	require.Len(t, s.Report().Quarantined, 1)
	upsert(t, s, ids[3], 0, addLearner)
	upsert(t, s, ids[2], 0, catchUp)
	require.NoError(t, s.Close())
	for _, opts := range []*migrationlog.Options{nil, {VerifyAll: true}} {
		s = open(t, before, opts)
		_, lost := s.Get(ids[1])
		_, there := s.Get(ids[3])
		require.False(t, lost)
		require.True(t, there)
		require.NoError(t, s.Close())
	}
}

// D2, D5: events that are lost before a snapshot cost no row and put no migration in doubt, however
// the log is read. Every full read reports the loss.
func TestD5_LostBeforeASnapshot(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 1})
	var ids []checkpoint.MigrationID
	for range 5 {
		ids = append(ids, checkpoint.NewMigrationID())
		upsert(t, s, ids[len(ids)-1], 0, addLearner)
	}
	require.NoError(t, s.Close())
	rows := slices.Collect(s.Rows())
	flip(t, segmentPath(dir, segment.Name(2)), 60)
	for range 2 {
		s = open(t, dir, &migrationlog.Options{VerifyAll: true})
		require.Equal(t, rows, slices.Collect(s.Rows()))
		report := s.Report()
		require.Equal(t, []replay.SeqRange{{First: 2, Last: 2}}, report.AcknowledgedLost)
		require.Empty(t, report.InDoubt)
		require.Empty(t, report.Superseded)
		require.False(t, report.UnnamedInDoubt)
		require.EqualValues(t, 5, report.SnapshotSeq)
		require.Equal(t, projection.None, s.Doubt(checkpoint.NewMigrationID()))
		require.NoError(t, s.Close())
	}
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	state, err := reader.StateAt(t.Context(), replay.Point{})
	require.NoError(t, err)
	require.Equal(t, rows, state.All())

	s = open(t, dir, &migrationlog.Options{SegmentSize: 1}) // starts from the snapshot, and finds no damage
	require.Equal(t, rows, slices.Collect(s.Rows()))
	upsert(t, s, ids[0], 0, catchUp)
	upsert(t, s, ids[1], 0, catchUp)
	require.NoError(t, s.Close())
	newest := filepath.Join(dir, "snapshots", segment.Name(7))
	require.NoError(t, os.Remove(newest))
	flip(t, segmentPath(dir, segment.Name(6)), 60)
	s = open(t, dir, nil) // has to read the whole log
	report := s.Report()
	require.Equal(t, []replay.SeqRange{{First: 2, Last: 2}, {First: 6, Last: 6}}, report.Lost)
	require.Equal(t, 5, s.Len())
	require.Equal(t, projection.InDoubt, s.Doubt(ids[0]), "seq 6 may have been its last event")
	require.Equal(t, projection.Superseded, s.Doubt(ids[1]), "it has later events")
	require.Equal(t, projection.InDoubt, s.Doubt(ids[2]))
	require.NoError(t, s.Close())
	require.NoFileExists(t, newest, "the snapshot would hide the loss")
}

// D3, D8: a snapshot is not used if the events after it were written by a writer that had not seen
// its last events.
func TestD8_WrittenWithoutWhatASnapshotHas(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 1})
	id := checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	require.NoError(t, s.Close())
	flip(t, segmentPath(dir, firstSegment), 60)
	s = open(t, dir, nil)
	_, there := s.Get(id)
	require.True(t, there, "the row is in the snapshot")
	require.NoError(t, s.Close())
	snapshots := filepath.Join(dir, "snapshots")
	require.NoError(t, os.Rename(snapshots, dir+".snapshots"))
	s = open(t, dir, nil)
	_, there = s.Get(id)
	require.False(t, there)
	upsert(t, s, id, 0, addLearner)
	_, err := s.Remove(id)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, os.Rename(dir+".snapshots", snapshots))
	s = open(t, dir, nil)
	_, there = s.Get(id)
	require.False(t, there, "it was removed")
	require.NoError(t, s.Close())
}

// D7: Open succeeds with anything under the names of the snapshots.
func TestD7_OddSnapshots(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a file":      func(path string) error { return os.WriteFile(path, []byte("file"), 0o600) },
		"a link loop": func(path string) error { return os.Symlink("snapshots", path) },
		"a directory in it": func(path string) error {
			return os.MkdirAll(filepath.Join(path, firstSegment), 0o700)
		},
		"a half-written snapshot": func(path string) error {
			return os.MkdirAll(filepath.Join(path, firstSegment+".new"), 0o700)
		},
	} {
		dir, _, _ := smallLog(t)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
		require.NoError(t, put(filepath.Join(dir, "snapshots")))
		for range 2 {
			s := open(t, dir, &migrationlog.Options{OnDamage: migrationlog.RefuseDamage})
			upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
			require.NoError(t, s.Close(), name)
		}
	}
}

// D2: if a segment is missing, the events after it are not applied as if nothing was missing.
func TestD2_SegmentMissingBehindASnapshot(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 300})
	for range 20 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	require.NoError(t, os.Remove(segments(t, dir)[2]))
	s = open(t, dir, nil)
	require.EqualValues(t, 3, s.Report().LostCount())
	require.NoError(t, s.Close())
}

// Close writes a missing snapshot, even if the last segment has no frame yet.
func TestSnapshot_OfALogThatEndsWithAnEmptySegment(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	opts := &migrationlog.Options{SegmentSize: 2000}
	s := open(t, dir, opts)
	for range 15 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}
	require.NoError(t, s.Close())
	for range 2 { // the first round continues in a new segment
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
		s = open(t, dir, opts)
		require.Zero(t, s.Report().SnapshotSeq)
		require.NoError(t, s.Close())
	}
	require.Len(t, segments(t, dir), 2)
	s = open(t, dir, opts)
	require.EqualValues(t, 15, s.Report().SnapshotSeq)
	require.Equal(t, 15, s.Len())
	require.NoError(t, s.Close())
}

// D5: the names of the segments show that the first segment is missing, even if a snapshot has the
// rows.
func TestD5_FirstSegmentMissingBehindASnapshot(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 300})
	for range 20 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.Remove(segmentPath(dir, firstSegment)))
	s = open(t, dir, nil)
	require.Equal(t, []replay.SeqRange{{First: 1, Last: 3}}, s.Report().AcknowledgedLost)
	require.Empty(t, s.Report().InDoubt)
	require.Equal(t, 20, s.Len())
	require.NoError(t, s.Close())
}

// D2, D5: without a snapshot, Open verifies every checksum, even of frames that no row depends on.
func TestD2_SupersededFrameDamaged(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 300})
	id := checkpoint.NewMigrationID()
	for attempt := range uint32(9) {
		upsert(t, s, id, attempt, addLearner)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	flip(t, segmentPath(dir, firstSegment), 60)
	s = open(t, dir, nil)
	require.Equal(t, []replay.SeqRange{{First: 1, Last: 1}}, s.Report().Lost)
	require.NoError(t, s.Close())
}

// D5: a log that lost an event gets no new snapshot, because the snapshot would hide the loss from
// the next Open.
func TestD5_NoSnapshotAfterALoss(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, &migrationlog.Options{SegmentSize: 300})
	for range 9 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	flip(t, segmentPath(dir, firstSegment), 60)
	for n := range 3 {
		s := open(t, dir, &migrationlog.Options{SegmentSize: 300})
		require.Equal(t, []replay.SeqRange{{First: 1, Last: 1}}, s.Report().Lost, "opening %d", n)
		for range 5 {
			upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
		}
		require.NoError(t, s.Close())
		require.NoDirExists(t, filepath.Join(dir, "snapshots"))
	}
}

// D3: a snapshot of a diverged or longer copy of the log is not used.
func TestD3_SnapshotOfAnotherHistory(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, nil)
	ids := []checkpoint.MigrationID{checkpoint.NewMigrationID(), checkpoint.NewMigrationID(), checkpoint.NewMigrationID()}
	upsert(t, s, ids[0], 0, addLearner)
	require.NoError(t, s.Close())
	other := copyDir(t, dir)
	for i, d := range []string{dir, other} {
		s := open(t, d, nil)
		upsert(t, s, ids[1+i], 0, addLearner)
		require.NoError(t, s.Close())
	}
	require.NoError(t, os.RemoveAll(filepath.Join(other, "snapshots")))
	require.NoError(t, os.CopyFS(filepath.Join(other, "snapshots"), os.DirFS(filepath.Join(dir, "snapshots"))))
	s = open(t, other, nil)
	require.EqualValues(t, 1, s.Report().SnapshotSeq, "the older snapshot matches")
	_, ok := s.Get(ids[1])
	require.False(t, ok)
	_, ok = s.Get(ids[2])
	require.True(t, ok)
	require.NoError(t, s.Close())

	require.NoError(t, os.RemoveAll(filepath.Join(other, "snapshots")))
	newest := filepath.Join("snapshots", segment.Name(2))
	require.NoError(t, os.Mkdir(filepath.Join(other, "snapshots"), 0o700))
	require.NoError(t, os.Link(filepath.Join(dir, newest), filepath.Join(other, newest)))
	flip(t, segmentPath(other, firstSegment), 60)
	s = open(t, other, nil) // the facts of seq 1 are not taken from it either
	require.Zero(t, s.Report().SnapshotSeq)
	_, ok = s.Get(ids[0])
	require.False(t, ok)
	require.NoError(t, s.Close())
}
