package eventgen_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/bench/eventgen"
	"migrationlog/checkpoint"
)

// No op is one that a store would take for a duplicate, ids are never used
// again, and the number of rows stays what was asked for.
func TestGenerator_AreRealisticAndNeverRepeat(t *testing.T) {
	l := eventgen.New(1, 100)
	rows := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	used := map[checkpoint.MigrationID]bool{}
	phases := map[checkpoint.Phase]int{}
	ends := 0
	for n := range 20_000 {
		op, err := l.Next()
		require.NoError(t, err)
		require.NoError(t, op.Encode())
		id, end, err := eventgen.IDOf(op.Value)
		require.NoError(t, err)
		require.Equal(t, op.ID, id)
		require.Equal(t, op.Ends, end)
		event, err := checkpoint.DecodeEvent(op.Value)
		require.NoError(t, err)
		require.Equal(t, op.Event, event)
		before, had := rows[op.ID]
		if op.Ends {
			require.True(t, had)
			delete(rows, op.ID)
			ends++
		} else {
			c := op.Event.(checkpoint.Upserted).Checkpoint
			require.False(t, had && before.Phase() == c.Phase() && before.Attempt == c.Attempt)
			require.Equal(t, used[op.ID], had, "an id has one life")
			rows[op.ID], used[op.ID] = c, true
			phases[c.Phase()]++
		}
		require.Len(t, rows, l.Live())
		if n >= 100 {
			require.GreaterOrEqual(t, len(rows), 99)
		}
	}
	require.Len(t, phases, 6)
	require.Greater(t, ends, 1000)
}

// A sequence is what its seed makes it.
func TestGenerator_SeedDecides(t *testing.T) {
	a, b, c := eventgen.New(7, 10), eventgen.New(7, 10), eventgen.New(8, 10)
	for range 100 {
		x, err := a.Next()
		require.NoError(t, err)
		y, err := b.Next()
		require.NoError(t, err)
		z, err := c.Next()
		require.NoError(t, err)
		require.Equal(t, x, y)
		require.NotEqual(t, x, z)
	}
}
