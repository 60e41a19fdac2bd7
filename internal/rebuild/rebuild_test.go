package rebuild_test

import (
	"encoding/binary"
	"io/fs"
	"iter"
	"path"
	"slices"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/detcbor"
	"migrationlog/internal/rebuild"
	"migrationlog/projection"
	"migrationlog/replay"
)

var log = uuid.UUID{7}

var x, y = checkpoint.MigrationID{1}, checkpoint.MigrationID{2}

// frame is the content of a frame: an event and its link, the seq of the migration's previous
// event.
type frame struct {
	prevSeq uint64
	event   any // a checkpoint.Event, or an encoded body
}

func upsert(id checkpoint.MigrationID, p checkpoint.Payload) checkpoint.Event {
	c, err := checkpoint.New(id, 0, p, 5)
	if err != nil {
		panic(err)
	}
	return checkpoint.Upserted{Checkpoint: c}
}

// unknown returns the body of an event whose kind no version of the format defines.
func unknown(id checkpoint.MigrationID) []byte {
	b := detcbor.AppendUint(detcbor.AppendHead(nil, detcbor.MajorMap, 3), 1, 20)
	return detcbor.AppendUint(detcbor.AppendBytes(b, 2, id[:]), 3, 5)
}

// unknownIn is unknown with an epoch.
func unknownIn(id checkpoint.MigrationID, n uint64) []byte {
	return checkpoint.AppendEpoch(unknown(id), n)
}

// epoch returns the body of an event with an epoch.
func epoch(e checkpoint.Event, n uint64) []byte {
	b, err := checkpoint.EncodeEvent(e)
	if err != nil {
		panic(err)
	}
	return checkpoint.AppendEpoch(b, n)
}

// at returns the body of an event with a position.
func at(event any, index uint64) []byte {
	b, ok := event.([]byte)
	if !ok {
		var err error
		if b, err = checkpoint.EncodeEvent(event.(checkpoint.Event)); err != nil {
			panic(err)
		}
	}
	return checkpoint.AppendPosition(b, index, 2)
}

// restored returns a restored row at CatchUp with an abort under way.
func restored(id checkpoint.MigrationID) checkpoint.Event {
	return checkpoint.Restored{Checkpoint: upsert(id, checkpoint.CatchUp{VShardID: 8}).(checkpoint.Upserted).Checkpoint, Facts: checkpoint.RestoredFacts{
		SourceNode: 5, TargetNode: 3, SourceGroup: 1, HasTarget: true, HasSource: true, FurthestPhase: checkpoint.PhasePromoteLearner, RecordedPhases: 0b111,
		HighestAttempt: [6]uint32{0, 7}, Targets: []checkpoint.Target{{GroupID: 1, PeerID: 2}, {GroupID: 1, PeerID: 3}},
		Abort: &checkpoint.RestoredAbort{Reason: "stale", Compensations: begun(id).(checkpoint.AbortBegun).Compensations, Done: []bool{false, true}},
	}}
}

func begun(id checkpoint.MigrationID) checkpoint.Event {
	return checkpoint.AbortBegun{MigrationID: id, Reason: "stale", Compensations: []checkpoint.Compensation{
		{Kind: checkpoint.RemoveVoter, GroupID: 1, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 1, PeerID: 2},
	}}
}

// write adds segments to a log. The first frame gets firstSeq. write returns the id of the last
// frame.
func write(t testing.TB, fsys fstest.MapFS, firstSeq uint64, segments ...[]frame) (last segment.FrameID) {
	seq := firstSeq
	for _, frames := range segments {
		first := seq
		var data []byte
		for _, f := range frames {
			body, ok := f.event.([]byte)
			if !ok {
				var err error
				body, err = checkpoint.EncodeEvent(f.event.(checkpoint.Event))
				require.NoError(t, err)
			}
			b := segment.AppendFrame(nil, &log, segment.Header{Seq: seq, PrevSeq: f.prevSeq}, segment.NewBody(body))
			last = segment.FrameIDOf(b, first)
			data = append(binary.AppendUvarint(data, uint64(len(b))), b...)
			seq++
		}
		fsys["wal/"+segment.Name(first)] = &fstest.MapFile{Data: data}
	}
	return last
}

