package checkpoint_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// The encoder returns the bytes and the errors of the reference, at every boundary of an
// integer's form.
func TestCodec_EncodesAsTheReference(t *testing.T) {
	for _, n := range boundaries {
		for _, yes := range []bool{false, true} {
			for _, p := range payloadsOf(n, yes) {
				requireSamePayloadEncoding(t, p)
				crc, err := checkpoint.PayloadCRC32C(p)
				require.NoError(t, err)
				c := checkpoint.Checkpoint{MigrationID: goldenID, Attempt: uint32(n), Payload: p, CRC32C: crc, TimestampMS: n}
				requireSameEncoding(t, checkpoint.Upserted{Checkpoint: c})
				c.CRC32C++
				requireSameEncoding(t, checkpoint.Upserted{Checkpoint: c})
				c.CRC32C, c.MigrationID = crc, uuid.Nil
				requireSameEncoding(t, checkpoint.Upserted{Checkpoint: c})
			}
		}
		length := int(min(n, 2*checkpoint.MaxEventBytes))
		for kind := range checkpoint.CompensationKind(7) {
			c := checkpoint.Compensation{Kind: kind, GroupID: n, PeerID: ^n, VShardID: uint32(n)}
			for _, reason := range []string{"", "größer", "a\xffb"} {
				requireSameEncoding(t, checkpoint.Aborted{MigrationID: goldenID, Reason: reason, Compensations: []checkpoint.Compensation{c}, TimestampMS: n})
			}
			requireSameEncoding(t, checkpoint.Aborted{MigrationID: goldenID, Compensations: slices.Repeat([]checkpoint.Compensation{c}, length)})
		}
		for around := -40; around <= 1; around++ {
			requireSameEncoding(t, checkpoint.Aborted{MigrationID: goldenID, Reason: strings.Repeat("x", max(0, length+around))})
			requireSameEncoding(t, checkpoint.AbortBegun{MigrationID: goldenID, Reason: strings.Repeat("x", max(0, length+around)), Epoch: n})
		}
		for _, epoch := range []uint64{0, n, ^n} {
			c, err := checkpoint.New(goldenID, 1, checkpoint.CatchUp{}, n)
			require.NoError(t, err)
			requireSameEncoding(t, checkpoint.Upserted{Checkpoint: c, Epoch: epoch})
			requireSameEncoding(t, checkpoint.Aborted{MigrationID: goldenID, Reason: "r", TimestampMS: n, Epoch: epoch})
			requireSameEncoding(t, checkpoint.Removed{MigrationID: goldenID, TimestampMS: n, Epoch: epoch})
			requireSameEncoding(t, checkpoint.AbortBegun{MigrationID: goldenID, Reason: "r", TimestampMS: n, Epoch: epoch})
			requireSameEncoding(t, checkpoint.Compensated{MigrationID: goldenID, Step: uint32(n), TimestampMS: n, Epoch: epoch})
			requireSameEncoding(t, checkpoint.EpochRaised{MigrationID: goldenID, TimestampMS: n, Epoch: epoch})
			requireSameEncoding(t, checkpoint.Digest{State: [32]byte{byte(n)}, Chain: [32]byte{31: byte(n)}, TimestampMS: n, Epoch: epoch})
			requireSameEncoding(t, checkpoint.Restored{Checkpoint: c, Epoch: epoch, Facts: checkpoint.RestoredFacts{
				SourceNode: n, TargetNode: n, SourceGroup: n, WritePauseBudgetUS: n, StartedAtHLC: checkpoint.HLC{WallNS: n, Logical: uint32(n)},
				HasTarget: true, HasSource: n%2 == 0, FurthestPhase: checkpoint.Phase(n % 8), RecordedPhases: uint8(n), HighestAttempt: [6]uint32{1: uint32(n)},
				Targets: slices.Repeat([]checkpoint.Target{{GroupID: n, PeerID: ^n}}, int(n%20)),
			}})
		}
		requireSameEncoding(t, checkpoint.Removed{TimestampMS: n})
		requireSameEncoding(t, checkpoint.Compensated{TimestampMS: n})
		requireSameEncoding(t, checkpoint.EpochRaised{TimestampMS: n, Epoch: 1})
	}
	for _, p := range []checkpoint.Payload{nil, &checkpoint.CatchUp{}, (*checkpoint.AddLearner)(nil)} {
		requireSamePayloadEncoding(t, p)
		requireSameEncoding(t, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: goldenID, Payload: p}})
	}
	for _, e := range []checkpoint.Event{nil, &checkpoint.Removed{}, (*checkpoint.Upserted)(nil), checkpoint.Aborted{}, checkpoint.AbortBegun{}} {
		requireSameEncoding(t, e)
	}
}

