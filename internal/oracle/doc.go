// Package oracle reads a log and folds it in the simplest way. Tests compare the store with it.
// It refuses to import any package of this module: it has its own reader of every file and its
// own fold, so that one mistake cannot be in both.
//
// Read returns the intact frames and the lost numbers of a log directory. Fold returns the state
// that results from them. Both follow docs/FORMAT.md and hold everything in memory. Neither is
// fast.
//
// # Decisions
//
// The format and the meaning of a log leave some cases open. The oracle decides them like this:
//
//   - The oracle remembers the end of a migration only if a number before the end is lost and not
//     resolved. An opening that begins with a snapshot does not see the losses before it, so such a
//     loss must not change the result of Doubt.
//   - If a migration has no state when it ends, its remembered end has the same begin mark as a
//     checkpoint that is not an AddLearner. Any lost number before the end may have been an event
//     of the migration.
//   - If an upsert has the previous number 0, it begins an incarnation. If an end has the previous
//     number 0, it begins and ends an incarnation.
//   - If an event after the end of its migration links to an event before that end, the link is
//     broken, although both events are intact. The writer of the event could not read the end.
//   - The kinds abort_begun, compensated and epoch_raised leave the row as it is, like an unknown
//     kind. They do not supersede a lost event.
//   - A restored event has everything that earlier events of its migration can have set, so nothing
//     before it matters, whatever its previous number is.
//   - The store's own id, of digests, is never in doubt. It has no row.
//   - If a state begins with an event that leaves the row as it is, its row mark has the number 0.
//     An unattributed lost number before that event may have been the migration's row, even if the
//     event has no predecessor, because its writer may not have been able to read the row.
//   - The header of a snapshot is evidence of durability even if the snapshot's body is damaged.
//   - If a segment before the last has a header with a number that belongs to a later segment, the
//     log counts as having reached that number. An opening that begins with a snapshot after that
//     segment does not read the header and may continue without it, as docs/DURABILITY.md says of
//     replaced segments. Log.InPlace is the log as such an opening reads it.
//   - The durable-through number in the header of a torn tail counts too, if the header is valid.
package oracle
