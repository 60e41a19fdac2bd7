package replay_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// The state at a point contains exactly the records before it, in the order of their numbers. The
// first record that is later than a time ends the reading, even if the clock of a later record is
// earlier.
func TestStateAt(t *testing.T) {
	reader := openFS(t, logOf(t,
		[]any{
			upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100), // 1
			upserted(t, idB, checkpoint.AddLearner{VShardID: 2}, 200), // 2
			upserted(t, idA, checkpoint.CatchUp{VShardID: 1}, 150),    // 3, by a clock that went back
			destroyed{}, // 4
			upserted(t, idC, checkpoint.AddLearner{VShardID: 3}, 300), // 5
		},
		[]any{
			checkpoint.Aborted{MigrationID: idA, TimestampMS: 120}, // 6, by a clock that went back
			unknown(idB, 310), // 7
			upserted(t, idB, checkpoint.CatchUp{VShardID: 2}, 320), // 8
			destroyed{}, // 9
		},
	))
	type ids = []checkpoint.MigrationID
	type ranges = []replay.SeqRange
	for _, tc := range []struct {
		name     string
		at       replay.Point
		lastSeq  uint64 // of the view, lost events among them
		rows     ids
		lost     ranges
		framesOK uint64
	}{
		{"the end", replay.Point{}, 9, ids{idB, idC}, ranges{{First: 4, Last: 4}, {First: 9, Last: 9}}, 7},
		{"the first event", replay.Point{Seq: 1}, 1, ids{idA}, nil, 1},
		{"just before the damage", replay.Point{Seq: 3}, 3, ids{idA, idB}, nil, 3},
		{"a lost event", replay.Point{Seq: 4}, 4, ids{idA, idB}, ranges{{First: 4, Last: 4}}, 3},
		{"after the damage", replay.Point{Seq: 5}, 5, ids{idA, idB, idC}, ranges{{First: 4, Last: 4}}, 4},
		{"an abort", replay.Point{Seq: 6}, 6, ids{idB, idC}, ranges{{First: 4, Last: 4}}, 5},
		{"an event of an unknown kind", replay.Point{Seq: 7}, 7, ids{idB, idC}, ranges{{First: 4, Last: 4}}, 6},
		{"the last whole event", replay.Point{Seq: 8}, 8, ids{idB, idC}, ranges{{First: 4, Last: 4}}, 7},
		{"a number that the log has not reached", replay.Point{Seq: 99}, 9, ids{idB, idC}, ranges{{First: 4, Last: 4}, {First: 9, Last: 9}}, 7},

		{"before all", replay.Point{TimeMS: 99}, 0, nil, nil, 0},
		{"the very time of an event", replay.Point{TimeMS: 100}, 1, ids{idA}, nil, 1},
		{"a time that a clock shows again later", replay.Point{TimeMS: 150}, 1, ids{idA}, nil, 1},
		{"the time of an abort after a later record", replay.Point{TimeMS: 120}, 1, ids{idA}, nil, 1},
		{"a time after which a clock went back", replay.Point{TimeMS: 200}, 4, ids{idA, idB}, ranges{{First: 4, Last: 4}}, 3},
		{"just before an event", replay.Point{TimeMS: 299}, 4, ids{idA, idB}, ranges{{First: 4, Last: 4}}, 3},
		{"just before an event of an unknown kind", replay.Point{TimeMS: 309}, 6, ids{idB, idC}, ranges{{First: 4, Last: 4}}, 5},
		{"an event of an unknown kind, by time", replay.Point{TimeMS: 310}, 7, ids{idB, idC}, ranges{{First: 4, Last: 4}}, 6},
		{"after all", replay.Point{TimeMS: 321}, 9, ids{idB, idC}, ranges{{First: 4, Last: 4}, {First: 9, Last: 9}}, 7},

		{"the number comes first", replay.Point{Seq: 2, TimeMS: 310}, 2, ids{idA, idB}, nil, 2},
		{"the time comes first", replay.Point{Seq: 8, TimeMS: 299}, 4, ids{idA, idB}, ranges{{First: 4, Last: 4}}, 3},
	} {
		view, err := reader.StateAt(t.Context(), tc.at)
		require.NoError(t, err, tc.name)
		require.Equal(t, tc.lastSeq, view.LastSeq(), tc.name)
		var rows ids
		for row := range view.Rows() {
			rows = append(rows, row.Checkpoint.MigrationID)
		}
		require.Equal(t, tc.rows, rows, tc.name)

		fold, err := reader.FoldTo(t.Context(), tc.at)
		require.NoError(t, err, tc.name)
		report := fold.Report()
		require.Equal(t, tc.lost, report.Lost, tc.name)
		require.Equal(t, tc.framesOK, report.FramesOK, tc.name)
		if tc.framesOK > 0 {
			require.EqualValues(t, 1, report.FirstSeq, tc.name)
		}
	}
}

