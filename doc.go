// Package migrationlog knows the order in which a store of shard-migration
// progress does things: on a start lock, recover, open, fold, serve; on a write
// check, append, fold, sync, show, acknowledge. It refuses to know how any of them is
// done: the history's vocabulary is package checkpoint, its files are package
// eventlog, its state is package projection.
//
// A coordinator embeds a [Store]. Whoever reads the history of one, beside it
// or after it, uses package replay.
package migrationlog
