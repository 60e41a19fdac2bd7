package checkpoint_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// A flipped byte in a payload changes its CRC32C, so Verify finds it.
func TestD1_FlippedPayloadBitChangesCRC(t *testing.T) {
	for name, p := range goldenPayloads() {
		body, err := checkpoint.EncodePayload(p)
		require.NoError(t, err)
		crc, err := checkpoint.PayloadCRC32C(p)
		require.NoError(t, err)
		for bit := range len(body) * 8 {
			flipped := slices.Clone(body)
			flipped[bit/8] ^= 1 << (bit % 8)
			other, err := checkpoint.DecodePayload(p.Phase(), flipped)
			if err != nil {
				continue // not even a payload
			}
			c := checkpoint.Checkpoint{MigrationID: goldenID, Payload: other, CRC32C: crc}
			var mismatch *checkpoint.CRCMismatchError
			require.ErrorAs(t, c.Verify(), &mismatch, "%s bit %d", name, bit)
			require.ErrorIs(t, c.Verify(), checkpoint.ErrCRCMismatch)
			require.Equal(t, crc, mismatch.Got)
			require.NotEqual(t, crc, mismatch.Want)
		}
	}
}

// If any bit of a stored event is flipped, the event is not read as another checkpoint of the same
// migration. The CRC32C of its payload detects the flip.
func TestD3_FlippedEventBitInPayloadIsRefused(t *testing.T) {
	for name, e := range goldenEvents(t) {
		upserted, ok := e.(checkpoint.Upserted)
		if !ok {
			continue
		}
		body, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		for bit := range len(body) * 8 {
			flipped := slices.Clone(body)
			flipped[bit/8] ^= 1 << (bit % 8)
			got, err := checkpoint.DecodeEvent(flipped)
			if err != nil {
				continue
			}
			if u, ok := got.(checkpoint.Upserted); ok {
				require.Equal(t, upserted.Checkpoint.Payload, u.Checkpoint.Payload, "%s bit %d", name, bit)
			}
		}
	}
}

func TestD3_BadInputIsRefused(t *testing.T) {
	good, err := checkpoint.New(goldenID, 0, checkpoint.CatchUp{VShardID: 1}, 1)
	require.NoError(t, err)
	bad := func(change func(*checkpoint.Checkpoint)) checkpoint.Event {
		c := good
		change(&c)
		return checkpoint.Upserted{Checkpoint: c}
	}
	comps := func(n int, kind checkpoint.CompensationKind) []checkpoint.Compensation {
		return slices.Repeat([]checkpoint.Compensation{{Kind: kind, GroupID: 1 << 60, PeerID: 1 << 60}}, n)
	}
	for name, tc := range map[string]struct {
		event checkpoint.Event
		want  error
	}{
		"nil id":                 {bad(func(c *checkpoint.Checkpoint) { c.MigrationID = uuid.Nil }), checkpoint.ErrNilMigrationID},
		"nil payload":            {bad(func(c *checkpoint.Checkpoint) { c.Payload = nil }), checkpoint.ErrNilPayload},
		"pointer payload":        {bad(func(c *checkpoint.Checkpoint) { c.Payload = &checkpoint.CatchUp{} }), checkpoint.ErrUnknownPayload},
		"nil pointer payload":    {bad(func(c *checkpoint.Checkpoint) { c.Payload = (*checkpoint.CatchUp)(nil) }), checkpoint.ErrUnknownPayload},
		"other payload":          {bad(func(c *checkpoint.Checkpoint) { c.Payload = checkpoint.CatchUp{VShardID: 2} }), checkpoint.ErrCRCMismatch},
		"other crc":              {bad(func(c *checkpoint.Checkpoint) { c.CRC32C++ }), checkpoint.ErrCRCMismatch},
		"abort of nil id":        {checkpoint.Aborted{}, checkpoint.ErrNilMigrationID},
		"remove of nil id":       {checkpoint.Removed{}, checkpoint.ErrNilMigrationID},
		"reason not UTF-8":       {checkpoint.Aborted{MigrationID: goldenID, Reason: "a\xffb"}, checkpoint.ErrInvalidUTF8},
		"reason too long":        {checkpoint.Aborted{MigrationID: goldenID, Reason: strings.Repeat("x", checkpoint.MaxEventBytes)}, checkpoint.ErrTooLarge},
		"reason far too long":    {checkpoint.Aborted{MigrationID: goldenID, Reason: strings.Repeat("x", 2*checkpoint.MaxEventBytes)}, checkpoint.ErrTooLarge},
		"too many compensations": {checkpoint.Aborted{MigrationID: goldenID, Compensations: comps(4000, checkpoint.RemoveVoter)}, checkpoint.ErrTooLarge},
		"unknown compensation":   {checkpoint.Aborted{MigrationID: goldenID, Compensations: comps(1, 5)}, checkpoint.ErrUnknownCompensation},
		"no compensation kind":   {checkpoint.Aborted{MigrationID: goldenID, Compensations: comps(1, 0)}, checkpoint.ErrUnknownCompensation},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := checkpoint.EncodeEvent(tc.event)
			require.ErrorIs(t, err, tc.want)
		})
	}
	_, err = checkpoint.EncodeEvent(nil)
	require.Error(t, err)
	_, err = checkpoint.New(uuid.Nil, 0, checkpoint.CatchUp{}, 0)
	require.ErrorIs(t, err, checkpoint.ErrNilMigrationID)
	_, err = checkpoint.New(goldenID, 0, nil, 0)
	require.ErrorIs(t, err, checkpoint.ErrNilPayload)
	require.Zero(t, checkpoint.Checkpoint{}.Phase())
	require.ErrorIs(t, checkpoint.Checkpoint{}.Verify(), checkpoint.ErrNilPayload)
}

