package replay_test

import (
	"encoding/binary"
	"path"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// indexed is an event with its raft index, in term 3.
type indexed struct {
	index uint64
	event checkpoint.Event
}

// replicatedLog returns a log with these segments. The history is that of the manifest, or nil.
func replicatedLog(t testing.TB, history *segment.History, segments ...[]indexed) fstest.MapFS {
	manifest := segment.Manifest{UUID: testLog, Created: time.Unix(1795399697, 0).UTC(), History: history}.Encode()
	fsys := fstest.MapFS{segment.ManifestName: {Data: manifest}, segment.ManifestCopyName: {Data: manifest}}
	seq, last := uint64(1), map[checkpoint.MigrationID]uint64{}
	for _, events := range segments {
		name := path.Join(segment.WALDir, segment.Name(seq))
		var data []byte
		for _, e := range events {
			body, err := checkpoint.EncodeEvent(e.event)
			require.NoError(t, err)
			body = checkpoint.AppendPosition(body, e.index, 3)
			id := e.event.Migration()
			frame := segment.AppendFrame(nil, &testLog, segment.Header{Seq: seq, PrevSeq: last[id]}, segment.NewBody(body))
			data = append(binary.AppendUvarint(data, uint64(len(frame))), frame...)
			last[id] = seq
			seq++
		}
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func restored(t testing.TB, id checkpoint.MigrationID, wallMS uint64) checkpoint.Event {
	c, err := checkpoint.New(id, 0, checkpoint.AddLearner{VShardID: 1}, wallMS)
	require.NoError(t, err)
	return checkpoint.Restored{Checkpoint: c, Facts: checkpoint.RestoredFacts{HasTarget: true, HasSource: true, FurthestPhase: checkpoint.PhaseAddLearner, RecordedPhases: 1}}
}

// restoredLog begins at index 50 with the rows of A and B. One of their clocks is later than that of
// the beginning.
func restoredLog(t testing.TB, history *segment.History) fstest.MapFS {
	return replicatedLog(t, history,
		[]indexed{{40, restored(t, idA, 900)}},
		[]indexed{{50, restored(t, idB, 2100)}, {50, checkpoint.Digest{TimestampMS: 2000}}},
		[]indexed{{53, upserted(t, idC, checkpoint.AddLearner{VShardID: 3}, 2200)}, {60, upserted(t, idA, checkpoint.CatchUp{VShardID: 1}, 2300)}},
	)
}

var history50 = &segment.History{Index: 50, Term: 3, Origin: segment.OriginRestored}

// A point before the beginning of the history, or within the restored rows, is an error and never a
// half restored state.
func TestPoint_NotKept(t *testing.T) {
	for name, history := range map[string]*segment.History{"history": history50, "manifest lost": nil} {
		reader := openFS(t, restoredLog(t, history))
		begin, err := reader.Beginning()
		require.NoError(t, err)
		require.Equal(t, []uint64{50, 3, 2, 2000}, []uint64{begin.Index, begin.Term, begin.Rows, begin.TimeMS}, name)
		for _, p := range []replay.Point{
			{Seq: 1}, {Index: 1}, {Index: 40}, {Index: 49}, {TimeMS: 1}, {TimeMS: 899}, {TimeMS: 950}, {TimeMS: 1999}, {TimeMS: 2050},
			{Seq: 5, TimeMS: 950}, {Index: 60, Seq: 1},
		} {
			for _, call := range []func(replay.Point) error{
				func(p replay.Point) error { _, err := reader.StateAt(t.Context(), p); return err },
				func(p replay.Point) error { _, err := reader.FoldTo(t.Context(), p); return err },
				func(p replay.Point) error { _, err := reader.FoldAllTo(t.Context(), p); return err },
				func(p replay.Point) error { _, err := reader.Resolve(t.Context(), p); return err },
			} {
				err := call(p)
				require.ErrorIs(t, err, replay.ErrNotKept, "%s %+v", name, p)
				var notKept *replay.NotKeptError
				require.ErrorAs(t, err, &notKept)
				require.Equal(t, begin, notKept.Beginning)
				require.ErrorContains(t, err, "not kept here: the history in this directory begins at raft index 50 (term 3, 1970-01-01T00:00:02.000Z)")
			}
		}
		for _, tc := range []struct {
			at      replay.Point
			lastSeq uint64
			rows    int
		}{
			{replay.Point{}, 5, 3},
			{replay.Point{Seq: 2}, 2, 2},
			{replay.Point{Seq: 3}, 3, 2},
			{replay.Point{TimeMS: 2100}, 3, 2},
			{replay.Point{TimeMS: 2200}, 4, 3},
			{replay.Point{Index: 50}, 3, 2},
			{replay.Point{Index: 52}, 3, 2},
			{replay.Point{Index: 53}, 4, 3},
			{replay.Point{Index: 59}, 4, 3},
			{replay.Point{Index: 60}, 5, 3},
			{replay.Point{Index: 99}, 5, 3},
			{replay.Point{Index: 60, TimeMS: 2200}, 4, 3},
		} {
			fold, err := reader.FoldTo(t.Context(), tc.at)
			require.NoError(t, err, "%+v", tc.at)
			require.Equal(t, tc.lastSeq, fold.View.LastSeq(), "%+v", tc.at)
			require.Equal(t, tc.rows, fold.View.Len(), "%+v", tc.at)
			all, err := reader.FoldAllTo(t.Context(), tc.at)
			require.NoError(t, err)
			require.Equal(t, all.View.All(), fold.View.All(), "%+v", tc.at)
		}
	}
}

// In a log that has all of its history, an index before the first event is the empty state. A log
// without indexes has no such point.
func TestPoint_Index(t *testing.T) {
	reader := openFS(t, replicatedLog(t, nil, []indexed{
		{5, upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100)},
		{6, upserted(t, idA, checkpoint.CatchUp{VShardID: 1}, 200)},
		{9, upserted(t, idB, checkpoint.AddLearner{VShardID: 2}, 300)},
	}))
	for index, lastSeq := range map[uint64]uint64{1: 0, 4: 0, 5: 1, 6: 2, 8: 2, 9: 3, 10: 3} {
		view, err := reader.StateAt(t.Context(), replay.Point{Index: index})
		require.NoError(t, err)
		require.Equal(t, lastSeq, view.LastSeq(), index)
	}
	plain := openFS(t, logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100)}))
	_, err := plain.StateAt(t.Context(), replay.Point{Index: 1})
	require.ErrorIs(t, err, replay.ErrNoPositions)
	begin, err := plain.Beginning()
	require.NoError(t, err)
	require.True(t, begin.IsWhole())
}

