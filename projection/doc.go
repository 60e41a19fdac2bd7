// Package projection knows what an event does to the view: one row for each
// migration in flight, and beside it what earlier phases told of the migration.
//
// It refuses to know about files, clocks, and where events come from.
package projection
