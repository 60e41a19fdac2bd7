// Package eventlog knows files, locks, syncs and repair. It stores bodies as durable frames, and it
// opens a directory in any state that a crash or a failing disk has left.
//
// It refuses to know what a migration is. It uses tidwall/wal only to append. It reads directories
// with package segment, because tidwall/wal does not verify frames. If tidwall/wal finds unexpected
// files or bytes, it may misread the log or delete segments.
//
// To open a log, a [Recovery] goes through three steps: [Begin] locks and inspects the directory,
// [Recovery.Scan] reads the log, and [Recovery.Finish] repairs it and returns the [Log]. If the
// directory already has a log, only the lock file is written before Finish, except with
// Options.Replicated.
//
// A repair never changes a frame. It copies a torn write at the end of the log to quarantine/ and
// cuts it off. It leaves damage in place. If the last segment is damaged, the log continues in a
// new segment. Every later scan therefore finds the same damage from the same evidence.
//
// A consensus engine can deliver the events of a replicated store again. Such a store may write with
// Options.NoSync and [Log.MakeDurable], and it opens its log with Options.Replicated. [BeginSwap] and [SwapDir]
// replace its whole log by another one.
package eventlog