// If a valid event is changed by any one mutation, the decoder returns the same value and the same
// error as the reference.
func TestCodec_DecodesMutatedEventsAsTheReference(t *testing.T) {
	for _, e := range exampleEvents(t) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		eachMutation(b, func(mutated []byte) { requireSameDecoding(t, mutated) })
		switch e.(type) { // the position is read in the same way in all other events
		case checkpoint.Removed, checkpoint.Digest:
			eachMutation(checkpoint.AppendPosition(b, 300, 1), func(mutated []byte) { requireSameDecoding(t, mutated) })
		}
	}
}

// Check accepts the events that DecodeEvent accepts, and returns its error for all other bytes. The
// bytes are an event of each kind and phase, with each bit flipped and with each bit of the payload
// flipped and the checksum corrected, and every beginning of them.
func TestCodec_ChecksAsItDecodes(t *testing.T) {
	for _, e := range exampleEvents(t) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		require.NoError(t, checkpoint.Check(b))
		for bit := range 8 * len(b) {
			flipped := slices.Clone(b)
			flipped[bit/8] ^= 1 << (bit % 8)
			requireSameDecoding(t, flipped)
			requireSameDecoding(t, b[:bit/8])
		}
		u, ok := e.(checkpoint.Upserted)
		if !ok {
			continue
		}
		payload, err := checkpoint.EncodePayload(u.Checkpoint.Payload)
		require.NoError(t, err)
		for bit := range 8 * len(payload) {
			flipped := slices.Clone(payload)
			flipped[bit/8] ^= 1 << (bit % 8)
			requireSameDecoding(t, checkpoint.UncheckedUpserted(goldenID, uint64(u.Checkpoint.Phase()), flipped))
		}
	}
}

// If a valid payload is changed by any one mutation, the decoder agrees with the reference. This
// holds for the payload alone and in an event with the right checksum of the mutated payload.
func TestCodec_DecodesMutatedPayloadsAsTheReference(t *testing.T) {
	for _, p := range examplePayloads() {
		b, err := checkpoint.EncodePayload(p)
		require.NoError(t, err)
		eachMutation(b, func(mutated []byte) {
			requireSamePayloadDecoding(t, p.Phase(), mutated)
			requireSameDecoding(t, checkpoint.UncheckedUpserted(goldenID, uint64(p.Phase()), mutated))
		})
	}
}

// The decoder agrees with the reference if a payload is decoded as one of another or of an invalid
// phase.
func TestCodec_DecodesOtherPhasesAsTheReference(t *testing.T) {
	for _, p := range examplePayloads() {
		b, err := checkpoint.EncodePayload(p)
		require.NoError(t, err)
		for _, phase := range []uint64{0, 1, 2, 3, 4, 5, 6, 7, 23, 24, 255, 256, 257, 258, math.MaxUint64} {
			requireSamePayloadDecoding(t, checkpoint.Phase(phase), b)
			requireSameDecoding(t, checkpoint.UncheckedUpserted(goldenID, phase, b))
		}
	}
}

