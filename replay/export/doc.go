// Package export writes a history as SQL, CSV or NDJSON for other programs.
//
// It reads records one by one and needs memory only for moves that have not ended. It does not know
// where the records come from, nor where the output goes.
package export
