package eventgen_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/bench/eventgen"
	"migrationlog/checkpoint"
)

// A store takes no op for a duplicate, no id is used twice, and the number of rows stays at the
// number of slots.
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
			require.Equal(t, used[op.ID], had, "an id has one incarnation")
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

// In the sequence without ends every migration has one or two events, and all have a row.
func TestGenerator_NextUnendedEndsNoMigration(t *testing.T) {
	for _, migrations := range []int{1, 2, 999, 2500} {
		g := eventgen.New(1, migrations)
		phases := map[checkpoint.MigrationID]checkpoint.Phase{}
		for range eventgen.UnendedOps(migrations) {
			op, err := g.NextUnended()
			require.NoError(t, err)
			require.False(t, op.Ends)
			phase := op.Event.(checkpoint.Upserted).Checkpoint.Phase()
			require.Equal(t, phases[op.ID]+1, phase, "a migration begins, or takes its second step")
			phases[op.ID] = phase
		}
		require.Len(t, phases, migrations)
		require.Equal(t, migrations, g.Live())
		steps := 0
		for _, phase := range phases {
			require.LessOrEqual(t, phase, checkpoint.PhaseCatchUp)
			steps += int(phase)
		}
		require.Equal(t, eventgen.UnendedOps(migrations), steps)
		_, err := g.NextUnended()
		require.Error(t, err, "the sequence is over")
	}
}

// The seed determines the sequence.
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