// The decoder agrees with the reference on aborts that EncodeEvent rejects, even if their bytes are
// in the deterministic encoding.
func TestCodec_DecodesRefusedAbortsAsTheReference(t *testing.T) {
	comps := func(n int, kind checkpoint.CompensationKind) []checkpoint.Compensation {
		return slices.Repeat([]checkpoint.Compensation{{Kind: kind, PeerID: math.MaxUint64}}, n)
	}
	for around := -40; around <= 1; around++ {
		requireSameDecoding(t, checkpoint.UncheckedAborted(checkpoint.Aborted{
			MigrationID: goldenID, Reason: strings.Repeat("x", checkpoint.MaxEventBytes+around),
		}))
		requireSameDecoding(t, checkpoint.UncheckedAborted(checkpoint.Aborted{
			MigrationID: goldenID, Compensations: comps(checkpoint.MaxEventBytes/13+around, checkpoint.RemoveVoter),
		}))
	}
	for name, e := range map[string]checkpoint.Aborted{
		"nil id":               {Reason: "r"},
		"reason not UTF-8":     {MigrationID: goldenID, Reason: "a\xffb"},
		"reason cut in a rune": {MigrationID: goldenID, Reason: "größer"[:3]},
		"no compensation kind": {MigrationID: goldenID, Compensations: comps(1, 0)},
		"unknown compensation": {MigrationID: goldenID, Compensations: comps(2, 5)},
	} {
		b := checkpoint.UncheckedAborted(e)
		_, err := checkpoint.DecodeEvent(b)
		require.Error(t, err, name)
		requireSameDecoding(t, b)
	}
}

// DecodeUpserted returns an upserted event's checkpoint, and refuses an event of another kind.
func TestDecodeUpserted(t *testing.T) {
	for name, e := range exampleEvents(t) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		c, err := checkpoint.DecodeUpserted(b)
		if u, ok := e.(checkpoint.Upserted); ok {
			require.NoError(t, err, name)
			require.Equal(t, u.Checkpoint, c, name)
			continue
		}
		require.ErrorIs(t, err, checkpoint.ErrNotUpserted, name)
		require.ErrorContains(t, err, e.Migration().String(), name)
		require.Zero(t, c)
	}
	_, err := checkpoint.DecodeUpserted([]byte{0xA0})
	require.ErrorIs(t, err, checkpoint.ErrMalformed)
}

// The encoder allocates nothing if dst is large enough. The decoder allocates only memory
// of the result. Check allocates nothing for an event.
func TestCodec_Allocations(t *testing.T) {
	allocations := func(f func() error) float64 {
		return testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	dst := make([]byte, 0, 1024)
	for name, e := range exampleEvents(t) {
		want := 1.0 // the Event
		switch e := e.(type) {
		case checkpoint.Upserted:
			want = 2 // its payload too
			require.Zero(t, allocations(func() error { _, err := checkpoint.AppendUpserted(dst, &e.Checkpoint); return err }), name)
		case checkpoint.Aborted:
			if e.Reason != "" {
				want++
			}
			if len(e.Compensations) > 0 {
				want++
			}
		case checkpoint.AbortBegun:
			want += 2
		case checkpoint.Restored:
			want++ // its payload
			if e.Facts.Targets != nil {
				want++
			}
			if a := e.Facts.Abort; a != nil {
				want++
				if a.Reason != "" {
					want++
				}
				if len(a.Compensations) > 0 {
					want += 2 // with Done
				}
			}
		}
		require.Zero(t, allocations(func() error { _, err := checkpoint.AppendEvent(dst, e); return err }), name)
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		require.Equal(t, want, allocations(func() error { _, err := checkpoint.DecodeEvent(b); return err }), name)
		require.Zero(t, allocations(func() error { return checkpoint.Check(b) }), name)
		if checkpoint.KindOf(e) == checkpoint.KindUpserted {
			require.Equal(t, 1.0, allocations(func() error { _, err := checkpoint.DecodeUpserted(b); return err }), name)
		}
	}
}

// The largest payload and the largest upsert have exactly the lengths for which the encoder
// provides memory.
func TestCodec_LargestEncodings(t *testing.T) {
	payloadBytes, upsertedBytes := 0, 0
	for _, p := range payloadsOf(math.MaxUint64, true) {
		b, err := checkpoint.ReferenceEncodePayload(p)
		require.NoError(t, err)
		payloadBytes = max(payloadBytes, len(b))
		c, err := checkpoint.New(goldenID, math.MaxUint32, p, math.MaxUint64)
		require.NoError(t, err)
		require.Greater(t, c.CRC32C, uint32(math.MaxUint16), "a checksum of the largest size too")
		b, err = checkpoint.ReferenceEncodeEvent(checkpoint.Upserted{Checkpoint: c})
		require.NoError(t, err)
		upsertedBytes = max(upsertedBytes, len(b))
	}
	require.Equal(t, checkpoint.MaxPayloadBytes, payloadBytes)
	require.Equal(t, checkpoint.MaxUpsertedBytes, upsertedBytes)
}

// The fast path and the reference return the same result for any bytes, and for the encoding of an
// event made from these bytes, changed by one mutation.
func FuzzCodecEqualsReference(f *testing.F) {
	names := slices.Sorted(maps.Keys(mutations))
	for _, e := range exampleEvents(f) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(f, err)
		f.Add(b, uint8(0), uint8(0), uint64(0))
	}
	for i := range uint8(20) {
		f.Add(append([]byte{1, 16 + 32*(i%8)}, bytes.Repeat([]byte{1, 2 + i}, 40)...), i, i, boundaries[i%16])
	}
	for i := range names {
		f.Add([]byte(goldenID.String()), uint8(i), uint8(i), boundaries[i%len(boundaries)])
	}
	f.Fuzz(func(t *testing.T, b []byte, mutation, place uint8, n uint64) {
		mutate := mutations[names[int(mutation)%len(names)]]
		phase := checkpoint.Phase(n)
		requireSameDecoding(t, b)
		requireSamePayloadDecoding(t, phase, b)
		requireSameDecoding(t, checkpoint.UncheckedUpserted(goldenID, n, b))
		requireSameDecoding(t, mutate(b, int(place), n))

		e := eventFrom(b)
		requireSameEncoding(t, e)
		if encoded, err := checkpoint.EncodeEvent(e); err == nil {
			requireSameDecoding(t, mutate(encoded, int(place), n))
		}
		if u, ok := e.(checkpoint.Upserted); ok {
			payload, err := checkpoint.EncodePayload(u.Checkpoint.Payload)
			require.NoError(t, err)
			phase := u.Checkpoint.Payload.Phase()
			mutated := mutate(payload, int(place), n)
			requireSamePayloadDecoding(t, phase, mutated)
			requireSameDecoding(t, checkpoint.UncheckedUpserted(goldenID, uint64(phase), mutated))
		}
	})
}

