package crashpoints

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

// restored returns the state of a view as restored rows and a digest.
func restored(t *testing.T, view *projection.View, clockMS uint64) (events []checkpoint.Event) {
	for row := range view.Rows() {
		b, err := view.AppendRestored(nil, row.Checkpoint.MigrationID)
		require.NoError(t, err)
		e, err := checkpoint.DecodeEvent(b)
		require.NoError(t, err)
		events = append(events, e)
	}
	return append(events, checkpoint.Digest{TimestampMS: clockMS})
}

// A restored row brings the model to the state that its facts prove, with the progress of an abort. The
// state between two restored rows never existed, so it is no cut.
func TestWalk_Restored(t *testing.T) {
	steps := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 1}}
	forgets := changing(func(d *recovery.Decision) {
		if d.MigrationID() == migration(3) && d.Action == recovery.Abort {
			d.Compensations = nil
		}
	})
	for name, tc := range map[string]struct {
		plan Planner
		want int
	}{"recovery.Plan": {recovery.Plan, 0}, "a planner that forgets": {forgets, 1}} {
		before := newHistory(recovery.Policy{}, recovery.Plan)
		for _, e := range run(moves[0], checkpoint.PhasePromoteLearner, startMS) {
			before.add(e)
		}
		before.add(checkpoint.AbortBegun{MigrationID: migration(1), Reason: "stale", Compensations: steps, TimestampMS: startMS + 1})
		before.add(checkpoint.Compensated{MigrationID: migration(1), TimestampMS: startMS + 2})
		other := moves[2]
		other.VShardID, other.Group = 11, 12
		for _, e := range run(other, checkpoint.PhaseCatchUp, startMS) {
			before.add(e)
		}
		h := newHistory(recovery.Policy{}, tc.plan)
		var found []Finding
		for _, e := range restored(t, before.view, startMS+3) {
			require.Zero(t, h.walk.Cuts, name)
			found = append(found, h.add(e)...)
		}
		require.EqualValues(t, 1, h.walk.Cuts)
		require.Len(t, found, tc.want, "%s: %+v", name, found)
		h.add(checkpoint.Digest{TimestampMS: startMS + 4})
		require.EqualValues(t, 1, h.walk.Cuts, "a digest changes no row")
	}
}
