package checkpoint

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"sync"
)

// encoder is the memory of one encoding, to be used again.
type encoder struct {
	payload, event bytes.Buffer
	upserted       upsertedWire
	id             MigrationID
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// encodePayload returns the payload's CBOR, which lies in the encoder.
func (enc *encoder) encodePayload(p Payload) ([]byte, error) {
	if _, err := phaseOf(p); err != nil {
		return nil, err
	}
	enc.payload.Reset()
	if err := encMode.MarshalToBuffer(p, &enc.payload); err != nil {
		return nil, err
	}
	return enc.payload.Bytes(), nil
}

// encodeEvent returns the event's CBOR, which lies in the encoder.
func (enc *encoder) encodeEvent(e Event) ([]byte, error) {
	wire, err := enc.toWire(e)
	if err != nil {
		return nil, err
	}
	return enc.marshal(wire)
}

func (enc *encoder) marshal(wire any) ([]byte, error) {
	enc.event.Reset()
	if err := encMode.MarshalToBuffer(wire, &enc.event); err != nil {
		return nil, err
	}
	return enc.event.Bytes(), nil
}

func (enc *encoder) encodeUpserted(c *Checkpoint) ([]byte, error) {
	if err := enc.upsertedToWire(c); err != nil {
		return nil, err
	}
	return enc.marshal(&enc.upserted)
}

func (enc *encoder) toWire(e Event) (any, error) {
	switch e := e.(type) {
	case Upserted:
		return &enc.upserted, enc.upsertedToWire(&e.Checkpoint)
	case Aborted:
		return abortedToWire(e)
	case Removed:
		if e.MigrationID == (MigrationID{}) {
			return nil, ErrNilMigrationID
		}
		return headWire{Kind: uint64(KindRemoved), ID: e.MigrationID, TimeMS: e.TimestampMS}, nil
	}
	return nil, fmt.Errorf("unknown event type %T: pass Upserted, Aborted or Removed as a value", e)
}

// upsertedToWire sets enc.upserted.
func (enc *encoder) upsertedToWire(c *Checkpoint) error {
	if c.MigrationID == (MigrationID{}) {
		return ErrNilMigrationID
	}
	payload, err := enc.encodePayload(c.Payload)
	if err != nil {
		return fmt.Errorf("migration %s: %w", c.MigrationID, err)
	}
	if crc := crc32.Checksum(payload, castagnoli); crc != c.CRC32C {
		return &CRCMismatchError{MigrationID: c.MigrationID, Got: c.CRC32C, Want: crc}
	}
	enc.id = c.MigrationID
	enc.upserted = upsertedWire{
		Kind: uint64(KindUpserted), ID: enc.id[:], TimeMS: c.TimestampMS,
		Attempt: c.Attempt, Phase: uint8(c.Payload.Phase()), Payload: payload, CRC32C: c.CRC32C,
	}
	return nil
}
