// Package peer writes the events of migrations to each store: migrationlog, the stores that could do
// its job, and a raw file. It does not know the measurements. It adds no check and no cache that a
// store's own documentation does not advise.
package peer
