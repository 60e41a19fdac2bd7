package recovery

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// recorded is the present incarnation of a migration in the recording, as its lines have it.
type recorded struct {
	group, target, source uint64
	furthest              checkpoint.Phase
}

// cutCounts counts the decisions about the row of the last event before each cut.
type cutCounts struct {
	aborts     int
	needFacts  int // aborts that the latest row alone could not have planned: it lacks the target or the source
	realAborts int
	equal      int // real aborts whose compensations are those of the plan just before
}

// The recording of real moves is cut after each event, and everything is stale. No plan undoes a
// move past Cutover, removes another peer than the one that the move added, leaves it behind, or
// removes one that another migration uses. Each plan before a real abort has its compensations.
func TestPlan_RecordingCutAfterEachEvent(t *testing.T) {
	lines, err := os.ReadFile("../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	sourceLeads := func(group uint64) (uint64, bool) { return math.MaxUint64, true } // nobody's target
	policy := Policy{Leader: sourceLeads}
	view, known, last := projection.New(), map[checkpoint.MigrationID]*recorded{}, map[checkpoint.MigrationID]uint64{}
	plans := map[checkpoint.MigrationID]Decision{}
	var counts cutCounts
	seq := uint64(0)
	for decoder := json.NewDecoder(bytes.NewReader(lines)); decoder.More(); {
		var r replay.Record
		require.NoError(t, decoder.Decode(&r))
		id, _ := r.Migration()
		row, has := view.Get(id)
		upserted, isUpsert := r.Event.(checkpoint.Upserted)
		if isUpsert && has && upserted.Checkpoint.Phase() == row.Checkpoint.Phase() && upserted.Checkpoint.Attempt == row.Checkpoint.Attempt {
			continue // an import skips the duplicate
		}
		seq++
		view.Apply(seq, last[id], r.Event)
		last[id] = seq
		if !isUpsert {
			if aborted, ok := r.Event.(checkpoint.Aborted); ok {
				counts.realAborts++
				if slices.Equal(aborted.Compensations, plans[id].Compensations) {
					counts.equal++
				}
			}
			delete(known, id)
			delete(last, id)
			continue
		}
		record(t, known, upserted.Checkpoint)
		shard := upserted.Checkpoint.Payload.Shard() // a vShard of the recording is the only user of its group
		for _, d := range Plan(view.RowsByVShard(shard), policy, math.MaxUint64) {
			checkSafe(t, d, known, seq)
			if d.MigrationID() == id {
				plans[id] = d
				counts.add(d)
			}
		}
	}
	require.EqualValues(t, 9502, seq)
	require.Equal(t, cutCounts{aborts: 5742, needFacts: 4257, realAborts: 176, equal: 176}, counts)
}

// record adds a checkpoint to the facts that its lines have.
func record(t *testing.T, known map[checkpoint.MigrationID]*recorded, c checkpoint.Checkpoint) {
	in := known[c.MigrationID]
	if in == nil {
		in = &recorded{}
		known[c.MigrationID] = in
	}
	if p, ok := c.Payload.(checkpoint.AddLearner); ok {
		in.group, in.target, in.source = p.SourceGroup, p.TargetNode, p.SourceNode
		require.EqualValues(t, p.VShardID, p.SourceGroup)
	}
	in.furthest = max(in.furthest, c.Phase())
}

// checkSafe fails if a coordinator must not carry out the decision.
func checkSafe(t *testing.T, d Decision, known map[checkpoint.MigrationID]*recorded, seq uint64) {
	in := known[d.MigrationID()]
	if d.Action != Abort {
		require.Empty(t, d.Compensations, "cut after #%d", seq)
		require.Contains(t, []Action{Resume, CleanUp}, d.Action, "cut after #%d: %s", seq, d.Reason)
		return
	}
	require.Less(t, in.furthest, checkpoint.PhaseCutover, "cut after #%d", seq)
	want := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: in.group, PeerID: in.target}}
	if in.furthest >= checkpoint.PhasePromoteLearner {
		want = []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: in.group, PeerID: in.target},
			{Kind: checkpoint.RestoreLeaderHint, GroupID: in.group, PeerID: in.source},
		}
	}
	require.Equal(t, want, d.Compensations, "cut after #%d", seq)
	for id, other := range known {
		if id != d.MigrationID() && other.furthest < checkpoint.PhaseComplete && other.furthest >= checkpoint.PhaseCutover {
			require.False(t, other.group == in.group && other.target == in.target, "cut after #%d: %s uses the peer", seq, id)
		}
	}
}

func (c *cutCounts) add(d Decision) {
	if d.Action != Abort {
		return
	}
	c.aborts++
	if d.Row.Checkpoint.Phase() != checkpoint.PhaseAddLearner {
		c.needFacts++
	}
}
