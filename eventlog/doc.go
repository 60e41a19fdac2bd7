// Package eventlog knows files, locks, syncs and repair: it takes bodies in and
// makes them durable frames, and it opens a directory in whatever state a crash
// or a failing disk has left it.
//
// It refuses to know what a migration is. It uses tidwall/wal to append, and for
// nothing else: what a directory holds is found by package segment, because
// tidwall/wal neither checks what it reads nor survives what it does not expect.
//
// The way of a start is a Recovery: [Begin] locks and judges the directory,
// [Recovery.Scan] reads it, [Recovery.Finish] repairs it and returns the [Log].
// Where there is a log, nothing but the lock file is written before Finish.
//
// A repair never changes what a segment says. A torn write at the end of the log is
// copied to quarantine/ and cut off; damage stays where it is, and where it is in
// the last segment the log goes on in a new one behind it. So every later scan
// finds the same damage again from the same evidence.
package eventlog