// source returns the Source of a log, and a counter of the full scans.
func source(fsys fstest.MapFS, snapshots ...segment.Snapshot) (rebuild.Source, *int) {
	scans := new(int)
	dir := segment.Directory{Manifest: segment.Manifest{UUID: log, Revision: 1}}
	return rebuild.Source{
		FS: fsys, Directory: dir, Snapshots: snapshots,
		Scan: func(scope segment.Scope) iter.Seq2[segment.Item, error] {
			if scope == segment.ScanAll {
				*scans++
			}
			return segment.NewScan(fsys, dir, segment.ScanOptions{Locked: true, Scope: scope}).Items()
		},
	}, scans
}

func snapshotOf(t testing.TB, view *projection.View, last segment.FrameID) segment.Snapshot {
	body, err := view.Snapshot()
	require.NoError(t, err)
	return segment.Snapshot{Version: segment.SnapshotVersion, Last: last, Synced: true, Body: body}
}

// D8: Fold returns the same view as FoldAll, for any links between the events. It does a full scan
// only if an event is not linked to the last event of its migration, or if a body is not an event.
func TestD8_FoldEqualsFoldAll(t *testing.T) {
	for name, tc := range map[string]struct {
		segments [][]frame
		full     bool // Fold must do a full scan
	}{
		"empty": {segments: [][]frame{{}}},
		"incarnations that continue and end": {segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{TargetNode: 3})}, {0, upsert(y, checkpoint.AddLearner{})}, {1, upsert(x, checkpoint.CatchUp{})}},
			{{2, checkpoint.Removed{MigrationID: y}}, {0, upsert(y, checkpoint.CatchUp{})}},
			{{3, upsert(x, checkpoint.PromoteLearner{TargetNode: 4})}},
		}},
		"an AddLearner hides no promotion": {segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{TargetNode: 3})}, {1, upsert(x, checkpoint.PromoteLearner{TargetNode: 4})}},
			{{2, upsert(x, checkpoint.AddLearner{TargetNode: 5})}},
		}},
		"unknown kinds": {segments: [][]frame{
			{{0, unknown(x)}, {1, upsert(x, checkpoint.AddLearner{})}, {2, unknown(x)}, {0, unknown(y)}},
			{{3, upsert(x, checkpoint.CatchUp{})}},
		}},
		"an abort under way, and one that has ended": {segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{TargetNode: 3})}, {1, begun(x)}, {2, checkpoint.Compensated{MigrationID: x, Step: 1}}, {0, upsert(y, checkpoint.AddLearner{})}},
			{{4, begun(y)}, {5, checkpoint.Compensated{MigrationID: y}}, {3, checkpoint.Compensated{MigrationID: x, Step: 1}}},
			{{6, checkpoint.Aborted{MigrationID: y}}, {7, checkpoint.EpochRaised{MigrationID: x, Epoch: 3}}, {0, upsert(y, checkpoint.CatchUp{})}},
		}},
		"an abort without a row": {segments: [][]frame{
			{{0, begun(x)}, {1, checkpoint.Compensated{MigrationID: x}}, {0, checkpoint.EpochRaised{MigrationID: y, Epoch: 1}}},
			{{2, upsert(x, checkpoint.AddLearner{})}},
		}},
		"the highest epoch is of an incarnation that has ended": {segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}, {0, epoch(upsert(y, checkpoint.AddLearner{}), 7)}, {2, epoch(upsert(y, checkpoint.CatchUp{}), 9)}},
			{{3, epoch(checkpoint.Removed{MigrationID: y}, 8)}, {1, epoch(upsert(x, checkpoint.CatchUp{}), 2)}},
		}},
		"the highest epoch is of an unknown kind": {segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}, {1, unknownIn(x, 6)}, {2, checkpoint.Removed{MigrationID: x}}},
		}},
		"a body whose keys are not in order": {full: true, segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}, {0, append(unknownIn(y, 6), 4, 4)}},
		}},
		"a log that was restored": {segments: [][]frame{
			{{0, at(restored(x), 40)}, {0, at(restored(y), 41)}, {0, at(epoch(checkpoint.Digest{}, 9), 44)}},
			{{1, at(checkpoint.Compensated{MigrationID: x}, 45)}, {2, at(checkpoint.Aborted{MigrationID: y}, 46)}, {0, at(upsert(y, checkpoint.CatchUp{}), 47)}, {4, at(checkpoint.EpochRaised{MigrationID: x, Epoch: 11}, 48)}},
			{{3, at(checkpoint.Digest{TimestampMS: 5}, 48)}, {6, at(unknownIn(y, 12), 49)}, {7, at(upsert(x, checkpoint.CatchUp{VShardID: 9}), 51)}, {8, at(checkpoint.Digest{}, 51)}},
		}},
		"a restored event after others": {segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{TargetNode: 9})}, {1, restored(x)}, {0, unknown(y)}, {3, restored(y)}},
			{{2, upsert(x, checkpoint.CatchUp{})}, {4, checkpoint.Removed{MigrationID: y}}},
		}},
		"the index of a position in an unusual encoding": {full: true, segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}, {1, append([]byte{0xa4, 0x0c, 0x18, 0x0f, 1, 20}, unknown(x)[3:]...)}},
		}},
		"an abort by a writer that could not read the row": {full: true, segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}, {1, upsert(x, checkpoint.CatchUp{})}},
			{{1, checkpoint.Aborted{MigrationID: x}}},
		}},
		"a segment of a diverged copy": {full: true, segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}},
			{{0, upsert(y, checkpoint.AddLearner{})}},
			{{2, upsert(x, checkpoint.CatchUp{})}},
		}},
		"a link to an event before the last": {full: true, segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}, {1, upsert(x, checkpoint.CatchUp{})}, {1, upsert(x, checkpoint.PromoteLearner{})}},
		}},
		"a body that is not an event": {full: true, segments: [][]frame{
			{{0, upsert(x, checkpoint.AddLearner{})}, {0, []byte{0xA1, 1, 1}}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			write(t, fsys, 1, tc.segments...)
			log, scans := source(fsys)
			fold, err := log.Fold()
			require.NoError(t, err)
			require.Equal(t, tc.full, *scans > 0)
			all, err := log.FoldAll()
			require.NoError(t, err)
			requireEqual(t, all, fold)
		})
	}
}