// eachMutation calls try with b and with every result of one mutation of b. With -short it uses only
// some of the mutations.
func eachMutation(b []byte, try func([]byte)) {
	try(b)
	values := boundaries
	if testing.Short() {
		values = []uint64{1, math.MaxUint8 + 2, math.MaxUint32 + 1}
	}
	for _, mutate := range mutations {
		for place := 0; ; place++ {
			if mutate(b, place, 0) == nil {
				break
			}
			for _, n := range values {
				try(mutate(b, place, n))
			}
		}
	}
}

func requireSameEncoding(t *testing.T, e checkpoint.Event) {
	want, wantErr := checkpoint.ReferenceEncodeEvent(e)
	got, err := checkpoint.AppendEvent([]byte("before"), e)
	requireSameError(t, wantErr, err, e)
	if !bytes.Equal(got, append([]byte("before"), want...)) {
		require.Equal(t, want, got, "%v", e)
	}
	if wantErr != nil {
		return
	}
	requireSameDecoding(t, want)
	back, ok := checkpoint.FastDecodeEvent(want)
	require.True(t, ok, "the fast path must decode all that is encoded: %v", e)
	switch a := e.(type) {
	case checkpoint.Aborted:
		a.Compensations = append([]checkpoint.Compensation(nil), a.Compensations...)
		e = a
	case checkpoint.AbortBegun:
		a.Compensations = append([]checkpoint.Compensation(nil), a.Compensations...)
		e = a
	}
	if !reflect.DeepEqual(e, back) {
		require.Equal(t, e, back)
	}
}

func requireSamePayloadEncoding(t *testing.T, p checkpoint.Payload) {
	want, wantErr := checkpoint.ReferenceEncodePayload(p)
	got, err := checkpoint.EncodePayload(p)
	requireSameError(t, wantErr, err, p)
	require.Equal(t, want, got)
	if wantErr == nil {
		_, ok := checkpoint.FastDecodePayload(p.Phase(), want)
		require.True(t, ok, "the fast path must decode all that is encoded: %v", p)
	}
}

