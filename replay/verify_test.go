package replay_test

import (
	"context"
	"maps"
	"path"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/intact"
	"migrationlog/replay"
)

// intactLog is a log without damage: incarnations that end and continue over segments, each kind of
// event, an event of an unknown kind, and two snapshots, one of them in the middle of a segment.
func intactLog(t testing.TB) fstest.MapFS {
	abort := checkpoint.AbortBegun{MigrationID: idB, Reason: "x", Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 1, PeerID: 2}}, TimestampMS: 6}
	fsys := logOf(t,
		[]any{upserted(t, idA, checkpoint.AddLearner{SourceNode: 1, TargetNode: 2}, 1), upserted(t, idB, checkpoint.AddLearner{SourceNode: 3}, 2),
			upserted(t, idA, checkpoint.CatchUp{}, 3), checkpoint.Removed{MigrationID: idA, TimestampMS: 4}},
		[]any{upserted(t, idA, checkpoint.AddLearner{SourceNode: 4, TargetNode: 5}, 5), checkpoint.Aborted(abort), &checkpoint.UnknownKindError{Kind: 20, MigrationID: idA, TimestampMS: 7},
			upserted(t, idC, checkpoint.AddLearner{VShardID: 9}, 8)},
		[]any{upserted(t, idC, checkpoint.CatchUp{VShardID: 9}, 9), upserted(t, idA, checkpoint.CatchUp{}, 10)},
	)
	snapshotAt(t, fsys, 6)
	snapshotAt(t, fsys, 9)
	return fsys
}

// snapshotAt adds the snapshot after the event to the log. It returns the snapshot's path.
func snapshotAt(t testing.TB, fsys fstest.MapFS, seq uint64) string {
	fold, err := openFS(t, fsys).FoldAllTo(t.Context(), replay.Point{Seq: seq})
	require.NoError(t, err)
	body, err := fold.View.Snapshot()
	require.NoError(t, err)
	s := segment.Snapshot{Version: segment.SnapshotVersion, Last: fold.Last(), Synced: true, Body: body}
	name := path.Join(segment.SnapshotDir, s.Name())
	fsys[name] = &fstest.MapFile{Data: s.Encode(testLog)}
	return name
}

// requireSameFold checks that FoldAll has the same report and rows as FoldTo, which folds every
// record. It returns the report.
func requireSameFold(t testing.TB, fsys fstest.MapFS, what string, args ...any) replay.Report {
	reader, err := replay.OpenFS(fsys)
	if err != nil {
		return replay.Report{}
	}
	want, wantErr := reader.FoldAllTo(context.Background(), replay.Point{})
	got, err := reader.FoldAll(context.Background(), nil)
	require.Equal(t, wantErr, err, append([]any{what}, args...)...)
	if err != nil {
		return replay.Report{}
	}
	require.Equal(t, want.Report(), got.Report(), append([]any{what}, args...)...)
	require.Equal(t, want.View.All(), got.View.All(), append([]any{what}, args...)...)
	require.Equal(t, want.Coverage(), got.Coverage(), append([]any{what}, args...)...)
	v, err := reader.VerifyAll(context.Background(), nil)
	require.NoError(t, err)
	require.Equal(t, want.Report(), v.Report, append([]any{what}, args...)...)
	require.Len(t, v.InDoubt, len(v.Report.InDoubt))
	return got.Report()
}

// D5: FoldAll reads an intact log without a full decode, and has the report of a fold of every
// record. This also holds for a torn tail, unused space, and findings outside the segments.
func TestD5_FoldAllOfAnIntactLog(t *testing.T) {
	last := path.Join(segment.WALDir, segment.Name(9))
	for name, change := range map[string]func(fsys fstest.MapFS){
		"nothing":      func(fstest.MapFS) {},
		"unused space": func(fsys fstest.MapFS) { fsys[last].Data = append(fsys[last].Data, make([]byte, 5000)...) },
		"torn tail": func(fsys fstest.MapFS) {
			data := fsys[last].Data
			fsys[last].Data = append(data, data[:len(data)/3]...)
			fsys[last].Data[len(data)+9] = 11 // the seq of the next frame
			fsys[last].Data = fsys[last].Data[:len(data)+20]
		},
		"empty last segment": func(fsys fstest.MapFS) { fsys[path.Join(segment.WALDir, segment.Name(11))] = &fstest.MapFile{} },
		"foreign files": func(fsys fstest.MapFS) {
			fsys["wal/x"] = &fstest.MapFile{}
			fsys[path.Join(segment.WALDir, segment.Name(11)+".END")] = &fstest.MapFile{}
		},
		"damaged snapshot":      func(fsys fstest.MapFS) { fsys["snapshots/"+segment.Name(9)].Data[50] ^= 1 },
		"manifest copy missing": func(fsys fstest.MapFS) { delete(fsys, segment.ManifestCopyName) },
	} {
		fsys := intactLog(t)
		change(fsys)
		_, err := openFS(t, fsys).FoldIntact(t.Context())
		require.NoError(t, err, name)
		report := requireSameFold(t, fsys, name)
		require.EqualValues(t, 10, report.FramesOK, name)
		require.EqualValues(t, 1, report.UnknownKinds, name)
		if name == "torn tail" {
			require.EqualValues(t, 10, report.TornTail.AfterMS)
		}
	}
}