func requireEqual(t testing.TB, want, got *replay.Fold) {
	require.Equal(t, want.View.All(), got.View.All())
	require.Equal(t, want.View.LastSeq(), got.View.LastSeq())
	require.Equal(t, want.View.Epoch(), got.View.Epoch())
	require.Equal(t, want.Last(), got.Last())
	for _, id := range []checkpoint.MigrationID{x, y, {99}, checkpoint.StoreID} {
		require.Equal(t, want.View.Slot(id).LastIndex(), got.View.Slot(id).LastIndex())
		wantRow, err := want.View.AppendRestored(nil, id)
		require.NoError(t, err)
		gotRow, err := got.View.AppendRestored(nil, id)
		require.NoError(t, err)
		require.Equal(t, wantRow, gotRow)
		require.Equal(t, want.View.Doubt(id), got.View.Doubt(id))
		require.Equal(t, want.View.Slot(id).LastSeq(), got.View.Slot(id).LastSeq())
		require.Equal(t, want.View.Slot(id).Facts(), got.View.Slot(id).Facts())
	}
}

// D8: Fold from a snapshot returns the same view as FoldAll. If a snapshot does not match the log,
// Fold uses the next older one. Without any, it reads all frames.
func TestD8_FoldFromASnapshot(t *testing.T) {
	fsys := fstest.MapFS{}
	first := write(t, fsys, 1, []frame{{0, epoch(upsert(x, checkpoint.AddLearner{TargetNode: 3}), 9)}, {0, upsert(y, checkpoint.AddLearner{})}})
	old, _ := source(fsys)
	before, err := old.FoldAll()
	require.NoError(t, err)
	older := snapshotOf(t, before.View, first)
	second := write(t, fsys, 3, []frame{{1, begun(x)}, {2, checkpoint.Removed{MigrationID: y}}})
	mid, err := old.FoldAll()
	require.NoError(t, err)
	newer := snapshotOf(t, mid.View, second)
	write(t, fsys, 5, []frame{{3, upsert(x, checkpoint.PromoteLearner{TargetNode: 4})}, {0, upsert(y, checkpoint.CatchUp{})}, {5, checkpoint.Compensated{MigrationID: x, Step: 1}}})

	another := newer
	another.Last.HeaderCRC32C++
	damaged := newer
	damaged.Body = damaged.Body[:len(damaged.Body)-1]
	version1, version2 := newer, newer
	version1.Version, version2.Version = 1, 2
	for name, tc := range map[string]struct {
		snapshots []segment.Snapshot
		from      uint64 // seq of the snapshot that Fold must use, 0 for none
	}{
		"the newest":              {[]segment.Snapshot{newer, older}, 4},
		"newest of another frame": {[]segment.Snapshot{another, older}, 2},
		"newest body truncated":   {[]segment.Snapshot{damaged, older}, 2},
		"earlier versions":        {[]segment.Snapshot{version2, version1}, 0},
		"newest of version 2":     {[]segment.Snapshot{version2, older}, 2},
		"none":                    {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			log, scans := source(fsys, tc.snapshots...)
			fold, err := log.Fold()
			require.NoError(t, err)
			require.Zero(t, *scans)
			require.Equal(t, tc.from, fold.Report().SnapshotSeq)
			all, err := log.FoldAll()
			require.NoError(t, err)
			requireEqual(t, all, fold)
		})
	}
}

