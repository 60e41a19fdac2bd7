// Package oracle reads a log and folds it in the simplest way, to check the store against.
// It refuses to import any package of this module: it has its own reader of every file and its
// own fold, so that one mistake cannot be in both.
//
// Read returns the intact frames and the lost numbers of a log directory. Fold returns the state
// that they lead to. Both follow docs/FORMAT.md and hold everything in memory. Neither is fast.
//
// # Decisions
//
// The format and the meaning of a log leave some cases open. The oracle decides them like this:
//
//   - The end of a migration is remembered only if a number before it is lost and not settled. A
//     loss before a snapshot is not visible to an opening that begins with the snapshot, so it
//     must not change what Doubt returns.
//   - The remembered end of a migration without a state has a begin mark like a checkpoint that is
//     not an AddLearner: any number before the end may have been the migration's.
//   - An end with previous number 0 begins and ends an incarnation, as an upsert with 0 begins one.
//   - An event after the end of its migration that names an event before that end has a broken link,
//     although both events are intact: its writer could not read the end.
//   - A state that begins with an event of an unknown kind has a row mark with number 0. An
//     unattributed lost number before that event may have been the migration's row, even if the
//     event names no predecessor: its writer may not have been able to read the row.
//   - The header of a snapshot is evidence of durability even if the snapshot's body is damaged.
//   - A header before the last segment whose number belongs into a later segment counts for how far
//     the log has reached. An opening that begins with a snapshot behind that segment does not read
//     it and may go on without it, as docs/DURABILITY.md says of replaced segments. Log.InPlace is
//     the log as such an opening reads it.
//   - Durable through counts in the header of a torn tail as well. The header is sound.
package oracle
