package replay_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/projection"
	"migrationlog/replay"
)

// randomLog returns a log with random events of few migrations.
func randomLog(t testing.TB, rng *rand.Rand) fstest.MapFS {
	return logOfEvents(t, rng, func(wallMS uint64) any {
		return randomEvent(t, rng, checkpoint.MigrationID{byte(1 + rng.IntN(6))}, wallMS)
	})
}

// logOfEvents returns a log with the events that next returns, in many small segments, and with
// snapshots. The clock goes back sometimes.
func logOfEvents(t testing.TB, rng *rand.Rand, next func(wallMS uint64) any) fstest.MapFS {
	manifest := segment.Manifest{UUID: testLog, Created: time.Unix(1795399697, 0).UTC()}.Encode()
	fsys := fstest.MapFS{segment.ManifestName: {Data: manifest}, segment.ManifestCopyName: {Data: manifest}}
	view := projection.New()
	seq, wallMS := uint64(1), uint64(1000)
	for range 3 + rng.IntN(12) {
		var data []byte
		var last segment.FrameID
		first := seq
		for range 1 + rng.IntN(12) {
			wallMS += rng.Uint64N(20)
			if rng.IntN(10) == 0 {
				wallMS -= rng.Uint64N(100)
			}
			id, body := encode(t, next(wallMS))
			h := segment.Header{Seq: seq, PrevSeq: view.Slot(id).LastSeq(), DurableThrough: seq - 1}
			frame := segment.AppendFrame(nil, &testLog, h, segment.NewBody(body))
			data = append(binary.AppendUvarint(data, uint64(len(frame))), frame...)
			last = segment.FrameIDOf(frame, first)
			if event, err := checkpoint.DecodeEvent(body); err == nil {
				view.Apply(seq, h.PrevSeq, event)
			} else {
				view.ApplyUnknown(seq, h.PrevSeq, id)
			}
			seq++
		}
		fsys[path.Join(segment.WALDir, segment.Name(first))] = &fstest.MapFile{Data: data}
		if rng.IntN(3) == 0 {
			body, err := view.Snapshot()
			require.NoError(t, err)
			s := segment.Snapshot{Version: segment.SnapshotVersion, Last: last, Body: body}
			fsys[path.Join(segment.SnapshotDir, s.Name())] = &fstest.MapFile{Data: s.Encode(testLog)}
		}
	}
	return fsys
}

func randomEvent(t testing.TB, rng *rand.Rand, id checkpoint.MigrationID, wallMS uint64) any {
	vShard, node := uint32(id[0])/2, 1+rng.Uint64N(3)
	if rng.IntN(12) == 0 {
		vShard = uint32(rng.IntN(4))
	}
	var payload checkpoint.Payload
	switch rng.IntN(13) {
	case 11:
		return checkpoint.Digest{TimestampMS: wallMS}
	case 12:
		if wallMS < 1050 { // the history would begin with it
			return checkpoint.Digest{TimestampMS: wallMS}
		}
		restored := checkpoint.Restored{
			Checkpoint: upserted(t, id, checkpoint.CatchUp{VShardID: vShard}, wallMS).(checkpoint.Upserted).Checkpoint,
			Facts:      checkpoint.RestoredFacts{FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 0b10},
		}
		if rng.IntN(2) == 0 {
			f := &restored.Facts
			f.SourceNode, f.HasSource, f.TargetNode, f.SourceGroup, f.HasTarget = uint64(id[0]), true, node, 1, true
		}
		return restored
	case 0:
		return checkpoint.Aborted{MigrationID: id, Reason: fmt.Sprint("reason ", rng.IntN(3)), TimestampMS: wallMS}
	case 1:
		return checkpoint.Removed{MigrationID: id, TimestampMS: wallMS}
	case 2:
		return checkpoint.Compensated{MigrationID: id, TimestampMS: wallMS}
	case 3:
		return unknown(id, wallMS)
	case 4, 5:
		payload = checkpoint.AddLearner{VShardID: vShard, SourceNode: uint64(id[0]), TargetNode: node, SourceGroup: 1}
	case 6:
		payload = checkpoint.PromoteLearner{VShardID: vShard, TargetNode: node, SourceGroup: 1}
	case 7:
		payload = checkpoint.Cutover{VShardID: vShard, NewLeaderNodeID: node, SourceGroup: 1}
	case 8:
		payload = checkpoint.Complete{VShardID: vShard}
	default:
		payload = checkpoint.CatchUp{VShardID: vShard}
	}
	return upserted(t, id, payload, wallMS)
}

