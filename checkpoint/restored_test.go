package checkpoint_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"slices"
	"strings"
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
	few := restored(checkpoint.CatchUp{VShardID: 1}, 0, checkpoint.RestoredFacts{FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 2})
	events["Restored with few facts"] = few
	few.Epoch = 300
	events["Restored in an epoch"] = few
	events["Restored with most facts"] = restored(checkpoint.PromoteLearner{VShardID: 22, TargetNode: 4, SourceGroup: 9}, 3, checkpoint.RestoredFacts{
		SourceNode: 5, TargetNode: 4, SourceGroup: 9, WritePauseBudgetUS: 500000, StartedAtHLC: checkpoint.HLC{WallNS: 1 << 60, Logical: 7},
		HasTarget: true, HasSource: true, FurthestPhase: checkpoint.PhaseLeadershipTransfer, RecordedPhases: 0b1111,
		HighestAttempt: [6]uint32{0, 2, 3, math.MaxUint32}, Targets: []checkpoint.Target{{GroupID: 9, PeerID: 3}, {GroupID: 9, PeerID: 4}},
		Abort: &checkpoint.RestoredAbort{Reason: "größer", Compensations: comps, Done: []bool{false, true}, TimestampMS: 300, BeforeCheckpoint: true},
	})
	events["Restored with an abort without steps"] = restored(checkpoint.CatchUp{}, 1, checkpoint.RestoredFacts{
		FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 2, HighestAttempt: [6]uint32{1: 1}, Abort: &checkpoint.RestoredAbort{},
	})
	return events
}

// The bytes of these events, by hand from docs/FORMAT.md. They never change.
func TestGoldenVectors_Replica(t *testing.T) {
	const id = "025001a2062944f175f58bf1d9e9fef8b7a5"
	const storeID = "0250ffffffffffffffffffffffffffffffff"
	zeros := strings.Repeat("00", 32)
	digest := "0e5820" + "01" + strings.Repeat("00", 30) + "02" + "0f5820" + "03" + strings.Repeat("00", 30) + "04"
	few := "031b000001a2062944f1" + "0400" + "0502" + "0645a201010200" + "071a1f1bc14e"
	most := "031b000001a2062944f1" + "0403" + "0503" + "0647a301160204" + "0309" + "071a56970d90"
	facts := "10ac" + "0103" + "0205" + "0304" + "0409" + "051a0007a120" + "061b1000000000000000" + "0707" + "0804" + "090f" +
		"0c8600020" + "31affffffff0000" + "0d82820903820904" +
		"0ea3" + "02582f" + "a50104" + id + "0319012c" + "08686772c3b6c39f6572" + "09828402160300" + "8403160500" + "0401" + "054102"
	golden := map[string]string{
		"Digest":                   "a5" + "0107" + storeID + "031b000001a2062944f1" + digest,
		"Digest in an epoch":       "a6" + "0107" + storeID + "0309" + "0b1bffffffffffffffff" + "0e5820" + zeros + "0f5820" + zeros,
		"Restored with few facts":  "a8" + "0108" + id + few + "10a2" + "0802" + "0902",
		"Restored with most facts": "a8" + "0108" + id + most + facts,
		"Restored in an epoch":     "a9" + "0108" + id + few + "0b19012c" + "10a2" + "0802" + "0902",
		"Restored with an abort without steps": "a8" + "0108" + id + "031b000001a2062944f1" + "0401" + "0502" + "0645a201000200" + "071a" + "ba5a5330" +
			"10a4" + "0802" + "0902" + "0c86000100000000" + "0ea1" + "02581b" + "a50104" + id + "0300" + "0860" + "0980",
	}
	events := replicaEvents(t)
	require.Len(t, events, len(golden))
	for name, e := range events {
		got, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		require.Equal(t, golden[name], hex.EncodeToString(got), name)
	}
}