// requireSameDecoding compares both paths of the decoder. If the fast path decodes the bytes, they
// must be the deterministic encoding.
func requireSameDecoding(t *testing.T, b []byte) {
	want, wantErr := checkpoint.ReferenceDecodeEvent(b)
	got, err := checkpoint.DecodeEvent(b)
	requireSameError(t, wantErr, err, b)
	requireSameError(t, wantErr, checkpoint.Check(b), b)
	if !reflect.DeepEqual(want, got) {
		require.Equal(t, want, got, "%x", b)
	}
	c, err := checkpoint.DecodeUpserted(b)
	if u, ok := want.(checkpoint.Upserted); ok || wantErr != nil {
		requireSameError(t, wantErr, err, b)
		if !reflect.DeepEqual(u.Checkpoint, c) {
			require.Equal(t, u.Checkpoint, c, "%x", b)
		}
	} else {
		require.ErrorIs(t, err, checkpoint.ErrNotUpserted)
	}
	e, ok := checkpoint.FastDecodeEvent(b)
	require.Equal(t, ok, checkpoint.FastCheck(b), "%x", b)
	if ok {
		again, err := checkpoint.ReferenceEncodeEvent(e)
		require.NoError(t, err)
		index, term, ok := checkpoint.PeekPosition(b)
		require.True(t, ok)
		again = checkpoint.AppendPosition(again, index, term)
		require.Equal(t, again, b)
		_, _, ok = checkpoint.Peek(b)
		require.True(t, ok)
	}
	if kind, id, ok := checkpoint.Peek(b); ok && wantErr == nil {
		require.Equal(t, checkpoint.KindOf(want), kind)
		require.Equal(t, want.Migration(), id)
	}
	var unknown *checkpoint.UnknownKindError
	if epoch, ok := checkpoint.PeekEpoch(b); ok && wantErr == nil {
		require.Equal(t, checkpoint.EpochOf(want), epoch, "%x", b)
	} else if ok && errors.As(wantErr, &unknown) {
		require.Equal(t, unknown.Epoch, epoch, "%x", b)
	}
}

func requireSamePayloadDecoding(t *testing.T, phase checkpoint.Phase, b []byte) {
	want, wantErr := checkpoint.ReferenceDecodePayload(phase, b)
	got, err := checkpoint.DecodePayload(phase, b)
	requireSameError(t, wantErr, err, b)
	if want != got {
		require.Equal(t, want, got, "%x", b)
	}
}

func requireSameError(t *testing.T, want, got error, of any) {
	if (want == nil) != (got == nil) || want != nil && want.Error() != got.Error() {
		require.Equal(t, want, got, "%v", of)
		require.EqualError(t, got, want.Error(), "%v", of)
	}
}

// exampleEvents returns events of all kinds, also of kinds that testdata/golden.json does not have.
func exampleEvents(t testing.TB) map[string]checkpoint.Event {
	events := goldenEvents(t)
	for _, p := range payloadsOf(math.MaxUint64, true) {
		c, err := checkpoint.New(goldenID, math.MaxUint32, p, math.MaxUint64)
		require.NoError(t, err)
		events["Upserted "+p.Phase().String()+" of the largest size"] = checkpoint.Upserted{Checkpoint: c}
	}
	maps.Copy(events, abortEvents(t))
	maps.Copy(events, replicaEvents(t))
	return events
}

// examplePayloads have numbers of all sizes, or of two with -short.
func examplePayloads() []checkpoint.Payload {
	sizes := []uint64{math.MaxUint16, 1, math.MaxUint8, math.MaxUint32, math.MaxUint64}
	if testing.Short() {
		sizes = sizes[:2]
	}
	var payloads []checkpoint.Payload
	for i, n := range sizes {
		payloads = append(payloads, payloadsOf(n, i%2 == 0)...)
	}
	return payloads
}

