// Package torn reads a log as an opening of the store finds it after a crash has torn the last
// write at any byte, and compares the rows with those of the history before that write.
//
// It writes nothing. It refuses to know how a torn write is repaired.
package torn