// Damage puts a migration in doubt at every point after the damage, but not at points before it.
func TestStateAt_Doubt(t *testing.T) {
	reader := openFS(t, logOf(t, []any{
		upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100),
		destroyed{},
		upserted(t, idB, checkpoint.AddLearner{VShardID: 2}, 200),
	}))
	for at, want := range map[replay.Point]projection.Doubt{
		{Seq: 1}:      projection.None,
		{Seq: 2}:      projection.InDoubt,
		{Seq: 3}:      projection.InDoubt,
		{TimeMS: 199}: projection.InDoubt, // damage has no time, so it may have been before this point
		{TimeMS: 99}:  projection.None,
	} {
		view, err := reader.StateAt(t.Context(), at)
		require.NoError(t, err)
		require.Equal(t, want, view.Doubt(idA), "%+v", at)
	}
}

// If the body of an intact frame is not an event, the frame is damage at every point after it.
func TestDecode_BodyThatIsNoEvent(t *testing.T) {
	nonsense := bytes.Repeat([]byte{0xa5}, 30)
	reader := openFS(t, logOf(t, []any{
		upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100),
		nonsense,
		upserted(t, idA, checkpoint.CatchUp{VShardID: 1}, 200),
	}))
	records := recordsOf(t, reader, replay.Query{})
	require.Len(t, records, 3)
	d := records[1].Damage
	require.NotNil(t, d)
	require.Equal(t, replay.KindDamage, records[1].Kind())
	require.EqualValues(t, 2, d.FirstSeq)
	require.EqualValues(t, 2, d.LastSeq)
	require.Contains(t, d.Reason, "not an event: ")
	require.Equal(t, records[0].Offset+records[0].Length+1, d.Offset, "of the header, after the prefix")
	require.EqualValues(t, 40+len(nonsense), d.Length)
	require.Zero(t, records[1].Seq)
	require.Zero(t, records[1].WallMS())
	_, known := records[1].Migration()
	require.False(t, known)

	for seq, lost := range map[uint64]int{1: 0, 2: 1, 3: 1} {
		fold, err := reader.FoldTo(t.Context(), replay.Point{Seq: seq})
		require.NoError(t, err)
		require.Len(t, fold.Report().Lost, lost, "seq %d", seq)
	}
}

// A record of each kind has its migration and its wall clock.
func TestRecord(t *testing.T) {
	records := recordsOf(t, openFS(t, logOf(t, []any{
		upserted(t, idA, checkpoint.AddLearner{VShardID: 1}, 100),
		checkpoint.Aborted{MigrationID: idA, TimestampMS: 200},
		checkpoint.Removed{MigrationID: idB, TimestampMS: 300},
		unknown(idC, 400),
	})), replay.Query{})
	require.Len(t, records, 4)
	for i, want := range []struct {
		kind   replay.Kind
		id     checkpoint.MigrationID
		wallMS uint64
		prev   uint64
	}{
		{replay.KindCheckpoint, idA, 100, 0},
		{replay.KindAbort, idA, 200, 1},
		{replay.KindRemove, idB, 300, 0},
		{replay.KindUnknown, idC, 400, 0},
	} {
		r := records[i]
		id, known := r.Migration()
		require.True(t, known)
		require.Equal(t, want.id, id)
		require.Equal(t, want.kind, r.Kind())
		require.Equal(t, want.wallMS, r.WallMS())
		require.Equal(t, want.prev, r.PrevSeq)
		require.EqualValues(t, i+1, r.Seq)
		require.EqualValues(t, i, r.DurableThrough)
		require.Equal(t, "00000000000000000001", r.Segment)
		require.Nil(t, r.Damage)
	}
	require.EqualValues(t, 99, records[3].Unknown.Kind)
}