// Fold from a snapshot returns the same view as FoldAll, if the log begins with restored rows and
// the later events have positions.
func TestFold_FromASnapshotOfARestoredLog(t *testing.T) {
	fsys := fstest.MapFS{}
	last := write(t, fsys, 1, []frame{{0, at(restored(x), 40)}, {0, at(restored(y), 41)}, {0, at(checkpoint.Digest{}, 44)}, {2, at(checkpoint.EpochRaised{MigrationID: y, Epoch: 3}, 46)}})
	log, _ := source(fsys)
	before, err := log.FoldAll()
	require.NoError(t, err)
	snapshot := snapshotOf(t, before.View, last)
	write(t, fsys, 5, []frame{{1, at(checkpoint.Compensated{MigrationID: x}, 47)}, {3, at(checkpoint.Digest{}, 47)}})
	log, scans := source(fsys, snapshot)
	fold, err := log.Fold()
	require.NoError(t, err)
	require.Zero(t, *scans)
	require.EqualValues(t, last.Seq, fold.Report().SnapshotSeq)
	all, err := log.FoldAll()
	require.NoError(t, err)
	require.Empty(t, all.Report().Damage)
	requireEqual(t, all, fold)
	require.EqualValues(t, 47, fold.View.Slot(x).LastIndex())
	require.EqualValues(t, 46, fold.View.Slot(y).LastIndex())
}

// D8: the epoch of a snapshot without rows counts.
func TestD8_EpochOfASnapshotWithoutRows(t *testing.T) {
	fsys := fstest.MapFS{}
	last := write(t, fsys, 1, []frame{{0, epoch(upsert(x, checkpoint.AddLearner{}), 9)}, {1, checkpoint.Removed{MigrationID: x}}})
	log, _ := source(fsys)
	before, err := log.FoldAll()
	require.NoError(t, err)
	write(t, fsys, 3, []frame{{0, upsert(x, checkpoint.AddLearner{})}})
	log, _ = source(fsys, snapshotOf(t, before.View, last))
	fold, err := log.Fold()
	require.NoError(t, err)
	require.EqualValues(t, 2, fold.Report().SnapshotSeq)
	require.EqualValues(t, 9, fold.View.Epoch())
}

// D1: a snapshot of version 1 may lack rows that its frames have, and one of version 2 lacks facts.
// Fold never starts from them, and FoldAll uses them only if events before them were lost.
func TestD1_NoOpeningBeginsWithAnEarlierVersion(t *testing.T) {
	empty, err := projection.New().Snapshot()
	require.NoError(t, err)
	for version, body := range map[byte][]byte{1: nil, 2: empty} {
		fsys := fstest.MapFS{}
		last := write(t, fsys, 1, []frame{{0, upsert(x, checkpoint.AddLearner{})}})
		log, _ := source(fsys, segment.Snapshot{Version: version, Last: last, Body: body}) // without rows
		fold, err := log.Fold()
		require.NoError(t, err)
		require.Equal(t, 1, fold.View.Len())
		require.Zero(t, fold.Report().SnapshotSeq)
		require.Empty(t, fold.Report().Damage)
		all, err := log.FoldAll()
		require.NoError(t, err)
		requireEqual(t, all, fold)
		require.Empty(t, all.Report().Damage)
	}
}