// The rows of an import have no index. A damaged digest leaves only the index of the manifest.
func TestBeginning_Unusual(t *testing.T) {
	reader := openFS(t, logOf(t, []any{restored(t, idA, 100), restored(t, idB, 200)}, []any{upserted(t, idC, checkpoint.AddLearner{VShardID: 1}, 300)}))
	begin, err := reader.Beginning()
	require.NoError(t, err)
	require.Equal(t, replay.Beginning{Rows: 2}, begin)
	_, err = reader.StateAt(t.Context(), replay.Point{Seq: 1})
	require.EqualError(t, err, "not kept here: the history in this directory begins with 2 restored rows")

	fsys := restoredLog(t, history50)
	name := path.Join(segment.WALDir, segment.Name(2))
	fsys[name].Data[len(fsys[name].Data)-1] ^= 1 // in the digest
	begin, err = openFS(t, fsys).Beginning()
	require.NoError(t, err)
	require.Equal(t, replay.Beginning{Index: 50, Term: 3, Origin: segment.OriginRestored, Rows: 2}, begin)
	_, err = openFS(t, fsys).StateAt(t.Context(), replay.Point{Index: 49})
	require.ErrorContains(t, err, "begins at raft index 50 (term 3)")
}

// The id of the digests is no migration: it is in no list of ids, and no query selects it.
func TestDigest_NoMigration(t *testing.T) {
	fsys := restoredLog(t, history50)
	for _, summaries := range []bool{false, true} {
		if summaries {
			addSummaries(t, fsys)
		}
		reader := openFS(t, fsys)
		ids, err := reader.FindIDs(t.Context(), func(checkpoint.MigrationID) bool { return true }, nil)
		require.NoError(t, err)
		require.Equal(t, []checkpoint.MigrationID{idA, idB, idC}, ids)
		for _, r := range recordsOf(t, reader, replay.Query{}) {
			id, ok := r.Migration()
			require.Equal(t, r.Kind() != replay.KindDigest, ok)
			require.NotEqual(t, checkpoint.StoreID, id)
		}
		require.Empty(t, recordsOf(t, reader, replay.Query{Migrations: []checkpoint.MigrationID{checkpoint.StoreID}}))
		require.Len(t, recordsOf(t, reader, replay.Query{Kinds: []replay.Kind{replay.KindDigest}}), 1)
		require.Len(t, recordsOf(t, reader, replay.Query{Kinds: []replay.Kind{replay.KindRestored}, Phases: []checkpoint.Phase{checkpoint.PhaseAddLearner}}), 2)
		require.Len(t, recordsOf(t, reader, replay.Query{VShards: []uint32{1}}), 3)
		view, err := reader.StateAt(t.Context(), replay.Point{})
		require.NoError(t, err)
		for row := range view.Rows() {
			require.NotEqual(t, checkpoint.StoreID, row.Checkpoint.MigrationID)
		}
	}
}
