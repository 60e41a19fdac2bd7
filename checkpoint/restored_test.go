package checkpoint_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// replicaEvents are events of the kinds that a replicated store appends by itself.
func replicaEvents(t testing.TB) map[string]checkpoint.Event {
	events := map[string]checkpoint.Event{
		"Digest":             checkpoint.Digest{State: [32]byte{1, 31: 2}, Chain: [32]byte{3, 31: 4}, TimestampMS: 1795399697649},
		"Digest in an epoch": checkpoint.Digest{TimestampMS: 9, Epoch: math.MaxUint64},
	}
	restored := func(p checkpoint.Payload, attempt uint32, f checkpoint.RestoredFacts) checkpoint.Restored {
		c, err := checkpoint.New(goldenID, attempt, p, 1795399697649)
		require.NoError(t, err)
		return checkpoint.Restored{Checkpoint: c, Facts: f}
	}
	comps := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 22, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 22, PeerID: 5}}
	events["Restored with few facts"] = restored(checkpoint.CatchUp{VShardID: 1}, 0, checkpoint.RestoredFacts{FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 2})
	most := restored(checkpoint.PromoteLearner{VShardID: 22, TargetNode: 4, SourceGroup: 9}, 3, checkpoint.RestoredFacts{
		SourceNode: 5, TargetNode: 4, SourceGroup: 9, WritePauseBudgetUS: 500000, StartedAtHLC: checkpoint.HLC{WallNS: 1 << 60, Logical: 7},
		HasTarget: true, HasSource: true, FurthestPhase: checkpoint.PhaseLeadershipTransfer, RecordedPhases: 0b1111,
		HighestAttempt: [6]uint32{0, 2, 3, math.MaxUint32}, Targets: []checkpoint.Target{{GroupID: 9, PeerID: 3}, {GroupID: 9, PeerID: 4}},
		Abort: &checkpoint.RestoredAbort{Reason: "größer", Compensations: comps, Done: []bool{false, true}, TimestampMS: 300, BeforeCheckpoint: true},
	})
	events["Restored with most facts"] = most
	most.Epoch = 300
	events["Restored in an epoch"] = most
	events["Restored with an abort without steps"] = restored(checkpoint.CatchUp{}, 1, checkpoint.RestoredFacts{
		FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 2, HighestAttempt: [6]uint32{1: 1}, Abort: &checkpoint.RestoredAbort{},
	})
	return events
}