// The decoder ignores unknown keys. For an unknown kind it returns the keys that all events share.
// It rejects an event that lacks a key.
func TestDecodeEvent_ForwardCompatibility(t *testing.T) {
	event := map[int]any{1: 3, 2: goldenID[:], 3: 5, 77: []any{"later", map[int]int{1: 2}}}
	encode := func(m map[int]any) []byte {
		b, err := cbor.Marshal(m)
		require.NoError(t, err)
		return b
	}
	got, err := checkpoint.DecodeEvent(encode(event))
	require.NoError(t, err)
	require.Equal(t, checkpoint.Removed{MigrationID: goldenID, TimestampMS: 5}, got)

	event[1] = 9
	_, err = checkpoint.DecodeEvent(encode(event))
	var unknown *checkpoint.UnknownKindError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, checkpoint.UnknownKindError{Kind: 9, MigrationID: goldenID, TimestampMS: 5}, *unknown)

	event[1] = 3
	for _, key := range []int{1, 2, 3} {
		value := event[key]
		delete(event, key)
		_, err = checkpoint.DecodeEvent(encode(event))
		require.Error(t, err, "without key %d", key)
		require.NotErrorAs(t, err, &unknown)
		event[key] = value
	}
	body, err := checkpoint.EncodePayload(checkpoint.CatchUp{VShardID: 1})
	require.NoError(t, err)
	crc, err := checkpoint.PayloadCRC32C(checkpoint.CatchUp{VShardID: 1})
	require.NoError(t, err)
	upsert := map[int]any{1: 1, 2: goldenID[:], 3: 5, 4: 0, 5: 2, 6: body, 7: crc}
	_, err = checkpoint.DecodeEvent(encode(upsert))
	require.NoError(t, err)
	for _, key := range []int{4, 5, 6, 7} {
		value := upsert[key]
		delete(upsert, key)
		_, err = checkpoint.DecodeEvent(encode(upsert))
		require.Error(t, err, "without key %d", key)
		upsert[key] = value
	}
	abort := map[int]any{1: 2, 2: goldenID[:], 3: 5, 8: "", 9: []any{}}
	_, err = checkpoint.DecodeEvent(encode(abort))
	require.NoError(t, err)
	for _, key := range []int{8, 9} {
		value := abort[key]
		delete(abort, key)
		_, err = checkpoint.DecodeEvent(encode(abort))
		require.Error(t, err, "without key %d", key)
		abort[key] = value
	}
}

// An event of a kind that this version does not know is kept even if its other keys have other
// types than today. The kind may be larger than a Kind.
func TestDecodeEvent_UnknownKindWithOtherTypes(t *testing.T) {
	for _, kind := range []uint64{0, 1, 2, 3, 200, 255, 256, 257, 258, 259, 1 << 63} {
		b, err := cbor.Marshal(map[int]any{1: kind, 2: goldenID[:], 3: 5, 4: "later"})
		require.NoError(t, err)
		_, err = checkpoint.DecodeEvent(b)
		if kind < 200 {
			require.ErrorIs(t, err, checkpoint.ErrMalformed, "kind %d", kind)
			continue
		}
		var unknown *checkpoint.UnknownKindError
		require.ErrorAs(t, err, &unknown, "kind %d", kind)
		require.Equal(t, checkpoint.UnknownKindError{Kind: kind, MigrationID: goldenID, TimestampMS: 5}, *unknown)
	}
}