// addSummaries gives each sealed segment a summary, in the order of the segments.
func addSummaries(t testing.TB, fsys fstest.MapFS) {
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	for _, name := range names[:len(names)-1] {
		first, _ := segment.ParseName(name)
		data := fsys[path.Join(segment.WALDir, name)].Data
		built, ok := summary.Build(data, testLog, first, summary.NewIndex(fsys, testLog).Migration)
		require.True(t, ok)
		fsys[path.Join(segment.SummaryDir, name)] = &fstest.MapFile{Data: built.Encode(testLog)}
	}
}

// damage changes random files in wal/ and index/.
func damage(rng *rand.Rand, fsys fstest.MapFS) {
	names := slices.Sorted(maps.Keys(fsys))
	names = slices.DeleteFunc(names, func(name string) bool {
		return !strings.Contains(name, "/000") || name == names[len(names)-1]
	})
	for range 1 + rng.IntN(3) {
		name := names[rng.IntN(len(names))]
		if fsys[name] == nil {
			continue
		}
		data := slices.Clone(fsys[name].Data)
		switch at := rng.IntN(len(data)); rng.IntN(6) {
		case 0:
			delete(fsys, name)
			continue
		case 1:
			data = data[:at]
		case 2:
			clear(data[at:min(len(data), at+50)])
		default:
			data[at] ^= 1 << rng.IntN(8)
		}
		fsys[name] = &fstest.MapFile{Data: data}
	}
}

func randomQuery(rng *rand.Rand) (q replay.Query) {
	chance := func(oneIn int) bool { return rng.IntN(oneIn) == 0 }
	if chance(3) {
		q.FromSeq = rng.Uint64N(120)
	}
	if chance(4) {
		q.ToSeq = rng.Uint64N(120)
	}
	if chance(4) {
		q.SinceMS = 1000 + rng.Uint64N(1000)
	}
	if chance(4) {
		q.UntilMS = 1000 + rng.Uint64N(1500)
	}
	if chance(2) {
		q.Migrations = append(q.Migrations, checkpoint.MigrationID{byte(1 + rng.IntN(7))})
	}
	if chance(3) {
		q.Kinds = append(q.Kinds, replay.Kinds[rng.IntN(len(replay.Kinds))])
	}
	if chance(4) {
		q.Phases = append(q.Phases, checkpoint.Phase(1+rng.IntN(6)))
	}
	if chance(3) {
		q.VShards = append(q.VShards, uint32(rng.IntN(4)))
	}
	if chance(3) {
		q.Nodes = append(q.Nodes, 1+rng.Uint64N(6))
	}
	return q
}

// Every query has the same records with summaries and without them, also if files are damaged. The
// exception is a damaged log with a query by vShard or node.
func TestFind_AsRecords(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	unchecked := 0
	for number := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, number))
		fsys := randomLog(t, rng)
		addSummaries(t, fsys)
		if rng.IntN(2) == 0 {
			damage(rng, fsys)
		}
		reader := openFS(t, fsys)
		for range 8 {
			q := randomQuery(rng)
			want := undamaged(recordsOf(t, reader, q))
			var got []replay.Record
			var covered replay.Coverage
			for r, err := range openFS(t, fsys).Find(t.Context(), q, &covered) {
				require.NoError(t, err)
				got = append(got, r)
			}
			unchecked += covered.Unchecked
			if lost := len(recordsOf(t, reader, replay.Query{Kinds: []replay.Kind{replay.KindDamage}})) > 0; lost && len(q.VShards)+len(q.Nodes) > 0 {
				continue // see Reader.Find
			}
			require.Equal(t, want, undamaged(got), "case %d, %+v", number, q)
		}
		requireSameTotals(t, number, fsys)
	}
	require.NotZero(t, unchecked)
}

