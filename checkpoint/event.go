package checkpoint

// Event is one entry of the history: exactly one of Upserted, Aborted and
// Removed, passed as a value.
type Event interface {
	Migration() MigrationID // the migration that it happened to
	WallMS() uint64         // wall clock at proposal, Unix milliseconds; orders nothing
	sealedEvent()
}

// Upserted says that a checkpoint became the latest row of its migration.
type Upserted struct{ Checkpoint Checkpoint }

// Aborted says that a migration was given up, why, and what undoes it, in that
// order. After it the migration has no row.
type Aborted struct {
	MigrationID   MigrationID
	Reason        string // valid UTF-8
	Compensations []Compensation
	TimestampMS   uint64
}

// Removed says that a finished migration was cleaned up. After it the
// migration has no row.
type Removed struct {
	MigrationID MigrationID
	TimestampMS uint64
}

// Kind is the kind of an encoded event.
type Kind uint8

// The kinds of event that this version writes, as they are stored.
const (
	KindUpserted Kind = 1
	KindAborted  Kind = 2
	KindRemoved  Kind = 3
)

// PeekKind returns an encoded event's kind without decoding the rest, and whether
// it is one that this version knows.
func PeekKind(b []byte) (kind Kind, ok bool) {
	if len(b) < 3 || b[0]>>5 != 5 || b[1] != 1 { // a map, whose first key is 1
		return 0, false
	}
	kind = Kind(b[2])
	return kind, kind >= KindUpserted && kind <= KindRemoved
}

// PeekMigration returns which migration an encoded event is about, without decoding
// the rest, and whether it is told where EncodeEvent tells it, in an event of a kind that
// this version knows.
func PeekMigration(b []byte) (id MigrationID, ok bool) {
	const at = 5
	if _, ok := PeekKind(b); !ok || len(b) < at+len(id) || b[3] != 2 || b[4] != 0x50 { // key 2, 16 bytes
		return id, false
	}
	copy(id[:], b[at:])
	return id, true
}

func (e Upserted) Migration() MigrationID { return e.Checkpoint.MigrationID }
func (e Aborted) Migration() MigrationID  { return e.MigrationID }
func (e Removed) Migration() MigrationID  { return e.MigrationID }

func (e Upserted) WallMS() uint64 { return e.Checkpoint.TimestampMS }
func (e Aborted) WallMS() uint64  { return e.TimestampMS }
func (e Removed) WallMS() uint64  { return e.TimestampMS }

func (Upserted) sealedEvent() {}
func (Aborted) sealedEvent()  {}
func (Removed) sealedEvent()  {}
