// Package summary builds and reads the content of segment summaries: which migrations have events in
// a segment, which frame belongs to which migration, and counts. It does not know how a log is
// written, and it never judges whether a segment is intact.
package summary
