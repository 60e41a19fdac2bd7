// Package replay knows a log directory as read-only history: its events in
// order, its damage in its place among them, and the state at any point.
//
// It refuses to write. It takes no lock, so that it may read beside a live
// writer or on a copy, and what it is built on cannot write either.
package replay
