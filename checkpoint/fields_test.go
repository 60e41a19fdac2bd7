package checkpoint_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// The fields of an event are its bytes without a gap, each with the name that it has in NDJSON, also
// if any bit is flipped.
func TestFields(t *testing.T) {
	for _, e := range exampleEvents(t) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		for _, f := range checkpoint.Fields(b) {
			require.Empty(t, f.Fault, "%v: %+v", e, f)
			require.False(t, strings.Contains(f.Name, "key ") || f.Value == "unknown", "%v: %+v", e, f)
		}
		for bit := range 8 * len(b) {
			flipped := slices.Clone(b)
			flipped[bit/8] ^= 1 << (bit % 8)
			at := 0
			for _, f := range checkpoint.Fields(flipped) {
				require.Equal(t, at, f.Offset, "%x", flipped)
				require.Positive(t, f.Length, "%x", flipped)
				at += f.Length
			}
			require.Equal(t, len(flipped), at, "%x", flipped)
			require.NotPanics(t, func() { checkpoint.Fields(flipped[:bit/8]) })
		}
	}
}

// The names and the values are those of NDJSON.
func TestFields_Values(t *testing.T) {
	c, err := checkpoint.New(goldenID, 2, checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 4, StartedAtHLC: checkpoint.HLC{WallNS: 5}}, 1795399697001)
	require.NoError(t, err)
	b, err := checkpoint.EncodeEvent(checkpoint.Upserted{Checkpoint: c, Epoch: 3})
	require.NoError(t, err)
	values := map[string]string{}
	for _, f := range checkpoint.Fields(b) {
		values[f.Name] = f.Value
	}
	for name, want := range map[string]string{
		"kind": "1 upserted", "migration_id": goldenID.String(), "ts_ms": "1795399697001", "attempt": "2", "phase": "1 AddLearner",
		"payload.vshard_id": "7", "payload.target_node": "4", "payload.started_at_hlc.wall_ns": "5", "epoch": "3",
	} {
		require.Equal(t, want, values[name], name)
	}
	flipped := slices.Clone(b)
	payload, err := checkpoint.EncodePayload(c.Payload)
	require.NoError(t, err)
	at := strings.Index(string(b), string(payload))
	flipped[at+2] ^= 1 // the vShard
	var faults []string
	for _, f := range checkpoint.Fields(flipped) {
		if f.Fault != "" {
			faults = append(faults, f.Name+": "+f.Fault)
		}
	}
	require.Len(t, faults, 1)
	require.Regexp(t, `^crc32c: the payload has [0-9a-f]{8}$`, faults[0])
}