// The state at a point is the same as the fold of all events before it, also if files are damaged.
func TestFoldTo_AsFoldAllTo(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	unchecked := 0
	for number := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, number))
		fsys := randomLog(t, rng)
		addSummaries(t, fsys)
		if rng.IntN(3) == 0 {
			damage(rng, fsys)
		}
		for range 6 {
			p := replay.Point{Seq: rng.Uint64N(120)}
			if rng.IntN(2) == 0 {
				p.TimeMS = 1000 + rng.Uint64N(1000)
			}
			got, err := openFS(t, fsys).FoldTo(t.Context(), p)
			require.NoError(t, err)
			want, err := openFS(t, fsys).FoldAllTo(t.Context(), p)
			require.NoError(t, err)
			require.Equal(t, want.View.All(), got.View.All(), "case %d, %+v", number, p)
			require.Equal(t, want.View.LastSeq(), got.View.LastSeq(), "case %d, %+v", number, p)
			require.Equal(t, want.Report().TornTail == nil, got.Report().TornTail == nil, "case %d, %+v", number, p)
			for i := range byte(8) {
				id := checkpoint.MigrationID{i}
				require.Equal(t, want.View.Doubt(id), got.View.Doubt(id), "case %d, %+v", number, p)
			}
			unchecked += got.Coverage().Unchecked
		}
	}
	require.NotZero(t, unchecked)
}

func undamaged(records []replay.Record) (kept []replay.Record) {
	for _, r := range records {
		if r.Damage == nil {
			kept = append(kept, r)
		}
	}
	return kept
}

// requireSameTotals compares the ids with those of all records. If no file is damaged, it also
// compares the totals with those without summaries.
func requireSameTotals(t testing.TB, number uint64, fsys fstest.MapFS) {
	reader := openFS(t, fsys)
	total, err := reader.Totals(t.Context())
	require.NoError(t, err)
	ids, err := reader.FindIDs(t.Context(), func(checkpoint.MigrationID) bool { return true }, nil)
	require.NoError(t, err)
	report, err := reader.Verify(t.Context())
	require.NoError(t, err)
	if len(report.Damage) > 0 { // the summary of a damaged segment has the lost events too
		for _, r := range undamaged(recordsOf(t, reader, replay.Query{})) {
			if id, ok := r.Migration(); ok {
				require.Contains(t, ids, id, "case %d", number)
			}
		}
		return
	}
	plain := maps.Clone(fsys)
	maps.DeleteFunc(plain, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, segment.SummaryDir) })
	plainReader := openFS(t, plain)
	plainIDs, err := plainReader.FindIDs(t.Context(), func(checkpoint.MigrationID) bool { return true }, nil)
	require.NoError(t, err)
	require.Equal(t, plainIDs, ids, "case %d", number)
	require.EqualValues(t, report.FramesOK, total.Events, "case %d", number)
	plainTotal, err := plainReader.Totals(t.Context())
	require.NoError(t, err)
	require.Equal(t, plainTotal.Kinds, total.Kinds)
	require.Equal(t, plainTotal.Phases, total.Phases)
}

// The summary of a segment that was replaced is not used.
func TestFind_ReplacedSegment(t *testing.T) {
	segments := func(id checkpoint.MigrationID) fstest.MapFS {
		return logOf(t,
			[]any{upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100)},
			[]any{upserted(t, id, checkpoint.AddLearner{VShardID: 2}, 200)},
			[]any{upserted(t, idA, checkpoint.CatchUp{VShardID: 1}, 300)},
		)
	}
	fsys, other := segments(idB), segments(idC)
	addSummaries(t, fsys)
	name := path.Join(segment.WALDir, segment.Name(2))
	require.Len(t, fsys[name].Data, len(other[name].Data))
	fsys[name] = other[name]
	for id, want := range map[checkpoint.MigrationID]int{idA: 2, idB: 0, idC: 1} {
		var covered replay.Coverage
		found := 0
		for r, err := range openFS(t, fsys).History(t.Context(), id, &covered) {
			require.NoError(t, err)
			require.Nil(t, r.Damage)
			found++
		}
		require.Equal(t, want, found)
		if id != idA {
			require.Equal(t, replay.Coverage{Read: 2, Unchecked: 1}, covered, "the replaced one and the last one are read")
		}
	}
	ids, err := openFS(t, fsys).FindIDs(t.Context(), func(checkpoint.MigrationID) bool { return true }, nil)
	require.NoError(t, err)
	require.Equal(t, []checkpoint.MigrationID{idA, idC}, ids)
}

