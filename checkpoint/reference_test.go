package checkpoint

import (
	"fmt"
	"hash/crc32"
	"slices"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// The reference encodes by reflection, with the checks that version 1 of the format was defined
// with. The package's own encoder must return the same bytes and the same errors.

type upsertedWire struct {
	Kind    uint64      `cbor:"1,keyasint"`
	ID      MigrationID `cbor:"2,keyasint"`
	TimeMS  uint64      `cbor:"3,keyasint"`
	Attempt uint32      `cbor:"4,keyasint"`
	Phase   uint64      `cbor:"5,keyasint"` // wider than a Phase, for events that are not valid
	Payload []byte      `cbor:"6,keyasint"`
	CRC32C  uint32      `cbor:"7,keyasint"`
	Epoch   uint64      `cbor:"11,keyasint,omitempty"`
}

type abortedWire struct {
	Kind          uint64             `cbor:"1,keyasint"`
	ID            MigrationID        `cbor:"2,keyasint"`
	TimeMS        uint64             `cbor:"3,keyasint"`
	Reason        string             `cbor:"8,keyasint"`
	Compensations []compensationWire `cbor:"9,keyasint"`
	Epoch         uint64             `cbor:"11,keyasint,omitempty"`
}

type digestWire struct {
	Kind   uint64      `cbor:"1,keyasint"`
	ID     MigrationID `cbor:"2,keyasint"`
	TimeMS uint64      `cbor:"3,keyasint"`
	Epoch  uint64      `cbor:"11,keyasint,omitempty"`
	State  []byte      `cbor:"14,keyasint"`
	Chain  []byte      `cbor:"15,keyasint"`
}

type restoredWire struct {
	upsertedWire
	Facts map[uint64]any `cbor:"16,keyasint"`
}

type stepWire struct {
	Kind   uint64      `cbor:"1,keyasint"`
	ID     MigrationID `cbor:"2,keyasint"`
	TimeMS uint64      `cbor:"3,keyasint"`
	Step   uint32      `cbor:"10,keyasint"`
	Epoch  uint64      `cbor:"11,keyasint,omitempty"`
}

type emptyWire struct {
	Kind   uint64      `cbor:"1,keyasint"`
	ID     MigrationID `cbor:"2,keyasint"`
	TimeMS uint64      `cbor:"3,keyasint"`
	Epoch  uint64      `cbor:"11,keyasint,omitempty"`
}

var encMode = func() cbor.EncMode {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return enc
}()

// The lengths for which the encoder allocates memory.
const (
	MaxPayloadBytes  = maxPayloadBytes
	MaxUpsertedBytes = maxUpsertedBytes
)

// The two paths of the decoder.
var (
	ReferenceDecodeEvent   = decodeWire
	ReferenceDecodePayload = decodeWirePayload
	FastDecodeEvent        = readEvent
	FastDecodePayload      = readPayload
	FastCheck              = isEvent
)

// ReferenceEncodePayload is EncodePayload by reflection.
func ReferenceEncodePayload(p Payload) ([]byte, error) {
	if _, err := phaseOf(p); err != nil {
		return nil, err
	}
	return encMode.Marshal(p)
}

// ReferenceEncodeEvent is EncodeEvent by reflection.
func ReferenceEncodeEvent(e Event) ([]byte, error) {
	wire, err := toWire(e)
	if err != nil {
		return nil, err
	}
	b, err := encMode.Marshal(wire)
	if err == nil && len(b) > MaxEventBytes {
		return nil, fmt.Errorf("%w: migration %s: %d bytes encoded, at most %d", ErrTooLarge, e.Migration(), len(b), MaxEventBytes)
	}
	return b, err
}

func toWire(e Event) (any, error) {
	switch e := e.(type) {
	case Upserted:
		c := e.Checkpoint
		if c.MigrationID == (MigrationID{}) {
			return nil, ErrNilMigrationID
		}
		payload, err := ReferenceEncodePayload(c.Payload)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", c.MigrationID, err)
		}
		if crc := crc32.Checksum(payload, castagnoli); crc != c.CRC32C {
			return nil, &CRCMismatchError{MigrationID: c.MigrationID, Got: c.CRC32C, Want: crc}
		}
		return upsertedWire{
			uint64(KindUpserted), c.MigrationID, c.TimestampMS, c.Attempt, uint64(c.Payload.Phase()), payload, c.CRC32C, e.Epoch,
		}, nil
	case Aborted:
		return abortedToWire(KindAborted, e)
	case AbortBegun:
		return abortedToWire(KindAbortBegun, Aborted(e))
	case Removed:
		if e.MigrationID == (MigrationID{}) {
			return nil, ErrNilMigrationID
		}
		return emptyWire{uint64(KindRemoved), e.MigrationID, e.TimestampMS, e.Epoch}, nil
	case Compensated:
		if e.MigrationID == (MigrationID{}) {
			return nil, ErrNilMigrationID
		}
		return stepWire{uint64(KindCompensated), e.MigrationID, e.TimestampMS, e.Step, e.Epoch}, nil
	case EpochRaised:
		if e.MigrationID == (MigrationID{}) {
			return nil, ErrNilMigrationID
		}
		if e.Epoch == 0 {
			return nil, fmt.Errorf("migration %s: %w", e.MigrationID, ErrNoEpoch)
		}
		return emptyWire{uint64(KindEpochRaised), e.MigrationID, e.TimestampMS, e.Epoch}, nil
	case Digest:
		return digestWire{uint64(KindDigest), StoreID, e.TimestampMS, e.Epoch, e.State[:], e.Chain[:]}, nil
	case Restored:
		upserted, err := toWire(Upserted{e.Checkpoint, e.Epoch})
		if err != nil {
			return nil, err
		}
		facts, err := factsToWire(&e)
		u := upserted.(upsertedWire)
		u.Kind = uint64(KindRestored)
		return restoredWire{u, facts}, err
	}
	return nil, fmt.Errorf("unknown event type %T: pass an event of package checkpoint as a value", e)
}