// D5: FoldAll finds all that a fold of every record finds, if any bit of any byte of the files is
// flipped, if any segment is cut, and if a file is missing.
func TestD5_FoldAllOfADamagedLog(t *testing.T) {
	original := intactLog(t)
	for _, name := range slices.Sorted(maps.Keys(original)) {
		data := original[name].Data
		changed := func(data []byte) fstest.MapFS {
			fsys := maps.Clone(original)
			fsys[name] = &fstest.MapFile{Data: data}
			return fsys
		}
		for i := range data {
			flipped := slices.Clone(data)
			flipped[i] ^= 1 << (i % 8)
			requireSameFold(t, changed(flipped), "%s, byte %d", name, i)
		}
		for cut := 0; cut < len(data); cut += 7 {
			requireSameFold(t, changed(data[:cut]), "%s cut at %d", name, cut)
		}
		without := maps.Clone(original)
		delete(without, name)
		requireSameFold(t, without, "without %s", name)
	}
}

// D5: snapshots and links that contradict the events, and bodies that are not events, are found
// although all checksums match.
func TestD5_FoldAllOfContradictions(t *testing.T) {
	other := func(fsys fstest.MapFS, name string, seq uint64) { // frames of another copy of the log
		body, err := checkpoint.EncodeEvent(upserted(t, idD, checkpoint.AddLearner{}, 77))
		require.NoError(t, err)
		frame := segment.AppendFrame(nil, &testLog, segment.Header{Seq: seq, DurableThrough: seq - 1}, segment.NewBody(body))
		fsys[name] = &fstest.MapFile{Data: append([]byte{byte(len(frame))}, frame...)}
	}
	notAnEvent, err := checkpoint.EncodeEvent(checkpoint.Removed{MigrationID: idB})
	require.NoError(t, err)
	notAnEvent = append(notAnEvent, 0) // the removal ends the migration, so no row needs its decoding
	for name, tc := range map[string]struct {
		log   func() fstest.MapFS
		check func(r replay.Report)
	}{
		"a segment of another copy": {func() fstest.MapFS {
			fsys := logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1)}, []any{upserted(t, idB, checkpoint.AddLearner{}, 2)}, []any{upserted(t, idA, checkpoint.CatchUp{}, 3)})
			snapshotAt(t, fsys, 3)
			other(fsys, path.Join(segment.WALDir, segment.Name(2)), 2)
			return fsys
		}, func(r replay.Report) {
			require.Len(t, r.Damage, 1)
			require.Equal(t, path.Join(segment.SnapshotDir, segment.Name(3)), r.Damage[0].Segment)
			require.EqualValues(t, 3, r.SnapshotSeq)
		}},
		"a body that is not an event": {func() fstest.MapFS {
			return logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1), notAnEvent}, []any{upserted(t, idA, checkpoint.CatchUp{}, 3)})
		}, func(r replay.Report) { require.Equal(t, []replay.SeqRange{{First: 2, Last: 2}}, r.Lost) }},
		"a body that is not an event, in the last segment": {func() fstest.MapFS {
			return logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1), notAnEvent})
		}, func(r replay.Report) { require.Equal(t, []replay.SeqRange{{First: 2, Last: 2}}, r.Lost) }},
		"a segment that repeats the frames of the one before it": {func() fstest.MapFS {
			fsys := logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1), upserted(t, idA, checkpoint.CatchUp{}, 2), upserted(t, idA, checkpoint.PromoteLearner{}, 3)})
			other(fsys, path.Join(segment.WALDir, segment.Name(2)), 2)
			return fsys
		}, func(r replay.Report) { require.True(t, r.Damaged()) }},
		"a segment of ended migrations is missing": {func() fstest.MapFS {
			fsys := logOf(t,
				[]any{upserted(t, idA, checkpoint.AddLearner{}, 1), checkpoint.Removed{MigrationID: idA}},
				[]any{upserted(t, idB, checkpoint.AddLearner{}, 2), checkpoint.Removed{MigrationID: idB}},
				[]any{upserted(t, idC, checkpoint.AddLearner{}, 3)}, []any{upserted(t, idC, checkpoint.CatchUp{}, 4)})
			delete(fsys, path.Join(segment.WALDir, segment.Name(3)))
			return fsys
		}, func(r replay.Report) { require.Equal(t, []replay.SeqRange{{First: 3, Last: 4}}, r.Lost) }},
		"a link to an event of another migration": {func() fstest.MapFS {
			fsys := logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1), upserted(t, idB, checkpoint.AddLearner{}, 2)})
			body, err := checkpoint.EncodeEvent(upserted(t, idA, checkpoint.CatchUp{}, 3))
			require.NoError(t, err)
			frame := segment.AppendFrame(nil, &testLog, segment.Header{Seq: 3, PrevSeq: 2, DurableThrough: 2}, segment.NewBody(body))
			fsys[path.Join(segment.WALDir, segment.Name(3))] = &fstest.MapFile{Data: append([]byte{byte(len(frame))}, frame...)}
			return fsys
		}, func(r replay.Report) { require.Equal(t, []checkpoint.MigrationID{idA}, r.Superseded) }},
	} {
		fsys := tc.log()
		_, err := openFS(t, fsys).FoldIntact(t.Context())
		require.ErrorIs(t, err, intact.ErrNotIntact, name)
		tc.check(requireSameFold(t, fsys, name))
	}
}

// A canceled context ends FoldAll, and progress is reported for each way of reading.
func TestFoldAll_ProgressAndCancel(t *testing.T) {
	var calls []uint64
	fold, err := openFS(t, intactLog(t)).FoldAll(t.Context(), func(n uint64) { calls = append(calls, n) })
	require.NoError(t, err)
	require.Equal(t, []uint64{4, 8}, calls)
	require.EqualValues(t, 10, fold.Report().LastSeq)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = openFS(t, intactLog(t)).FoldAll(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
}