// AppendPosition adds the index and the term in the order of the keys, also before the keys that only
// some kinds have, and also if this version does not know the kind.
func TestAppendPosition(t *testing.T) {
	for name, e := range exampleEvents(t) {
		plain, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		index, term, ok := checkpoint.PeekPosition(plain)
		require.True(t, ok)
		require.Zero(t, index+term)
		require.Equal(t, plain, checkpoint.AppendPosition(slices.Clone(plain), 0, 0))
		for _, position := range [][2]uint64{{1, 1}, {math.MaxUint64, 24}, {300, 0}, {0, 1}} {
			b := checkpoint.AppendPosition(slices.Clone(plain), position[0], position[1])
			index, term, ok := checkpoint.PeekPosition(b)
			require.True(t, ok, "%s: %x", name, b)
			require.Equal(t, position, [2]uint64{index, term})
			index, term = checkpoint.PositionOf(b)
			require.Equal(t, position, [2]uint64{index, term})
			decoded, ok := checkpoint.FastDecodeEvent(b)
			require.True(t, ok, name)
			require.Equal(t, e, decoded)
			require.True(t, checkpoint.FastCheck(b))
			requireSameDecoding(t, b)
			epoch, ok := checkpoint.PeekEpoch(b)
			require.True(t, ok)
			require.Equal(t, checkpoint.EpochOf(e), epoch)
		}
	}
	newer, err := hex.DecodeString("a3" + "0114" + "025000000000000000000000000000000001" + "18196178") // text under key 25
	require.NoError(t, err)
	b := checkpoint.AppendPosition(slices.Clone(newer), 7, 2)
	require.Equal(t, "a5"+"0114"+"025000000000000000000000000000000001"+"0c07"+"0d02"+"18196178", hex.EncodeToString(b))
	index, term, ok := checkpoint.PeekPosition(b)
	require.True(t, ok)
	require.Equal(t, [2]uint64{7, 2}, [2]uint64{index, term})
}

// PositionOf returns the position of an event in an unusual encoding, too.
func TestPositionOf_AnyEncoding(t *testing.T) {
	b, err := hex.DecodeString("a5" + "0d1802" + "0103" + "025000000000000000000000000000000001" + "0309" + "0c1807") // keys out of order, long forms
	require.NoError(t, err)
	_, err = checkpoint.DecodeEvent(b)
	require.NoError(t, err)
	_, _, ok := checkpoint.PeekPosition(b)
	require.False(t, ok)
	index, term := checkpoint.PositionOf(b)
	require.Equal(t, [2]uint64{7, 2}, [2]uint64{index, term})
}

// The encoding of a restored event is the only one: after any change of one byte it is an error or
// another event, or has another position.
func TestRestored_EveryByteCounts(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	for name, e := range replicaEvents(t) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		b = checkpoint.AppendPosition(b, 1000, 3)
		for at := range b {
			for change := 1; change < 256; change += step {
				b[at] ^= byte(change)
				got, err := checkpoint.DecodeEvent(b)
				index, term := checkpoint.PositionOf(b)
				if err == nil && index == 1000 && term == 3 {
					require.NotEqual(t, e, got, "%s: byte %d changed by %02x", name, at, change)
				}
				b[at] ^= byte(change)
			}
		}
	}
}

// AppendRestored has the index of the row, and is the same as AppendEvent and AppendPosition.
func TestAppendRestored_HasTheIndex(t *testing.T) {
	for name, e := range replicaEvents(t) {
		r, ok := e.(checkpoint.Restored)
		if !ok || r.Epoch > 0 {
			continue
		}
		for _, index := range []uint64{0, 1, math.MaxUint64} {
			want, err := checkpoint.EncodeEvent(r)
			require.NoError(t, err)
			got, err := checkpoint.AppendRestored([]byte("before"), &r.Checkpoint, &r.Facts, index)
			require.NoError(t, err)
			require.Equal(t, "before"+string(checkpoint.AppendPosition(want, index, 0)), string(got), name)
		}
	}
}

