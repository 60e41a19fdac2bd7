package driver

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// The same options give the same plan, and another seed another one.
func TestNewPlan_DependsOnTheSeedOnly(t *testing.T) {
	o := Options{Nodes: 5, Groups: 8, Moves: 200, Kills: 30, Seed: 1}
	require.Equal(t, newPlan(o), newPlan(o))
	other := o
	other.Seed = 2
	require.NotEqual(t, newPlan(o).moves, newPlan(other).moves)
}

// A plan has the moves and kills that the options ask for, and one kill in five hits an abort.
func TestNewPlan_HasAllMovesAndKills(t *testing.T) {
	for _, o := range []Options{
		{Nodes: 5, Groups: 8, Moves: 200, Kills: 30}, {Nodes: 4, Groups: 3, Moves: 20, Kills: 5}, {Nodes: 4, Groups: 3}, {Nodes: 4, Groups: 3, Kills: 2},
	} {
		p := newPlan(o)
		ids := map[checkpoint.MigrationID]hangs{}
		for _, m := range slices.Concat(p.moves...) {
			ids[m.id] = m.hangs
		}
		require.Len(t, ids, o.Moves)
		require.Len(t, p.kills, o.Kills)
		inAborts, aborts := 0, 0
		for _, hangs := range ids {
			if hangs != never {
				aborts++
			}
		}
		for _, k := range p.kills {
			if !k.isStep() {
				inAborts++
				require.NotEqual(t, never, ids[k.abort])
			}
		}
		require.Equal(t, min((o.Kills+4)/5, aborts), inAborts)
		require.Len(t, p.first, o.Groups)
		for _, group := range p.first {
			require.Len(t, group, replicas)
		}
	}
}
