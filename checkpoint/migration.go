package checkpoint

import "github.com/google/uuid"

// MigrationID identifies one run of one migration. If a run is resumed after a crash, it keeps its
// id. A new run for the same vShard gets a new id.
type MigrationID = uuid.UUID

// NewMigrationID returns a fresh UUIDv7 (RFC 9562), so that ids sort by the
// time at which they were made. It panics only if the system has no source of
// random numbers.
func NewMigrationID() MigrationID {
	return uuid.Must(uuid.NewV7())
}
