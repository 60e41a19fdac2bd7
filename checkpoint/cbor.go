package checkpoint

import (
	"fmt"
	"hash/crc32"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// MaxEventBytes bounds an encoded event. It keeps one write small enough to be
// batched with others, and a scanner's idea of a plausible frame narrow.
const MaxEventBytes = 64 << 10

// An event is a CBOR map with integer keys. Keys 1 to 3 are in every event, so
// that a reader can say whose an event of an unknown kind is.
//
//	1 kind   2 migration id (16 bytes)   3 timestamp, Unix ms
//	upserted: 4 attempt  5 phase  6 payload (its CBOR as a byte string)  7 CRC32C of 6
//	aborted:  8 reason   9 compensations, each [kind, group id, peer id, vShard id]
type upsertedWire struct {
	Kind    uint64 `cbor:"1,keyasint"`
	ID      []byte `cbor:"2,keyasint"` // a MigrationID would be marshalled into memory of its own
	TimeMS  uint64 `cbor:"3,keyasint"`
	Attempt uint32 `cbor:"4,keyasint"`
	Phase   uint8  `cbor:"5,keyasint"`
	Payload []byte `cbor:"6,keyasint"`
	CRC32C  uint32 `cbor:"7,keyasint"`
}

type abortedWire struct {
	Kind          uint64             `cbor:"1,keyasint"`
	ID            MigrationID        `cbor:"2,keyasint"`
	TimeMS        uint64             `cbor:"3,keyasint"`
	Reason        string             `cbor:"8,keyasint"`
	Compensations []compensationWire `cbor:"9,keyasint"`
}

// headWire is what all events share, and all there is of a removal.
type headWire struct {
	Kind   uint64      `cbor:"1,keyasint"`
	ID     MigrationID `cbor:"2,keyasint"`
	TimeMS uint64      `cbor:"3,keyasint"`
}

type compensationWire struct {
	_        struct{} `cbor:",toarray"`
	Kind     uint8
	GroupID  uint64
	PeerID   uint64
	VShardID uint32
}

// eventWire reads any of them; a pointer tells an absent key from a zero.
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
}

var encMode, decMode = modes()

func modes() (cbor.UserBufferEncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		panic(err) // the options are constants
	}
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
		panic(err)
	}
	return enc, dec
}

// EncodeEvent checks an event and returns its CBOR in Core Deterministic
// Encoding. An event that must not be written gives ErrNilMigrationID,
// ErrNilPayload, ErrUnknownPayload, a *CRCMismatchError, ErrInvalidUTF8,
// ErrUnknownCompensation or ErrTooLarge.
func EncodeEvent(e Event) ([]byte, error) { return AppendEvent(nil, e) }

// AppendEvent is EncodeEvent that appends to dst. On an error dst is returned as it was.
func AppendEvent(dst []byte, e Event) ([]byte, error) {
	enc := encoders.Get().(*encoder)
	defer encoders.Put(enc)
	b, err := enc.encodeEvent(e)
	if err != nil {
		return dst, err
	}
	if len(b) > MaxEventBytes {
		return dst, fmt.Errorf("%w: migration %s: %d bytes encoded, at most %d", ErrTooLarge, e.Migration(), len(b), MaxEventBytes)
	}
	return append(dst, b...), nil
}

// AppendUpserted is AppendEvent of the checkpoint's Upserted, which takes no memory of its
// own. It is never too large.
func AppendUpserted(dst []byte, c *Checkpoint) ([]byte, error) {
	enc := encoders.Get().(*encoder)
	defer encoders.Put(enc)
	b, err := enc.encodeUpserted(c)
	if err != nil {
		return dst, err
	}
	return append(dst, b...), nil
}

func abortedToWire(e Aborted) (any, error) {
	if e.MigrationID == (MigrationID{}) {
		return nil, ErrNilMigrationID
	}
	if !utf8.ValidString(e.Reason) {
		return nil, fmt.Errorf("migration %s: %w", e.MigrationID, ErrInvalidUTF8)
	}
	if len(e.Reason)+len(e.Compensations) > MaxEventBytes { // before anything is copied
		return nil, fmt.Errorf("%w: migration %s: reason of %d bytes and %d compensations, at most %d bytes encoded",
			ErrTooLarge, e.MigrationID, len(e.Reason), len(e.Compensations), MaxEventBytes)
	}
	comps := make([]compensationWire, len(e.Compensations))
	for i, c := range e.Compensations {
		if !c.Kind.known() {
			return nil, fmt.Errorf("migration %s: compensation %d: %w: %d", e.MigrationID, i, ErrUnknownCompensation, uint8(c.Kind))
		}
		comps[i] = compensationWire{Kind: uint8(c.Kind), GroupID: c.GroupID, PeerID: c.PeerID, VShardID: c.VShardID}
	}
	return abortedWire{Kind: uint64(KindAborted), ID: e.MigrationID, TimeMS: e.TimestampMS, Reason: e.Reason, Compensations: comps}, nil
}

// DecodeEvent reads what EncodeEvent wrote. Keys that it does not know are
// ignored. It returns an *UnknownKindError for an event of another kind, a
// *CRCMismatchError where the stored payload is not the one that was
// checksummed, and otherwise ErrMalformed, ErrNilMigrationID,
// ErrUnknownPhase, ErrUnknownCompensation or ErrTooLarge.
func DecodeEvent(b []byte) (Event, error) {
	if len(b) > MaxEventBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxEventBytes)
	}
	var w eventWire
	if err := decMode.Unmarshal(b, &w); err != nil {
		var head headWire // another kind's keys may be of other types
		if decMode.Unmarshal(b, &head) == nil && head.Kind > uint64(KindRemoved) {
			return nil, &UnknownKindError{Kind: head.Kind, MigrationID: head.ID, TimestampMS: head.TimeMS}
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
		return w.aborted()
	case uint64(KindRemoved):
		return Removed{MigrationID: w.ID, TimestampMS: *w.TimeMS}, nil
	}
	return nil, &UnknownKindError{Kind: w.Kind, MigrationID: w.ID, TimestampMS: *w.TimeMS}
}

func missing(key string) error { return fmt.Errorf("%w: no %s", ErrMalformed, key) }

func (w *eventWire) upserted() (Event, error) {
	if w.Attempt == nil {
		return nil, missing("attempt")
	}
	if crc := crc32.Checksum(w.Payload, castagnoli); crc != w.CRC32C {
		return nil, &CRCMismatchError{MigrationID: w.ID, Got: w.CRC32C, Want: crc}
	}
	p, err := DecodePayload(Phase(w.Phase), w.Payload)
	if err != nil {
		return nil, err
	}
	return Upserted{Checkpoint{
		MigrationID: w.ID, Attempt: *w.Attempt, Payload: p, CRC32C: w.CRC32C, TimestampMS: *w.TimeMS,
	}}, nil
}

func (w *eventWire) aborted() (Event, error) {
	if w.Reason == nil {
		return nil, missing("reason")
	}
	if w.Compensations == nil {
		return nil, missing("compensations")
	}
	e := Aborted{MigrationID: w.ID, Reason: *w.Reason, TimestampMS: *w.TimeMS}
	for i, c := range w.Compensations {
		if !CompensationKind(c.Kind).known() {
			return nil, fmt.Errorf("compensation %d: %w: %d", i, ErrUnknownCompensation, c.Kind)
		}
		e.Compensations = append(e.Compensations, Compensation{
			Kind: CompensationKind(c.Kind), GroupID: c.GroupID, PeerID: c.PeerID, VShardID: c.VShardID,
		})
	}
	return e, nil
}