// A state is not rebuilt from a snapshot of another history, even if the later events fit both.
func TestFoldTo_SnapshotOfAnotherHistory(t *testing.T) {
	fsys := logOf(t,
		[]any{upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100)},
		[]any{upserted(t, idB, checkpoint.AddLearner{VShardID: 2}, 200)},
	)
	other := projection.New()
	other.Apply(1, 0, upserted(t, idC, checkpoint.AddLearner{VShardID: 1}, 100).(checkpoint.Upserted))
	body, err := other.Snapshot()
	require.NoError(t, err)
	s := segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: 1, Segment: 1, HeaderCRC32C: 7}, Body: body}
	fsys[path.Join(segment.SnapshotDir, s.Name())] = &fstest.MapFile{Data: s.Encode(testLog)}
	fold, err := openFS(t, fsys).FoldTo(t.Context(), replay.Point{})
	require.NoError(t, err)
	require.Zero(t, fold.SnapshotSeq())
	require.Nil(t, fold.View.Latest(idC))
	require.NotNil(t, fold.View.Latest(idA))
}

// growingFS is a log to which a writer appends: after a number of files and directories were opened,
// it is a longer log.
type growingFS struct {
	now, later fs.FS
	opens      int
}

func (f *growingFS) Open(name string) (fs.File, error) {
	if f.opens--; f.opens < 0 {
		return f.later.Open(name)
	}
	return f.now.Open(name)
}

// If a writer appends events and a snapshot meanwhile, the state at a time has none of the events
// after the first one with a later clock.
func TestFoldTo_WhileLogGrows(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for number := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, number))
		later := randomLog(t, rng)
		addSummaries(t, later)
		names, err := segment.Names(later)
		require.NoError(t, err)
		from := names[len(names)-1-rng.IntN(len(names)-1)]
		now, endMS := maps.Clone(later), uint64(0)
		maps.DeleteFunc(now, func(name string, _ *fstest.MapFile) bool {
			_, ok := segment.ParseName(path.Base(name))
			return ok && path.Base(name) >= from
		})
		for r, err := range openFS(t, now).Records(t.Context(), replay.Query{}) {
			require.NoError(t, err)
			endMS = max(endMS, r.WallMS())
		}
		p := replay.Point{TimeMS: endMS}
		want, err := openFS(t, later).FoldAllTo(t.Context(), p)
		require.NoError(t, err)
		for opens := range 60 {
			grows := &growingFS{now: now, later: later, opens: math.MaxInt}
			reader, err := replay.OpenFS(grows)
			require.NoError(t, err)
			grows.opens = opens
			got, err := reader.FoldTo(t.Context(), p)
			require.NoError(t, err)
			require.LessOrEqual(t, got.View.LastSeq(), want.View.LastSeq(), "case %d, after %d", number, opens)
		}
	}
}

// A torn write after a point is not in the report about the point.
func TestFoldTo_TornTail(t *testing.T) {
	for number := range uint64(40) {
		fsys := randomLog(t, rand.New(rand.NewPCG(1, number)))
		names, err := segment.Names(fsys)
		require.NoError(t, err)
		last := fsys[path.Join(segment.WALDir, names[len(names)-1])]
		body := last.Data[binary.MaxVarintLen16:]
		last.Data = append(slices.Clone(last.Data), last.Data[:min(len(body), segment.HeaderBytes)]...) // cut short
		all, err := openFS(t, fsys).FoldAllTo(t.Context(), replay.Point{})
		require.NoError(t, err)
		for _, p := range []replay.Point{{}, {Seq: all.View.LastSeq()}, {Seq: all.View.LastSeq() - 1}, {TimeMS: 1 << 40}, {TimeMS: 1050}} {
			got, err := openFS(t, fsys).FoldTo(t.Context(), p)
			require.NoError(t, err)
			want, err := openFS(t, fsys).FoldAllTo(t.Context(), p)
			require.NoError(t, err)
			require.Equal(t, want.View.LastSeq(), got.View.LastSeq(), "case %d, %+v", number, p)
			require.Equal(t, want.Report().TornTail, got.Report().TornTail, "case %d, %+v", number, p)
		}
	}
}
