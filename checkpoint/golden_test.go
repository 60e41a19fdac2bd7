package checkpoint_test

import (
	"encoding/hex"
	"encoding/json"
	"math"
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

// abortEvents are events of the kinds that testdata/golden.json does not have, and one event of
// each other kind with an epoch.
func abortEvents(t testing.TB) map[string]checkpoint.Event {
	comps := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 22, PeerID: 3}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 22, PeerID: 5}}
	c, err := checkpoint.New(goldenID, 2, goldenPayloads()["CatchUp"], 1795399697649)
	require.NoError(t, err)
	return map[string]checkpoint.Event{
		"AbortBegun":             checkpoint.AbortBegun{MigrationID: goldenID, Reason: "stale", Compensations: comps, TimestampMS: 9},
		"AbortBegun in an epoch": checkpoint.AbortBegun{MigrationID: goldenID, Reason: "stale", Compensations: comps, TimestampMS: 9, Epoch: 7},
		"Compensated":            checkpoint.Compensated{MigrationID: goldenID, Step: 1, TimestampMS: 9},
		"Compensated in an epoch": checkpoint.Compensated{
			MigrationID: goldenID, Step: math.MaxUint32, TimestampMS: math.MaxUint64, Epoch: math.MaxUint64,
		},
		"EpochRaised":          checkpoint.EpochRaised{MigrationID: goldenID, TimestampMS: 9, Epoch: 300},
		"Upserted in an epoch": checkpoint.Upserted{Checkpoint: c, Epoch: 1},
		"Aborted in an epoch":  checkpoint.Aborted{MigrationID: goldenID, TimestampMS: 1, Epoch: 24},
		"Removed in an epoch":  checkpoint.Removed{MigrationID: goldenID, TimestampMS: 9, Epoch: 1 << 16},
	}
}

// The bytes of these events, by hand from docs/FORMAT.md. They never change.
func TestGoldenVectors_Aborts(t *testing.T) {
	const id = "025001a2062944f175f58bf1d9e9fef8b7a5"
	const abortKeys = id + "0309" + "08657374616c65" + "09828402160300" + "8403160500"
	const catchUp = "0101" + id + "031b000001a2062944f1" + "0402" + "0502" + "0645a201160217" + "071adfdd7b29"
	golden := map[string]string{
		"AbortBegun":              "a5" + "0104" + abortKeys,
		"AbortBegun in an epoch":  "a6" + "0104" + abortKeys + "0b07",
		"Compensated":             "a4" + "0105" + id + "0309" + "0a01",
		"Compensated in an epoch": "a5" + "0105" + id + "031bffffffffffffffff" + "0a1affffffff" + "0b1bffffffffffffffff",
		"EpochRaised":             "a4" + "0106" + id + "0309" + "0b19012c",
		"Upserted in an epoch":    "a8" + catchUp + "0b01",
		"Aborted in an epoch":     "a6" + "0102" + id + "0301" + "0860" + "0980" + "0b1818",
		"Removed in an epoch":     "a4" + "0103" + id + "0309" + "0b1a00010000",
	}
	events := abortEvents(t)
	require.Len(t, golden, len(events))
	for name, e := range events {
		got, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		require.Equal(t, golden[name], hex.EncodeToString(got), name)
		back, err := checkpoint.DecodeEvent(got)
		require.NoError(t, err)
		require.Equal(t, e, back, name)
	}
}

// AppendEpoch adds an epoch to an event as if it had been encoded with the event.
func TestAppendEpoch(t *testing.T) {
	c, err := checkpoint.New(goldenID, 2, goldenPayloads()["CatchUp"], 1795399697649)
	require.NoError(t, err)
	for _, epoch := range []uint64{0, 1, 23, 24, math.MaxUint64} {
		b, err := checkpoint.AppendUpserted(nil, &c)
		require.NoError(t, err)
		want, err := checkpoint.EncodeEvent(checkpoint.Upserted{Checkpoint: c, Epoch: epoch})
		require.NoError(t, err)
		require.Equal(t, want, checkpoint.AppendEpoch(b, epoch))
	}
}

// PeekEpoch returns the epoch of an event of any kind. It returns false for keys that are not in
// the deterministic encoding.
func TestPeekEpoch(t *testing.T) {
	const head = "02500000000000000000000000000000000103f4" // the timestamp has a type that no version defines
	for bytes, want := range map[string]struct {
		epoch uint64
		ok    bool
	}{
		"a3" + "0114" + head:          {0, true},
		"a4" + "0114" + head + "0b05": {5, true},
		"a6" + "0114" + head + "0482a101f543ffffff" + "0b05" + "0c07": {5, true},
		"a4" + "0114" + head + "0b6135":                               {0, false},
		"a5" + "0114" + head + "0b05" + "0a05":                        {0, false},
		"a4" + "0114" + head + "0b05" + "00":                          {0, false},
		"a4" + "0114" + head + "0b":                                   {0, false},
		"a4" + "0114" + head + "0af6":                                 {0, false},
		"a4" + "0114" + head + "0abbffffffffffffffff":                 {0, false},
		"a4" + "0114" + head + "0a9bffffffffffffffff":                 {0, false},
		"": {0, false},
	} {
		b, err := hex.DecodeString(bytes)
		require.NoError(t, err)
		epoch, ok := checkpoint.PeekEpoch(b)
		require.Equal(t, want.ok, ok, bytes)
		if ok {
			require.Equal(t, want.epoch, epoch, bytes)
		}
	}
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
