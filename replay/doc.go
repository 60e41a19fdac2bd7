// Package replay knows a log directory as read-only history: its events in order, the damage
// between them, and the state at any point.
//
// It never writes. It takes no lock, so it can read a copy, or a log that a writer has open. The
// packages that it imports cannot write either.
package replay