// D8: if the events after a snapshot are not linked to its rows, Fold does a full scan.
func TestD8_SnapshotThatTheEventsDoNotFollow(t *testing.T) {
	fsys := fstest.MapFS{}
	last := write(t, fsys, 1, []frame{{0, upsert(x, checkpoint.AddLearner{})}, {1, upsert(x, checkpoint.CatchUp{})}})
	log, _ := source(fsys)
	fold, err := log.FoldAll()
	require.NoError(t, err)
	snapshot := snapshotOf(t, fold.View, last)
	write(t, fsys, 3, []frame{{1, checkpoint.Aborted{MigrationID: x}}}) // by a writer that could not read seq 2
	log, scans := source(fsys, snapshot)
	fold, err = log.Fold()
	require.NoError(t, err)
	require.Equal(t, 1, *scans)
	require.Zero(t, fold.View.Len())
}

// D5: if the rows of a snapshot differ from the frames before it, FoldAll reports the snapshot as
// damaged, but returns its rows. Fold, which starts from the snapshot, returns the same rows.
func TestD5_SnapshotOfOtherFrames(t *testing.T) {
	fsys := fstest.MapFS{}
	last := write(t, fsys, 1, []frame{{0, upsert(x, checkpoint.AddLearner{})}}, []frame{{0, upsert(y, checkpoint.AddLearner{})}}, []frame{{1, upsert(x, checkpoint.CatchUp{})}})
	log, _ := source(fsys)
	fold, err := log.FoldAll()
	require.NoError(t, err)
	snapshot := snapshotOf(t, fold.View, last)
	write(t, fsys, 2, []frame{{0, upsert(checkpoint.MigrationID{3}, checkpoint.AddLearner{})}})

	log, _ = source(fsys, snapshot)
	all, err := log.FoldAll()
	require.NoError(t, err)
	report := all.Report()
	require.Len(t, report.Damage, 1)
	require.Equal(t, segment.SnapshotDir+"/"+segment.Name(last.Seq), report.Damage[0].Segment)
	require.Equal(t, segment.EndangersEvents, report.Damage[0].Severity, "a segment may be from another copy of the log")
	require.Contains(t, report.Damage[0].Reason, "another copy")
	require.Empty(t, report.Lost)
	fold, err = log.Fold()
	require.NoError(t, err)
	requireEqual(t, all, fold)
	_, found := fold.View.Get(y)
	require.True(t, found)
}

// countingFS counts the segments that were opened.
type countingFS struct {
	fstest.MapFS
	opened atomic.Int64
}

func (c *countingFS) Open(name string) (fs.File, error) {
	if _, ok := segment.ParseName(path.Base(name)); ok {
		c.opened.Add(1)
	}
	return c.MapFS.Open(name)
}

// An opening of a damaged log does not read it once for each snapshot.
func TestFold_TriesFewSnapshots(t *testing.T) {
	const segments = 30
	files := fstest.MapFS{}
	var snapshots []segment.Snapshot
	view := projection.New()
	for seq := uint64(1); seq <= segments; seq++ {
		event := upsert(checkpoint.MigrationID{byte(seq)}, checkpoint.AddLearner{})
		view.Apply(seq, 0, event)
		snapshots = append(snapshots, snapshotOf(t, view, write(t, files, seq, []frame{{0, event}})))
	}
	slices.Reverse(snapshots)
	snapshots = snapshots[2:]
	last := files["wal/"+segment.Name(segments-1)]
	last.Data[len(last.Data)-1] ^= 1

	source, scans := source(files, snapshots...)
	counting := &countingFS{MapFS: files}
	source.FS = counting
	_, err := source.Fold()
	require.NoError(t, err)
	require.Equal(t, 1, *scans)
	require.Less(t, counting.opened.Load(), int64(2*segments))
}
