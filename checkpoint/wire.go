package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/fxamacker/cbor/v2"
)

// This file has the reference decoder, which decodes by reflection. It is slower than the fast path
// in decode.go. It runs only if the fast path returns false, so never for an event that AppendEvent
// wrote. It accepts an event in every form of CBOR that newDecMode allows, and it returns all errors
// of decoding.

// eventWire holds the keys of all kinds of event. A pointer is nil if the key is missing.
type eventWire struct {
	Kind          uint64             `cbor:"1,keyasint"`
	ID            MigrationID        `cbor:"2,keyasint"`
	TimeMS        *uint64            `cbor:"3,keyasint"`
	Attempt       *uint32            `cbor:"4,keyasint"`
	Phase         uint8              `cbor:"5,keyasint"`
	Payload       []byte             `cbor:"6,keyasint"`
	CRC32C        uint32             `cbor:"7,keyasint"`
	Reason        *string            `cbor:"8,keyasint"`
	Compensations []compensationWire `cbor:"9,keyasint"`
	Step          *uint32            `cbor:"10,keyasint"`
	Epoch         uint64             `cbor:"11,keyasint"`
	Index         uint64             `cbor:"12,keyasint"`
	Term          uint64             `cbor:"13,keyasint"`
	State         cbor.ByteString    `cbor:"14,keyasint"`
	Chain         cbor.ByteString    `cbor:"15,keyasint"`
	Facts         cbor.RawMessage    `cbor:"16,keyasint"`
}

type compensationWire struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint8
	GroupID  uint64
	PeerID   uint64
	VShardID uint32
}

// factsWire holds the keys of the facts of a restored event. The json tags are for Fields.
type factsWire struct {
	Flags              uint64        `cbor:"1,keyasint" json:"flags"`
	SourceNode         uint64        `cbor:"2,keyasint" json:"source_node"`
	TargetNode         uint64        `cbor:"3,keyasint" json:"target_node"`
	SourceGroup        uint64        `cbor:"4,keyasint" json:"source_group"`
	WritePauseBudgetUS uint64        `cbor:"5,keyasint" json:"write_pause_budget_us"`
	WallNS             uint64        `cbor:"6,keyasint" json:"started_at_hlc.wall_ns"`
	Logical            uint32        `cbor:"7,keyasint" json:"started_at_hlc.logical"`
	FurthestPhase      uint8         `cbor:"8,keyasint" json:"furthest_phase"`
	RecordedPhases     uint8         `cbor:"9,keyasint" json:"recorded_phases"`
	HighestAttempt     []uint32      `cbor:"12,keyasint" json:"highest_attempt"`
	Targets            []targetWire  `cbor:"13,keyasint" json:"targets"`
	Abort              *abortMapWire `cbor:"14,keyasint" json:"abort"`
}

type targetWire struct {
	_       struct{} `cbor:",toarray"`
	GroupID uint64
	PeerID  uint64
}

// abortMapWire is the abort under way. The event abort_begun has no epoch and no position.
type abortMapWire struct {
	Event  []byte `cbor:"2,keyasint" json:"event"`
	Before uint64 `cbor:"4,keyasint" json:"before_checkpoint"`
	Done   []byte `cbor:"5,keyasint" json:"done"`
}

// headWire holds the keys that every event has.
type headWire struct {
	Kind   uint64      `cbor:"1,keyasint"`
	ID     MigrationID `cbor:"2,keyasint"`
	TimeMS uint64      `cbor:"3,keyasint"`
}

// epochWire holds the epoch of an event of any kind.
type epochWire struct {
	Epoch uint64 `cbor:"11,keyasint"`
}

// positionWire holds the position of an event of any kind.
type positionWire struct {
	Index uint64 `cbor:"12,keyasint"`
	Term  uint64 `cbor:"13,keyasint"`
}

var decMode = newDecMode()