// A payload has only one valid encoding, because its checksum covers these bytes.
func TestDecodePayload_OneEncoding(t *testing.T) {
	for name, m := range map[string]map[int]any{
		"a field missing":    {1: 1},
		"a field more":       {1: 1, 2: 2, 3: 3},
		"another field type": {1: 1, 2: "2"},
	} {
		b, err := cbor.Marshal(m)
		require.NoError(t, err)
		_, err = checkpoint.DecodePayload(checkpoint.PhaseCatchUp, b)
		require.ErrorIs(t, err, checkpoint.ErrMalformed, name)
	}
	long := []byte{0xA2, 0x01, 0x18, 0x01, 0x02, 0x02} // vShard 1 in two bytes
	_, err := checkpoint.DecodePayload(checkpoint.PhaseCatchUp, long)
	require.ErrorIs(t, err, checkpoint.ErrMalformed)
	_, err = checkpoint.DecodePayload(7, long)
	require.ErrorIs(t, err, checkpoint.ErrUnknownPhase)
	_, err = checkpoint.DecodePayload(0, long)
	require.ErrorIs(t, err, checkpoint.ErrUnknownPhase)
}

func TestNames_RoundTrip(t *testing.T) {
	want := []string{"AddLearner", "CatchUp", "PromoteLearner", "LeadershipTransfer", "Cutover", "Complete"}
	for i, name := range want {
		p := checkpoint.Phase(i + 1)
		require.Equal(t, name, p.String())
		text, err := json.Marshal(p)
		require.NoError(t, err)
		require.Equal(t, `"`+name+`"`, string(text))
		var back checkpoint.Phase
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, p, back)
	}
	require.Less(t, checkpoint.PhaseAddLearner, checkpoint.PhaseComplete)
	for _, bad := range []string{"", "catchup", "Phase(2)", "Complete "} {
		_, err := checkpoint.ParsePhase(bad)
		require.ErrorIs(t, err, checkpoint.ErrUnknownPhase, bad)
	}
	_, err := checkpoint.Phase(7).MarshalText()
	require.ErrorIs(t, err, checkpoint.ErrUnknownPhase)

	for k := checkpoint.RemoveLearner; k <= checkpoint.RemoveGhostStub; k++ {
		text, err := k.MarshalText()
		require.NoError(t, err)
		var back checkpoint.CompensationKind
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, k, back)
	}
	var k checkpoint.CompensationKind
	require.ErrorIs(t, k.UnmarshalText([]byte("removelearner")), checkpoint.ErrUnknownCompensation)
}

func TestHLC_Compare(t *testing.T) {
	sorted := []checkpoint.HLC{{0, 0}, {0, 1}, {1, 0}, {1, 2}, {2, 0}}
	for i, a := range sorted {
		for j, b := range sorted {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, a.Compare(b), "%v %v", a, b)
		}
	}
}

func TestNewMigrationID_SortsByCreation(t *testing.T) {
	previous := checkpoint.NewMigrationID()
	for range 1000 {
		next := checkpoint.NewMigrationID()
		require.EqualValues(t, 7, next.Version())
		require.Less(t, previous.String(), next.String())
		previous = next
	}
}

// Decoding any bytes returns an event or an error. If it returns an event, that event can be encoded
// and decoded again.
func FuzzEvent(f *testing.F) {
	for _, e := range exampleEvents(f) {
		b, err := checkpoint.EncodeEvent(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := checkpoint.DecodeEvent(b)
		if err != nil {
			return
		}
		if _, id, ok := checkpoint.Peek(b); ok {
			require.Equal(t, e.Migration(), id)
		}
		again, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		_, id, ok := checkpoint.Peek(again)
		require.True(t, ok)
		require.Equal(t, e.Migration(), id)
		back, err := checkpoint.DecodeEvent(again)
		require.NoError(t, err)
		require.Equal(t, e, back)
	})
}

func TestPayloads_RoundTripAtRandom(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		node, shard, yes := r.Uint64()>>r.IntN(64), r.Uint32()>>r.IntN(32), r.IntN(2) == 0
		for _, p := range []checkpoint.Payload{
			checkpoint.AddLearner{VShardID: shard, SourceNode: node, TargetNode: r.Uint64(), SourceGroup: node, WritePauseBudgetUS: r.Uint64(), StartedAtHLC: checkpoint.HLC{WallNS: r.Uint64(), Logical: r.Uint32()}},
			checkpoint.CatchUp{VShardID: shard, LearnerLogIndexAtAdd: node},
			checkpoint.PromoteLearner{VShardID: shard, TargetNode: node, SourceGroup: r.Uint64()},
			checkpoint.LeadershipTransfer{VShardID: shard, TargetIsVoter: yes, NewLeaderNodeID: node, SourceGroup: r.Uint64()},
			checkpoint.Cutover{VShardID: shard, NewLeaderNodeID: node, SourceGroup: r.Uint64()},
			checkpoint.Complete{VShardID: shard, ActualPauseUS: node, GhostStubInstalled: yes},
		} {
			b, err := checkpoint.EncodePayload(p)
			require.NoError(t, err)
			back, err := checkpoint.DecodePayload(p.Phase(), b)
			require.NoError(t, err)
			require.Equal(t, p, back, "seed %d", seed)
			require.Equal(t, shard, back.Shard())
		}
	}
}
