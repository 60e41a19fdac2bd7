package checkpoint_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

var goldenID = uuid.MustParse("01a20629-44f1-75f5-8bf1-d9e9fef8b7a5")

// goldenPayloads are one of each kind, named as in testdata/golden.json.
func goldenPayloads() map[string]checkpoint.Payload {
	return map[string]checkpoint.Payload{
		"AddLearner": checkpoint.AddLearner{
			VShardID: 22, SourceNode: 5, TargetNode: 3, SourceGroup: 1 << 40, WritePauseBudgetUS: 500000,
			StartedAtHLC: checkpoint.HLC{WallNS: 1795399697649400619, Logical: 7},
		},
		"CatchUp":            checkpoint.CatchUp{VShardID: 22, LearnerLogIndexAtAdd: 23},
		"PromoteLearner":     checkpoint.PromoteLearner{VShardID: 22, TargetNode: 3, SourceGroup: 1 << 40},
		"LeadershipTransfer": checkpoint.LeadershipTransfer{VShardID: 22, TargetIsVoter: true, NewLeaderNodeID: 3, SourceGroup: 1 << 40},
		"Cutover":            checkpoint.Cutover{VShardID: 22, NewLeaderNodeID: 3, SourceGroup: 1 << 40},
		"Complete":           checkpoint.Complete{VShardID: 4294967295, ActualPauseUS: 18446744073709551615, GhostStubInstalled: true},
	}
}

// goldenEvents are an upsert of each payload and one of each other kind.
func goldenEvents(t testing.TB) map[string]checkpoint.Event {
	events := map[string]checkpoint.Event{
		"Aborted": checkpoint.Aborted{
			MigrationID: goldenID, Reason: "target unreachable: größer als 3 s", TimestampMS: 1795399699919,
			Compensations: []checkpoint.Compensation{
				{Kind: checkpoint.RemoveVoter, GroupID: 22, PeerID: 3},
				{Kind: checkpoint.RestoreLeaderHint, GroupID: 22, PeerID: 5},
				{Kind: checkpoint.RemoveLearner, GroupID: 22, PeerID: 3},
				{Kind: checkpoint.RemoveGhostStub, VShardID: 22},
			},
		},
		"Aborted without compensations": checkpoint.Aborted{MigrationID: goldenID, TimestampMS: 1},
		"Removed":                       checkpoint.Removed{MigrationID: goldenID, TimestampMS: 1795399697663},
	}
	for name, p := range goldenPayloads() {
		c, err := checkpoint.New(goldenID, 2, p, 1795399697649)
		require.NoError(t, err)
		events["Upserted "+name] = checkpoint.Upserted{Checkpoint: c}
	}
	return events
}

type goldenVector struct {
	CBOR   string `json:"cbor"`             // hex
	CRC32C uint32 `json:"crc32c,omitempty"` // payloads only
}

// The bytes of every payload and event are those that version 1 of the format
// was defined with. testdata/golden.json is never written again.
func TestGoldenVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var golden struct{ Payloads, Events map[string]goldenVector }
	require.NoError(t, json.Unmarshal(b, &golden))
	payloads, events := goldenPayloads(), goldenEvents(t)
	require.Len(t, golden.Payloads, len(payloads))
	require.Len(t, golden.Events, len(events))

	for name, p := range payloads {
		want := golden.Payloads[name]
		got, err := checkpoint.EncodePayload(p)
		require.NoError(t, err)
		require.Equal(t, want.CBOR, hex.EncodeToString(got), name)
		crc, err := checkpoint.PayloadCRC32C(p)
		require.NoError(t, err)
		require.Equal(t, want.CRC32C, crc, name)
		back, err := checkpoint.DecodePayload(p.Phase(), got)
		require.NoError(t, err)
		require.Equal(t, p, back, name)
	}
	for name, e := range events {
		got, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		require.Equal(t, golden.Events[name].CBOR, hex.EncodeToString(got), name)
		back, err := checkpoint.DecodeEvent(got)
		require.NoError(t, err)
		require.Equal(t, e, back, name)
	}
}
