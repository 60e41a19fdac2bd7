package checkpoint

import "github.com/google/uuid"

// MigrationID names one run of one migration. A run that is resumed after a
// crash keeps its id; a new run for the same vShard gets a new one.
type MigrationID = uuid.UUID

// NewMigrationID returns a fresh UUIDv7 (RFC 9562), so that ids sort by the
// time at which they were made. It panics only if the system has no source of
// random numbers.
func NewMigrationID() MigrationID {
	return uuid.Must(uuid.NewV7())
}