func newDecMode() cbor.DecMode {
	// A simple value, such as simple(8), would be decoded as a number.
	var rejected []func(*cbor.SimpleValueRegistry) error
	for n := range 1 << 8 {
		if v := cbor.SimpleValue(n); n < 20 || n > 31 {
			rejected = append(rejected, cbor.WithRejectedSimpleValue(v))
		}
	}
	simple, err := cbor.NewSimpleValueRegistryFromDefaults(rejected...)
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := cbor.DecOptions{
		SimpleValues:     simple,
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		UTF8:             cbor.UTF8RejectInvalid,
		MaxNestedLevels:  8,
		MaxArrayElements: MaxEventBytes,
		MaxMapPairs:      1024,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return dec
}

// decodeWire is the reference for DecodeEvent.
func decodeWire(b []byte) (Event, error) {
	if len(b) > MaxEventBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxEventBytes)
	}
	var w eventWire
	if err := decMode.Unmarshal(b, &w); err != nil {
		var head headWire // an unknown kind may use the other keys with other types
		if decMode.Unmarshal(b, &head) == nil && head.Kind != 0 && !knownKind(head.Kind) {
			var w epochWire
			_ = decMode.Unmarshal(b, &w) // not a number: the event has no epoch
			return nil, &UnknownKindError{Kind: head.Kind, MigrationID: head.ID, TimestampMS: head.TimeMS, Epoch: w.Epoch}
		}
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case w.Kind == 0:
		return nil, missing("kind")
	case w.TimeMS == nil:
		return nil, missing("timestamp")
	case w.ID == (MigrationID{}):
		return nil, ErrNilMigrationID
	}
	switch w.Kind {
	case uint64(KindUpserted):
		return w.upserted()
	case uint64(KindAborted):
		e, err := w.aborted()
		if err != nil {
			return nil, err
		}
		return e, nil
	case uint64(KindRemoved):
		return Removed{MigrationID: w.ID, TimestampMS: *w.TimeMS, Epoch: w.Epoch}, nil
	case uint64(KindAbortBegun):
		e, err := w.aborted()
		if err != nil {
			return nil, err
		}
		return AbortBegun(e), nil
	case uint64(KindCompensated):
		if w.Step == nil {
			return nil, missing("step")
		}
		return Compensated{MigrationID: w.ID, Step: *w.Step, TimestampMS: *w.TimeMS, Epoch: w.Epoch}, nil
	case uint64(KindEpochRaised):
		if w.Epoch == 0 {
			return nil, missing("epoch")
		}
		return EpochRaised{MigrationID: w.ID, TimestampMS: *w.TimeMS, Epoch: w.Epoch}, nil
	case uint64(KindDigest):
		return w.digest()
	case uint64(KindRestored):
		return w.restored()
	}
	return nil, &UnknownKindError{Kind: w.Kind, MigrationID: w.ID, TimestampMS: *w.TimeMS, Epoch: w.Epoch}
}

// knownKind reports whether this version knows the kind n. The number n comes from the event and may
// not fit into a Kind.
func knownKind(n uint64) bool {
	return n < uint64(len(kinds)) && Kind(n).Effect() != EffectUnknown
}

func missing(key string) error { return fmt.Errorf("%w: no %s", ErrMalformed, key) }

func (w *eventWire) upserted() (Event, error) {
	c, err := w.checkpoint()
	if err != nil {
		return nil, err
	}
	return Upserted{c, w.Epoch}, nil
}

func (w *eventWire) checkpoint() (Checkpoint, error) {
	if w.Attempt == nil {
		return Checkpoint{}, missing("attempt")
	}
	if crc := crc32.Checksum(w.Payload, castagnoli); crc != w.CRC32C {
		return Checkpoint{}, &CRCMismatchError{MigrationID: w.ID, Got: w.CRC32C, Want: crc}
	}
	p, err := decodeWirePayload(Phase(w.Phase), w.Payload)
	if err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{MigrationID: w.ID, Attempt: *w.Attempt, Payload: p, CRC32C: w.CRC32C, TimestampMS: *w.TimeMS}, nil
}

func (w *eventWire) digest() (Event, error) {
	e := Digest{TimestampMS: *w.TimeMS, Epoch: w.Epoch}
	if w.ID != StoreID || len(w.State) != len(e.State) || len(w.Chain) != len(e.Chain) {
		return nil, fmt.Errorf("%w: a digest has migration id %s, a state digest of %d bytes and a chained digest of %d bytes",
			ErrMalformed, w.ID, len(w.State), len(w.Chain))
	}
	e.State, e.Chain = [32]byte(w.State.Bytes()), [32]byte(w.Chain.Bytes())
	return e, nil
}

