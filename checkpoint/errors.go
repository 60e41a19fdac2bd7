package checkpoint

import (
	"errors"
	"fmt"
)

// The ways in which a checkpoint or an event can be unfit to be written or
// read. Each is returned wrapped, with the offending value in its message.
var (
	// ErrNilMigrationID is returned when a migration id is the nil UUID.
	ErrNilMigrationID = errors.New("migration id is the nil UUID")
	// ErrNilPayload is returned when a checkpoint carries no payload.
	ErrNilPayload = errors.New("payload is nil")
	// ErrUnknownPayload is returned for a payload that is none of the six
	// payload types passed as values (a pointer to one is not).
	ErrUnknownPayload = errors.New("unknown payload type")
	// ErrUnknownPhase is returned for a phase outside the six.
	ErrUnknownPhase = errors.New("unknown phase")
	// ErrCRCMismatch is returned, as a *CRCMismatchError, when a checkpoint's
	// CRC32C is not its payload's.
	ErrCRCMismatch = errors.New("payload CRC32C mismatch")
	// ErrInvalidUTF8 is returned when an abort's reason is not valid UTF-8.
	ErrInvalidUTF8 = errors.New("reason is not valid UTF-8")
	// ErrUnknownCompensation is returned for a compensation kind outside the four.
	ErrUnknownCompensation = errors.New("unknown compensation kind")
	// ErrTooLarge is returned when an event encodes to more than MaxEventBytes.
	ErrTooLarge = errors.New("event too large")
	// ErrNotUpserted is returned by DecodeUpserted for an event of another kind.
	ErrNotUpserted = errors.New("event is not upserted")
	// ErrMalformed is returned when bytes are not the CBOR of an event or
	// payload: not CBOR, a required key missing, or a payload not in the one
	// encoding that its checksum stands for.
	ErrMalformed = errors.New("malformed CBOR")
)

// CRCMismatchError says which checksum a checkpoint carried and which its
// payload has. errors.Is finds ErrCRCMismatch in it.
type CRCMismatchError struct {
	MigrationID MigrationID
	Got, Want   uint32 // carried by the checkpoint; computed from the payload
}

func (e *CRCMismatchError) Error() string {
	return fmt.Sprintf("%v: migration %s carries %#08x, its payload has %#08x", ErrCRCMismatch, e.MigrationID, e.Got, e.Want)
}

// Unwrap returns ErrCRCMismatch.
func (e *CRCMismatchError) Unwrap() error { return ErrCRCMismatch }

// UnknownKindError is returned by DecodeEvent for an event of a kind that this
// version does not know, written by a newer one. The part that all events
// share is readable.
type UnknownKindError struct {
	Kind        uint64
	MigrationID MigrationID
	TimestampMS uint64
}

func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("unknown event kind %d of migration %s: written by a newer version", e.Kind, e.MigrationID)
}