// payloadsOf returns a payload of each type, all of whose numbers have the value n.
func payloadsOf(n uint64, yes bool) []checkpoint.Payload {
	shard := uint32(n)
	return []checkpoint.Payload{
		checkpoint.AddLearner{
			VShardID: shard, SourceNode: n, TargetNode: n, SourceGroup: n, WritePauseBudgetUS: n,
			StartedAtHLC: checkpoint.HLC{WallNS: n, Logical: shard},
		},
		checkpoint.CatchUp{VShardID: shard, LearnerLogIndexAtAdd: n},
		checkpoint.PromoteLearner{VShardID: shard, TargetNode: n, SourceGroup: n},
		checkpoint.LeadershipTransfer{VShardID: shard, TargetIsVoter: yes, NewLeaderNodeID: n, SourceGroup: n},
		checkpoint.Cutover{VShardID: shard, NewLeaderNodeID: n, SourceGroup: n},
		checkpoint.Complete{VShardID: shard, ActualPauseUS: n, GhostStubInstalled: yes},
	}
}

// eventFrom returns an event that consists of the bytes. Few of them make a valid one already.
func eventFrom(b []byte) checkpoint.Event {
	take := func() (n uint64) { // of as many bytes as the first one says
		if len(b) == 0 {
			return 0
		}
		size := int(b[0] % 9)
		for b = b[1:]; size > 0 && len(b) > 0; size-- {
			n, b = n<<8|uint64(b[0]), b[1:]
		}
		return n
	}
	choice, id, timeMS := take(), goldenID, take()
	if choice%16 == 15 {
		id = uuid.Nil
	}
	epoch := choice >> 9
	if choice%32 == 16 {
		return digestOrRestored(choice>>5%8, id, timeMS, epoch, take)
	}
	switch choice % 8 {
	case 0:
		switch choice >> 6 % 4 {
		case 0:
			return checkpoint.Removed{MigrationID: id, TimestampMS: timeMS, Epoch: epoch}
		case 1:
			return checkpoint.Compensated{MigrationID: id, Step: uint32(take()), TimestampMS: timeMS, Epoch: epoch}
		}
		return checkpoint.EpochRaised{MigrationID: id, TimestampMS: timeMS, Epoch: epoch}
	case 1:
		a := checkpoint.Aborted{MigrationID: id, TimestampMS: timeMS, Epoch: epoch}
		for range take() % 8 {
			a.Compensations = append(a.Compensations, checkpoint.Compensation{
				Kind: checkpoint.CompensationKind(1 + take()%5), GroupID: take(), PeerID: take(), VShardID: uint32(take()),
			})
		}
		a.Reason = string(b)
		if choice>>6%2 == 1 {
			return checkpoint.AbortBegun(a)
		}
		return a
	}
	p := payloadsOf(take(), choice%2 == 0)[choice%8-2]
	if add, ok := p.(checkpoint.AddLearner); ok {
		add.TargetNode, add.SourceGroup, add.StartedAtHLC = take(), take(), checkpoint.HLC{WallNS: take(), Logical: uint32(take())}
		p = add
	}
	crc, _ := checkpoint.PayloadCRC32C(p)
	return checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{
		MigrationID: id, Attempt: uint32(take()), Payload: p, CRC32C: crc ^ uint32(choice>>8&1), TimestampMS: timeMS,
	}, Epoch: epoch}
}

// digestOrRestored returns an event with the numbers that take returns.
func digestOrRestored(choice uint64, id checkpoint.MigrationID, timeMS, epoch uint64, take func() uint64) checkpoint.Event {
	if choice == 0 {
		return checkpoint.Digest{State: [32]byte{byte(take())}, Chain: [32]byte{31: byte(take())}, TimestampMS: timeMS, Epoch: epoch}
	}
	c, _ := checkpoint.New(id, uint32(take()), checkpoint.CatchUp{LearnerLogIndexAtAdd: take()}, timeMS)
	c.MigrationID = id
	f := checkpoint.RestoredFacts{
		SourceNode: take(), TargetNode: take(), SourceGroup: take(), StartedAtHLC: checkpoint.HLC{Logical: uint32(take())},
		HasTarget: choice&2 != 0, HasSource: choice&4 != 0, FurthestPhase: checkpoint.Phase(take()), RecordedPhases: uint8(take()),
		HighestAttempt: [6]uint32{1: uint32(take()), 5: uint32(take())},
	}
	for range take() % 20 {
		f.Targets = append(f.Targets, checkpoint.Target{GroupID: take(), PeerID: take()})
	}
	if n := take() % 20; n > 0 {
		f.Abort = &checkpoint.RestoredAbort{Reason: "r", TimestampMS: take(), BeforeCheckpoint: n%2 == 0}
		for range n / 2 {
			f.Abort.Compensations = append(f.Abort.Compensations, checkpoint.Compensation{Kind: checkpoint.CompensationKind(1 + take()%5)})
			f.Abort.Done = append(f.Abort.Done, take()%2 == 1)
		}
	}
	return checkpoint.Restored{Checkpoint: c, Facts: f, Epoch: epoch}
}

