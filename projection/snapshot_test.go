package projection_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// someEvents returns the events of 20 migrations with two incarnations each. Some of them have
// ended, some have changed their target, and some are being aborted.
func someEvents(t testing.TB) (events []checkpoint.Event) {
	for n := range byte(40) {
		id := checkpoint.MigrationID{n%20 + 1}
		for _, p := range []checkpoint.Payload{
			checkpoint.AddLearner{VShardID: uint32(n), SourceNode: 3, TargetNode: 1 << 40, SourceGroup: 7, StartedAtHLC: checkpoint.HLC{WallNS: 5, Logical: 2}},
			checkpoint.CatchUp{VShardID: uint32(n), LearnerLogIndexAtAdd: 9},
		} {
			c, err := checkpoint.New(id, uint32(n), p, uint64(n))
			require.NoError(t, err)
			events = append(events, checkpoint.Upserted{Checkpoint: c})
		}
		if n%5 == 0 {
			c, err := checkpoint.New(id, 0, checkpoint.Cutover{VShardID: uint32(n), NewLeaderNodeID: 4, SourceGroup: 7}, 9)
			require.NoError(t, err)
			events = append(events, checkpoint.Upserted{Checkpoint: c, Epoch: uint64(n)})
		}
		if n%4 == 0 {
			comps := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 7, PeerID: uint64(n)}, {Kind: checkpoint.RemoveGhostStub, VShardID: 3}}
			events = append(events,
				checkpoint.AbortBegun{MigrationID: id, Reason: "stale", Compensations: comps, TimestampMS: 11},
				checkpoint.Compensated{MigrationID: id, Step: 1, TimestampMS: 12},
				checkpoint.EpochRaised{MigrationID: id, Epoch: uint64(n) + 1, TimestampMS: 13})
		}
		if n%3 == 0 {
			events = append(events, checkpoint.Removed{MigrationID: id})
		}
	}
	return events
}

func someView(t testing.TB) *projection.View {
	v := projection.New()
	for i, e := range someEvents(t) {
		v.Apply(uint64(i+1), v.Slot(e.Migration()).LastSeq(), e)
	}
	return v
}

// D8: a view that is restored from a snapshot equals the view from which the snapshot was taken.
func TestD8_Restore(t *testing.T) {
	v := someView(t)
	b, err := v.Snapshot()
	require.NoError(t, err)
	restored, err := projection.Restore(v.LastSeq(), b)
	require.NoError(t, err)
	require.Equal(t, v.All(), restored.All())
	require.Equal(t, v.LastSeq(), restored.LastSeq())
	for shard := range uint32(40) {
		var rows []projection.Row
		for row := range v.Rows() {
			if row.Checkpoint.Payload.Shard() == shard {
				rows = append(rows, row)
			}
		}
		require.Equal(t, rows, v.RowsByVShard(shard))
		require.Equal(t, rows, restored.RowsByVShard(shard))
	}
	require.True(t, v.Equal(restored))
	for size := range len(b) {
		_, err := projection.Restore(v.LastSeq(), b[:size])
		require.Error(t, err, "cut at %d", size)
	}
	_, err = projection.Restore(v.LastSeq(), append(slices.Clone(b), 0))
	require.Error(t, err)
	_, err = projection.Restore(1, b)
	require.ErrorContains(t, err, "does not fit", "a row with a seq after the snapshot")
}

// D5: a view with lost events is not complete, because a snapshot of it would not report the loss.
func TestD5_NoSnapshotOfAHole(t *testing.T) {
	v := someView(t)
	require.True(t, v.Complete())
	v.MarkLost(v.LastSeq()+1, v.LastSeq()+1)
	require.False(t, v.Complete())
}

// D7: Restore returns for any input. If it returns a view, the view equals the one that is restored
// from its snapshot.
func FuzzRestore(f *testing.F) {
	b, err := someView(f).Snapshot()
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := projection.Restore(1000, b)
		if err != nil {
			return
		}
		again, err := v.Snapshot()
		require.NoError(t, err)
		restored, err := projection.Restore(1000, again)
		require.NoError(t, err)
		require.Equal(t, v.All(), restored.All())
	})
}

// A snapshot has rows of lost events. The next events of these migrations are linked to the lost
// events. Applying them does not change the old view, which others read at the same time. The race
// detector must run for this test to mean anything.
func TestAdoptSnapshot_WritesDuringReads(t *testing.T) {
	id := func(n int) checkpoint.MigrationID { return checkpoint.MigrationID{1, byte(n), byte(n >> 8)} }
	upsert := func(n int, p checkpoint.Payload) checkpoint.Event {
		c, err := checkpoint.New(id(n), 0, p, 0)
		require.NoError(t, err)
		return checkpoint.Upserted{Checkpoint: c}
	}
	const rows = 300
	before := projection.New()
	for n := range rows {
		before.Apply(uint64(n+1), 0, upsert(n, checkpoint.AddLearner{}))
	}
	body, err := before.Snapshot()
	require.NoError(t, err)

	v := projection.New()
	v.MarkLost(1, rows-1)
	v.Apply(rows, 0, upsert(rows-1, checkpoint.AddLearner{}))
	snapshot, err := projection.Restore(rows, body)
	require.NoError(t, err)
	v.AdoptSnapshot(snapshot)
	v.MarkLost(rows+1, rows+1)
	v.Apply(rows+2, rows, upsert(rows-1, checkpoint.CatchUp{}))
	require.Equal(t, projection.Superseded, v.Doubt(id(rows-1)))

	var batch projection.Batch
	batch.Begin(v)
	add(&batch, rows+3, upsert(0, checkpoint.CatchUp{}))
	v = batch.Fold()
	var reader sync.WaitGroup
	reader.Go(func() {
		for range rows {
			v.Doubt(id(rows - 1))
		}
	})
	batch.Begin(v)
	for n := 1; n < rows-1; n++ {
		require.EqualValues(t, n+1, add(&batch, uint64(rows+3+n), upsert(n, checkpoint.CatchUp{})))
	}
	next := batch.Fold()
	reader.Wait()
	for n := 1; n < rows-1; n++ {
		require.Equal(t, projection.Superseded, next.Doubt(id(n)))
	}
}
