package projection_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// add adds an event to the batch and returns the seq of its migration's previous event.
func add(b *projection.Batch, seq uint64, e checkpoint.Event) (prevSeq uint64) {
	return b.Add(b.Lookup(e.Migration()), seq, projection.ChangeOf(e))
}

// A view after batches equals a view to which the same events were applied one by one, even if a
// batch has several events of a migration. A lookup sees the earlier events of its batch.
func TestBatch(t *testing.T) {
	events := someEvents(t)
	for _, size := range []int{1, 2, 3, 7, len(events)} {
		var batch projection.Batch
		v, single := projection.New(), projection.New()
		for i, e := range events {
			if i%size == 0 {
				batch.Begin(v)
			}
			before, seq := single.Slot(e.Migration()), uint64(i+1)
			require.Equal(t, before.Latest(), batch.Lookup(e.Migration()).Latest(), "batches of %d: before seq %d", size, seq)
			require.Equal(t, before.LastSeq(), add(&batch, seq, e), "batches of %d: seq %d", size, seq)
			single.Apply(seq, before.LastSeq(), e)
			if i%size == size-1 || i == len(events)-1 {
				v = batch.Fold()
				require.Equal(t, single.All(), v.All(), "batches of %d: through seq %d", size, seq)
				require.Equal(t, seq, v.LastSeq())
			}
		}
		for vshard := range uint32(40) {
			require.Equal(t, single.RowsByVShard(vshard), v.RowsByVShard(vshard), "batches of %d", size)
		}
	}
}