// Facts that contradict each other or the checkpoint are neither written nor read.
func TestRestored_InvalidFactsAreRefused(t *testing.T) {
	valid := replicaEvents(t)["Restored with most facts"].(checkpoint.Restored)
	targets := func(n int) []checkpoint.Target { return slices.Repeat([]checkpoint.Target{{GroupID: 1}}, n) }
	for name, change := range map[string]func(*checkpoint.RestoredFacts){
		"no recorded phase":                    func(f *checkpoint.RestoredFacts) { f.RecordedPhases, f.FurthestPhase = 0, 0 },
		"phase of the checkpoint not recorded": func(f *checkpoint.RestoredFacts) { f.RecordedPhases = 0b1011 },
		"furthest phase not recorded":          func(f *checkpoint.RestoredFacts) { f.FurthestPhase = 5 },
		"a phase after the furthest":           func(f *checkpoint.RestoredFacts) { f.RecordedPhases = 0b111111 },
		"an unknown phase":                     func(f *checkpoint.RestoredFacts) { f.RecordedPhases, f.FurthestPhase = 0b1111111, 7 },
		"attempt of a phase not recorded":      func(f *checkpoint.RestoredFacts) { f.HighestAttempt[5] = 1 },
		"attempt below that of the checkpoint": func(f *checkpoint.RestoredFacts) { f.HighestAttempt[2] = 2 },
		"a node without a target":              func(f *checkpoint.RestoredFacts) { f.HasTarget, f.Targets = false, nil },
		"a node without a source":              func(f *checkpoint.RestoredFacts) { f.HasSource = false },
		"targets without a target":             func(f *checkpoint.RestoredFacts) { f.HasTarget, f.TargetNode, f.SourceGroup = false, 0, 0 },
		"one target":                           func(f *checkpoint.RestoredFacts) { f.Targets = targets(1) },
		"too many targets":                     func(f *checkpoint.RestoredFacts) { f.Targets = targets(17) },
	} {
		e := valid
		change(&e.Facts)
		_, err := checkpoint.EncodeEvent(e)
		require.ErrorIs(t, err, checkpoint.ErrInvalidFacts, name)
		b := checkpoint.UncheckedRestored(e)
		_, err = checkpoint.DecodeEvent(b)
		require.ErrorIs(t, err, checkpoint.ErrInvalidFacts, name)
		requireSameDecoding(t, b)
	}
	e := valid
	e.Facts.Abort = &checkpoint.RestoredAbort{Done: []bool{true}}
	_, err := checkpoint.EncodeEvent(e)
	require.ErrorIs(t, err, checkpoint.ErrInvalidFacts)
	e.Facts.Abort = &checkpoint.RestoredAbort{Reason: "a\xffb"}
	_, err = checkpoint.EncodeEvent(e)
	require.ErrorIs(t, err, checkpoint.ErrInvalidUTF8)
}

// An event abort_begun of 60 KiB fits into the restored event of its row, with the largest values of
// everything else.
func TestRestored_LargestAbortFits(t *testing.T) {
	const limit = 60 << 10
	e := replicaEvents(t)["Restored with most facts"].(checkpoint.Restored)
	c, err := checkpoint.New(goldenID, math.MaxUint32, payloadsOf(math.MaxUint64, true)[0], math.MaxUint64)
	require.NoError(t, err)
	most := uint64(math.MaxUint64)
	e.Checkpoint = c
	e.Facts = checkpoint.RestoredFacts{
		SourceNode: most, TargetNode: most, SourceGroup: most, WritePauseBudgetUS: most, StartedAtHLC: checkpoint.HLC{WallNS: most, Logical: math.MaxUint32},
		HasTarget: true, HasSource: true, FurthestPhase: checkpoint.PhaseComplete, RecordedPhases: 0b111111,
		HighestAttempt: [6]uint32(slices.Repeat([]uint32{math.MaxUint32}, 6)), Targets: slices.Repeat([]checkpoint.Target{{GroupID: most, PeerID: most}}, checkpoint.MaxTargets),
	}
	for _, step := range []struct {
		checkpoint.Compensation
		sizeBytes int
	}{
		{checkpoint.Compensation{Kind: checkpoint.RemoveVoter}, 5},
		{checkpoint.Compensation{Kind: checkpoint.RemoveVoter, GroupID: most, PeerID: most, VShardID: math.MaxUint32}, 25},
	} {
		begun := checkpoint.AbortBegun{MigrationID: goldenID, TimestampMS: most}
		begun.Compensations = slices.Repeat([]checkpoint.Compensation{step.Compensation}, (limit-40)/step.sizeBytes)
		encoded, err := checkpoint.EncodeEvent(begun)
		require.NoError(t, err)
		require.InDelta(t, limit, len(encoded), 40)
		e.Facts.Abort = &checkpoint.RestoredAbort{
			Compensations: begun.Compensations, TimestampMS: most, Done: slices.Repeat([]bool{true}, len(begun.Compensations)), BeforeCheckpoint: true,
		}
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		require.LessOrEqual(t, len(checkpoint.AppendPosition(checkpoint.AppendEpoch(b, most), most, most)), checkpoint.MaxEventBytes)
	}
}

// A caller's event must not have the id of the store's own events.
func TestCheckMigrationID(t *testing.T) {
	require.NoError(t, checkpoint.CheckMigrationID(goldenID))
	require.ErrorIs(t, checkpoint.CheckMigrationID(checkpoint.MigrationID{}), checkpoint.ErrNilMigrationID)
	require.ErrorIs(t, checkpoint.CheckMigrationID(checkpoint.StoreID), checkpoint.ErrReservedID)
	require.Equal(t, bytes.Repeat([]byte{0xff}, 16), checkpoint.StoreID[:])
}