// The checksum of an event that is not upserted is the CRC32C of its bytes without the keys 11 to 13,
// as docs/FORMAT.md describes them. The checksum of an upserted event is that of its payload. The
// epoch changes neither.
func TestEventCRC32C(t *testing.T) {
	id := checkpoint.MigrationID{15: 7}
	idBytes := "\x02\x50\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07"
	c, err := checkpoint.New(id, 3, checkpoint.CatchUp{VShardID: 22, LearnerLogIndexAtAdd: 23}, 9)
	require.NoError(t, err)
	for encoded, e := range map[string]checkpoint.Event{
		"\xa3\x01\x03" + idBytes + "\x03\x09": checkpoint.Removed{MigrationID: id, TimestampMS: 9},
		"\xa5\x01\x02" + idBytes + "\x03\x09\x08\x61x\x09\x81\x84\x01\x18\x64\x1b\x00\x20\x00\x00\x00\x00\x00\x01\x00": checkpoint.Aborted{
			MigrationID: id, Reason: "x", TimestampMS: 9,
			Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 100, PeerID: 1<<53 + 1}},
		},
		"\xa5\x01\x04" + idBytes + "\x03\x09\x08\x61x\x09\x80": checkpoint.AbortBegun{MigrationID: id, Reason: "x", TimestampMS: 9, Epoch: 3},
		"\xa4\x01\x05" + idBytes + "\x03\x09\x0a\x19\x01\x00":  checkpoint.Compensated{MigrationID: id, Step: 256, TimestampMS: 9, Epoch: 3},
		"\xa3\x01\x06" + idBytes + "\x03\x09":                  checkpoint.EpochRaised{MigrationID: id, TimestampMS: 9, Epoch: 3},
		"\xa2\x01\x16\x02\x17":                                 checkpoint.Upserted{Checkpoint: c, Epoch: 3},
		"\xa5\x01\x07\x02\x50" + strings.Repeat("\xff", 16) + "\x03\x09\x0e\x58\x20" + strings.Repeat("\x05", 32) + "\x0f\x58\x20" + strings.Repeat("\x06", 32): checkpoint.Digest{
			State: [32]byte(bytes.Repeat([]byte{5}, 32)), Chain: [32]byte(bytes.Repeat([]byte{6}, 32)), TimestampMS: 9, Epoch: 3,
		},
		"\xa8\x01\x08" + idBytes + "\x03\x09\x04\x03\x05\x02\x06\x45\xa2\x01\x16\x02\x17\x07\x1a\xdf\xdd\x7b\x29\x10\xa3\x08\x02\x09\x02\x0c\x86\x00\x03\x00\x00\x00\x00": checkpoint.Restored{
			Checkpoint: c, Facts: checkpoint.RestoredFacts{FurthestPhase: 2, RecordedPhases: 2, HighestAttempt: [6]uint32{1: 3}}, Epoch: 3,
		},
	} {
		got, err := checkpoint.EventCRC32C(e)
		require.NoError(t, err)
		require.Equal(t, crc32.Checksum([]byte(encoded), crc32.MakeTable(crc32.Castagnoli)), got, "%T", e)
	}
	_, err = checkpoint.EventCRC32C(checkpoint.Removed{})
	require.ErrorIs(t, err, checkpoint.ErrNilMigrationID)
	_, err = checkpoint.EventCRC32C(checkpoint.Upserted{})
	require.ErrorIs(t, err, checkpoint.ErrNilPayload)
}
