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
}

type compensationWire struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint8
	GroupID  uint64
	PeerID   uint64
	VShardID uint32
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

var decMode = newDecMode()

func newDecMode() cbor.DecMode {
	dec, err := cbor.DecOptions{
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
	if w.Attempt == nil {
		return nil, missing("attempt")
	}
	if crc := crc32.Checksum(w.Payload, castagnoli); crc != w.CRC32C {
		return nil, &CRCMismatchError{MigrationID: w.ID, Got: w.CRC32C, Want: crc}
	}
	p, err := decodeWirePayload(Phase(w.Phase), w.Payload)
	if err != nil {
		return nil, err
	}
	return Upserted{Checkpoint{
		MigrationID: w.ID, Attempt: *w.Attempt, Payload: p, CRC32C: w.CRC32C, TimestampMS: *w.TimeMS,
	}, w.Epoch}, nil
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
