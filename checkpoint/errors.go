package checkpoint

import (
	"errors"
	"fmt"
)

// These errors describe a checkpoint or an event that must not be written or cannot be read. Each
// is returned wrapped, with the invalid value in its message.
var (
	// ErrNilMigrationID is returned if a migration id is the nil UUID.
	ErrNilMigrationID = errors.New("migration id is the nil UUID")
	// ErrNilPayload is returned if a checkpoint has no payload.
	ErrNilPayload = errors.New("payload is nil")
	// ErrUnknownPayload is returned if a payload is not one of the six payload types passed as
	// values. A pointer to one is not allowed.
	ErrUnknownPayload = errors.New("unknown payload type")
	// ErrUnknownPhase is returned for a phase outside the six.
	ErrUnknownPhase = errors.New("unknown phase")
	// ErrCRCMismatch is returned, as a *CRCMismatchError, if a checkpoint's CRC32C differs from the
	// checksum of its payload.
	ErrCRCMismatch = errors.New("payload CRC32C mismatch")
	// ErrInvalidUTF8 is returned if the reason of an abort is not valid UTF-8.
	ErrInvalidUTF8 = errors.New("reason is not valid UTF-8")
	// ErrUnknownCompensation is returned for a compensation kind outside the four.
	ErrUnknownCompensation = errors.New("unknown compensation kind")
	// ErrNoEpoch is returned for an EpochRaised without an epoch.
	ErrNoEpoch = errors.New("epoch is 0")
	// ErrReservedID is returned if a caller's event has the migration id StoreID.
	ErrReservedID = errors.New("migration id is reserved for the store's own events")
	// ErrInvalidFacts is returned if the facts of a Restored contradict each other or its checkpoint.
	ErrInvalidFacts = errors.New("facts contradict each other")
	// ErrTooLarge is returned if an encoded event is longer than MaxEventBytes.
	ErrTooLarge = errors.New("event too large")
	// ErrNotUpserted is returned by DecodeUpserted for an event of another kind.
	ErrNotUpserted = errors.New("event is not upserted")
	// ErrMalformed is returned if bytes are not the CBOR of an event or a payload, if a required
	// key is missing, or if a payload is not in the one encoding that its checksum covers.
	ErrMalformed = errors.New("malformed CBOR")
)

// CRCMismatchError has the checksum of a checkpoint and the different checksum of its payload.
// errors.Is finds ErrCRCMismatch in it.
type CRCMismatchError struct {
	MigrationID MigrationID
	Got, Want   uint32 // carried by the checkpoint; computed from the payload
}

func (e *CRCMismatchError) Error() string {
	return fmt.Sprintf("%v: migration %s carries %#08x, its payload has %#08x", ErrCRCMismatch, e.MigrationID, e.Got, e.Want)
}

// Unwrap returns ErrCRCMismatch.
func (e *CRCMismatchError) Unwrap() error { return ErrCRCMismatch }

// UnknownKindError is returned by DecodeEvent if a newer version wrote an event of a kind that this
// version does not know. The keys that all events share are decoded.
type UnknownKindError struct {
	Kind        uint64
	MigrationID MigrationID
	TimestampMS uint64
	Epoch       uint64 // 0 if the event has none
}

func (e *UnknownKindError) Error() string {
	return fmt.Sprintf("unknown event kind %d of migration %s: written by a newer version", e.Kind, e.MigrationID)
}
