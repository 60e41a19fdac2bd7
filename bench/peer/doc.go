// Package peer knows how each store keeps the events of migrations: migrationlog,
// the stores that could stand in its place, and a bare file. It does not know what is
// measured, and gives none of them checks or caches that its own documentation
// does not.
package peer
