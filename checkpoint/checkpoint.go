package checkpoint

import (
	"fmt"
	"math"
)

// Checkpoint is one row: the progress of one migration.
type Checkpoint struct {
	MigrationID MigrationID
	Attempt     uint32 // number of the try of this phase; used only for comparison
	CRC32C      uint32 // of EncodePayload(Payload); beside Attempt, to save 8 bytes in each row
	Payload     Payload
	TimestampMS uint64 // wall clock at proposal, Unix milliseconds; orders nothing
}

// MaxTimestampMS is the last millisecond of the year 9999. A later timestamp is usually a mistake:
// nanoseconds or microseconds passed as milliseconds.
const MaxTimestampMS = 253_402_300_799_999

// New returns a checkpoint with its CRC32C computed, or ErrNilMigrationID,
// ErrNilPayload or ErrUnknownPayload.
func New(id MigrationID, attempt uint32, p Payload, timestampMS uint64) (Checkpoint, error) {
	if id == (MigrationID{}) {
		return Checkpoint{}, ErrNilMigrationID
	}
	crc, err := PayloadCRC32C(p)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("migration %s: %w", id, err)
	}
	return Checkpoint{MigrationID: id, Attempt: attempt, Payload: p, CRC32C: crc, TimestampMS: timestampMS}, nil
}

// Phase returns the payload's phase, or 0 if the payload is nil or not one of the six types.
func (c Checkpoint) Phase() Phase {
	phase, _ := phaseOf(c.Payload)
	return phase
}

// FactsAttempt is the attempt of an AddLearner that restores the facts of a row in doubt. No try of a
// phase has it.
const FactsAttempt = math.MaxUint32

// RestoresFacts reports whether a checkpoint with this phase and attempt only restores the nodes and
// the group of a row. The next checkpoint of the migration is the row that an operator or the
// coordinator has confirmed.
func RestoresFacts(p Phase, attempt uint32) bool {
	return p == PhaseAddLearner && attempt == FactsAttempt
}

// Verify compares CRC32C with the checksum of the payload. It returns a *CRCMismatchError,
// ErrNilPayload or ErrUnknownPayload.
func (c Checkpoint) Verify() error {
	want, err := PayloadCRC32C(c.Payload)
	if err != nil {
		return fmt.Errorf("migration %s: %w", c.MigrationID, err)
	}
	if want != c.CRC32C {
		return &CRCMismatchError{MigrationID: c.MigrationID, Got: c.CRC32C, Want: want}
	}
	return nil
}
