package oracle_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/internal/oracle"
)

// The store and the oracle accept the same facts of a restored event, after any change of one byte of
// them. The oracle does not check the compensations in the facts, so they are not changed.
func TestRestored_SameFactsAreValid(t *testing.T) {
	c, err := checkpoint.New(uuid.UUID{1}, 2, checkpoint.CatchUp{VShardID: 3}, 4)
	require.NoError(t, err)
	steps := slices.Repeat([]checkpoint.Compensation{{Kind: checkpoint.RemoveVoter}}, 9)
	for _, f := range []checkpoint.RestoredFacts{
		{FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 0b10, HighestAttempt: [6]uint32{1: 2}},
		{
			SourceNode: 1, TargetNode: 2, SourceGroup: 3, WritePauseBudgetUS: 4, StartedAtHLC: checkpoint.HLC{WallNS: 5, Logical: 6}, HasTarget: true, HasSource: true,
			FurthestPhase: checkpoint.PhaseLeadershipTransfer, RecordedPhases: 0b1010, HighestAttempt: [6]uint32{1: 7, 3: 1},
			Targets: []checkpoint.Target{{GroupID: 3, PeerID: 1}, {GroupID: 3, PeerID: 2}},
			Abort:   &checkpoint.RestoredAbort{Reason: "r", Compensations: steps, Done: append(make([]bool, 8), true), BeforeCheckpoint: true},
		},
		{
			FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 0b10, HighestAttempt: [6]uint32{1: 3},
			Abort: &checkpoint.RestoredAbort{TimestampMS: 30},
		},
	} {
		b, err := checkpoint.EncodeEvent(checkpoint.Restored{Checkpoint: c, Facts: f})
		require.NoError(t, err)
		require.True(t, oracle.IsRestored(b))
		begin := bytes.LastIndex(b, []byte{7, 0x1a}) + 6
		require.Equal(t, byte(16), b[begin])
		list := bytes.Index(b, []byte{9, 0x89, 0x84}) // the compensations
		for at := begin + 1; at < len(b); at++ {
			if list > 0 && at > list && at < list+2+5*len(steps) {
				continue
			}
			valid := b[at]
			for n := range 256 {
				b[at] = byte(n)
				require.Equal(t, checkpoint.Check(b) == nil, oracle.IsRestored(b), "byte %d: %x", at, b)
			}
			b[at] = valid
		}
	}
}