// UncheckedRestored returns the deterministic CBOR of a restored event with facts that EncodeEvent may
// refuse.
func UncheckedRestored(e Restored) []byte {
	upserted, err := toWire(Upserted{e.Checkpoint, e.Epoch})
	if err != nil {
		panic(err)
	}
	facts, err := uncheckedFacts(&e)
	if err != nil {
		panic(err)
	}
	u := upserted.(upsertedWire)
	u.Kind = uint64(KindRestored)
	return uncheckedBytes(restoredWire{u, facts})
}

// factsToWire encodes the facts of a restored event as maps.
func factsToWire(e *Restored) (map[uint64]any, error) {
	f := &e.Facts
	if err := f.check(e.Checkpoint.Phase(), e.Checkpoint.Attempt, len(f.Targets)); err != nil {
		return nil, fmt.Errorf("migration %s: %w", e.Checkpoint.MigrationID, err)
	}
	return uncheckedFacts(e)
}

func uncheckedFacts(e *Restored) (map[uint64]any, error) {
	id, f := e.Checkpoint.MigrationID, &e.Facts
	wire, flags := map[uint64]any{}, uint64(0)
	if f.HasTarget {
		flags++
	}
	if f.HasSource {
		flags += 2
	}
	for key, n := range map[uint64]uint64{
		1: flags, 2: f.SourceNode, 3: f.TargetNode, 4: f.SourceGroup, 5: f.WritePauseBudgetUS, 6: f.StartedAtHLC.WallNS,
		7: uint64(f.StartedAtHLC.Logical), 8: uint64(f.FurthestPhase), 9: uint64(f.RecordedPhases),
	} {
		if n > 0 {
			wire[key] = n
		}
	}
	if slices.Max(f.HighestAttempt[:]) > 0 {
		wire[12] = f.HighestAttempt[:]
	}
	var targets [][]uint64
	for _, t := range f.Targets {
		targets = append(targets, []uint64{t.GroupID, t.PeerID})
	}
	if targets != nil {
		wire[13] = targets
	}
	if f.Abort == nil {
		return wire, nil
	}
	a := f.Abort
	if len(a.Done) != len(a.Compensations) {
		return nil, fmt.Errorf("%w: migration %s: the abort has %d compensations, and Done has %d", ErrInvalidFacts, id, len(a.Compensations), len(a.Done))
	}
	begun, err := abortedToWire(KindAbortBegun, Aborted{MigrationID: id, Reason: a.Reason, Compensations: a.Compensations, TimestampMS: a.TimestampMS})
	if err != nil {
		return nil, err
	}
	abort := map[uint64]any{2: uncheckedBytes(begun)}
	if a.BeforeCheckpoint {
		abort[4] = 1
	}
	if slices.Contains(a.Done, true) {
		done := make([]byte, (len(a.Done)+7)/8)
		for i, yes := range a.Done {
			if yes {
				done[i/8] |= 1 << (i % 8)
			}
		}
		abort[5] = done
	}
	wire[14] = abort
	return wire, nil
}

func abortedToWire(kind Kind, e Aborted) (any, error) {
	if e.MigrationID == (MigrationID{}) {
		return nil, ErrNilMigrationID
	}
	if !utf8.ValidString(e.Reason) {
		return nil, fmt.Errorf("migration %s: %w", e.MigrationID, ErrInvalidUTF8)
	}
	if len(e.Reason)+len(e.Compensations) > MaxEventBytes {
		return nil, fmt.Errorf("%w: migration %s: reason of %d bytes and %d compensations, at most %d bytes encoded",
			ErrTooLarge, e.MigrationID, len(e.Reason), len(e.Compensations), MaxEventBytes)
	}
	for i, c := range e.Compensations {
		if !c.Kind.known() {
			return nil, fmt.Errorf("migration %s: compensation %d: %w: %d", e.MigrationID, i, ErrUnknownCompensation, uint8(c.Kind))
		}
	}
	return uncheckedAborted(kind, e), nil
}

func uncheckedAborted(kind Kind, e Aborted) abortedWire {
	comps := make([]compensationWire, len(e.Compensations)) // not nil, which would be encoded as null
	for i, c := range e.Compensations {
		comps[i] = compensationWire{Kind: uint8(c.Kind), GroupID: c.GroupID, PeerID: c.PeerID, VShardID: c.VShardID}
	}
	return abortedWire{uint64(kind), e.MigrationID, e.TimestampMS, e.Reason, comps, e.Epoch}
}

// UncheckedAborted returns the deterministic CBOR of an abort that EncodeEvent may refuse.
func UncheckedAborted(e Aborted) []byte { return uncheckedBytes(uncheckedAborted(KindAborted, e)) }

// UncheckedUpserted returns the deterministic CBOR of an upsert with the bytes of a payload that
// EncodeEvent may refuse, and with their right checksum.
func UncheckedUpserted(id MigrationID, phase uint64, payload []byte) []byte {
	return uncheckedBytes(upsertedWire{
		uint64(KindUpserted), id, 1795399697649, 2, phase, payload, crc32.Checksum(payload, castagnoli), 0,
	})
}

func uncheckedBytes(wire any) []byte {
	b, err := encMode.Marshal(wire)
	if err != nil {
		panic(err)
	}
	return b
}
