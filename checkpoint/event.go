package checkpoint

// Event is one entry of the history: exactly one of Upserted, Aborted and
// Removed, passed as a value.
type Event interface {
	Migration() MigrationID // the migration that it happened to
	WallMS() uint64         // wall clock at proposal, Unix milliseconds; orders nothing
	sealedEvent()
}

// Upserted makes a checkpoint the latest row of its migration.
type Upserted struct{ Checkpoint Checkpoint }

// Aborted ends a migration that was undone, with the reason and the compensations in order. After
// it the migration has no row.
type Aborted struct {
	MigrationID   MigrationID
	Reason        string // valid UTF-8
	Compensations []Compensation
	TimestampMS   uint64
}

// Removed ends a finished migration that was cleaned up. After it the migration has no row.
type Removed struct {
	MigrationID MigrationID
	TimestampMS uint64
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
