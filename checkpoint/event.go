package checkpoint

import "crypto/sha256"

// Event is one entry of the history: exactly one of Upserted, Aborted, Removed, AbortBegun,
// Compensated, EpochRaised, Digest and Restored, passed as a value. The field Epoch of each of them
// is the term of the coordinator that wrote the event. It is 0 if the event was written without an
// epoch.
type Event interface {
	Migration() MigrationID // the migration that it happened to
	WallMS() uint64         // wall clock at proposal, Unix milliseconds; orders nothing
	sealedEvent()
}

// Upserted makes a checkpoint the latest row of its migration.
type Upserted struct {
	Checkpoint Checkpoint
	Epoch      uint64
}

// Aborted ends a migration that was undone, with the reason and the compensations in order. After
// it the migration has no row.
type Aborted struct {
	MigrationID   MigrationID
	Reason        string // valid UTF-8
	Compensations []Compensation
	TimestampMS   uint64
	Epoch         uint64
}

// Removed ends a finished migration that was cleaned up. After it the migration has no row.
type Removed struct {
	MigrationID MigrationID
	TimestampMS uint64
	Epoch       uint64
}

// AbortBegun records that a migration will be undone, before the first compensation is carried out.
// The migration keeps its row. Aborted follows after the last compensation.
type AbortBegun struct {
	MigrationID   MigrationID
	Reason        string // valid UTF-8
	Compensations []Compensation
	TimestampMS   uint64
	Epoch         uint64
}

// Compensated records that one compensation of an abort was carried out. The migration keeps its
// row.
type Compensated struct {
	MigrationID MigrationID
	Step        uint32 // index in AbortBegun.Compensations
	TimestampMS uint64
	Epoch       uint64
}

// EpochRaised records an epoch that no earlier event has, if the write with that epoch appended no
// other event. The migration is that of the write. Its row, if it has one, does not change.
type EpochRaised struct {
	MigrationID MigrationID
	TimestampMS uint64
	Epoch       uint64 // at least 1
}

// Digest records the digests of a replicated state. The index at which the state has them is the
// event's position, see AppendPosition. Its migration is StoreID.
type Digest struct {
	State       [32]byte // of the rows with their facts, and of the highest epoch
	Chain       [32]byte // of the events up to the index, in order
	TimestampMS uint64   // of the last event before it
	Epoch       uint64   // the highest of the events before it
}

// Restored makes a checkpoint the latest row of its migration, with the facts of its incarnation. It
// stands for all earlier events of the incarnation, which the log does not have.
type Restored struct {
	Checkpoint Checkpoint
	Facts      RestoredFacts
	Epoch      uint64
}

// NextChain returns the chained digest of a consensus group after an event, from the one before it.
// body is the encoded event with its position.
func NextChain(chain [sha256.Size]byte, body []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(chain[:])
	h.Write(body)
	return [sha256.Size]byte(h.Sum(chain[:0]))
}

// EpochOf returns the epoch of an event, or 0 if it has none.
func EpochOf(e Event) uint64 {
	switch e := e.(type) {
	case Upserted:
		return e.Epoch
	case Aborted:
		return e.Epoch
	case Removed:
		return e.Epoch
	case AbortBegun:
		return e.Epoch
	case Compensated:
		return e.Epoch
	case EpochRaised:
		return e.Epoch
	case Digest:
		return e.Epoch
	case Restored:
		return e.Epoch
	}
	return 0
}

func (e Upserted) Migration() MigrationID    { return e.Checkpoint.MigrationID }
func (e Aborted) Migration() MigrationID     { return e.MigrationID }
func (e Removed) Migration() MigrationID     { return e.MigrationID }
func (e AbortBegun) Migration() MigrationID  { return e.MigrationID }
func (e Compensated) Migration() MigrationID { return e.MigrationID }
func (e EpochRaised) Migration() MigrationID { return e.MigrationID }
func (e Digest) Migration() MigrationID      { return StoreID }
func (e Restored) Migration() MigrationID    { return e.Checkpoint.MigrationID }

func (e Upserted) WallMS() uint64    { return e.Checkpoint.TimestampMS }
func (e Aborted) WallMS() uint64     { return e.TimestampMS }
func (e Removed) WallMS() uint64     { return e.TimestampMS }
func (e AbortBegun) WallMS() uint64  { return e.TimestampMS }
func (e Compensated) WallMS() uint64 { return e.TimestampMS }
func (e EpochRaised) WallMS() uint64 { return e.TimestampMS }
func (e Digest) WallMS() uint64      { return e.TimestampMS }
func (e Restored) WallMS() uint64    { return e.Checkpoint.TimestampMS }

func (Upserted) sealedEvent()    {}
func (Aborted) sealedEvent()     {}
func (Removed) sealedEvent()     {}
func (AbortBegun) sealedEvent()  {}
func (Compensated) sealedEvent() {}
func (EpochRaised) sealedEvent() {}
func (Digest) sealedEvent()      {}
func (Restored) sealedEvent()    {}