func (w *eventWire) restored() (Event, error) {
	c, err := w.checkpoint()
	if err != nil {
		return nil, err
	}
	if w.Facts == nil {
		return nil, missing("facts")
	}
	f, err := decodeWireFacts(&c, w.Facts)
	if err != nil {
		return nil, err
	}
	return Restored{c, f, w.Epoch}, nil
}

// decodeWireFacts decodes the facts of a checkpoint. It encodes the decoded facts again and returns
// ErrMalformed if the bytes differ. Facts have only one valid encoding, because digests are computed
// over it.
func decodeWireFacts(c *Checkpoint, b []byte) (f RestoredFacts, err error) {
	var w factsWire
	if err := decMode.Unmarshal(b, &w); err != nil {
		return f, fmt.Errorf("%w: facts: %w", ErrMalformed, err)
	}
	f = RestoredFacts{
		SourceNode: w.SourceNode, TargetNode: w.TargetNode, SourceGroup: w.SourceGroup, WritePauseBudgetUS: w.WritePauseBudgetUS,
		StartedAtHLC: HLC{WallNS: w.WallNS, Logical: w.Logical}, HasTarget: w.Flags&factHasTarget != 0, HasSource: w.Flags&factHasSource != 0,
		FurthestPhase: Phase(w.FurthestPhase), RecordedPhases: w.RecordedPhases,
	}
	copy(f.HighestAttempt[:], w.HighestAttempt)
	for _, t := range w.Targets {
		f.Targets = append(f.Targets, Target{t.GroupID, t.PeerID})
	}
	if w.Abort != nil {
		if f.Abort, err = w.Abort.abort(); err != nil {
			return f, err
		}
	}
	if err := f.check(c.Phase(), c.Attempt, len(f.Targets)); err != nil {
		return f, fmt.Errorf("migration %s: %w", c.MigrationID, err)
	}
	again, err := f.append(nil, c.MigrationID)
	if err != nil {
		return f, err
	}
	if !bytes.Equal(again, b) {
		return f, fmt.Errorf("%w: facts are not in their deterministic encoding", ErrMalformed)
	}
	return f, nil
}

func (w *abortMapWire) abort() (*RestoredAbort, error) {
	e, err := decodeWire(w.Event)
	if err != nil {
		// An unknown kind of this event does not make the restored event one of an unknown kind.
		return nil, fmt.Errorf("%w: the abort in the facts: %v", ErrMalformed, err)
	}
	begun, ok := e.(AbortBegun)
	if !ok {
		return nil, fmt.Errorf("%w: the abort in the facts is of kind %s", ErrMalformed, KindOf(e))
	}
	return restoredAbortOf(begun, w.Before != 0, w.Done), nil
}

// aborted decodes an aborted event, or an event of another kind that has the same keys.
func (w *eventWire) aborted() (Aborted, error) {
	if w.Reason == nil {
		return Aborted{}, missing("reason")
	}
	if w.Compensations == nil {
		return Aborted{}, missing("compensations")
	}
	e := Aborted{MigrationID: w.ID, Reason: *w.Reason, TimestampMS: *w.TimeMS, Epoch: w.Epoch}
	for i, c := range w.Compensations {
		if !CompensationKind(c.Kind).known() {
			return Aborted{}, fmt.Errorf("compensation %d: %w: %d", i, ErrUnknownCompensation, c.Kind)
		}
		e.Compensations = append(e.Compensations, Compensation{
			Kind: CompensationKind(c.Kind), GroupID: c.GroupID, PeerID: c.PeerID, VShardID: c.VShardID,
		})
	}
	return e, nil
}

// decodeWirePayload is the reference for DecodePayload. It encodes the decoded payload again and
// returns ErrMalformed if the bytes differ, because a payload has only one valid encoding.
func decodeWirePayload(phase Phase, b []byte) (Payload, error) {
	p, err := ReadPayload(phase, func(into any) error { return decMode.Unmarshal(b, into) })
	if errors.Is(err, ErrUnknownPhase) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s payload: %w", ErrMalformed, phase, err)
	}
	var scratch [maxPayloadBytes]byte
	again, err := appendPayload(scratch[:0], p)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %s payload is not in its deterministic encoding", ErrMalformed, phase)
	}
	return p, nil
}
