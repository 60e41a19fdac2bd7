// Package migrationlog is an embedded store of shard-migration progress: it knows the order of the
// steps of a start (lock, recover, fold, serve) and of a write (check, append, fold, sync, publish,
// acknowledge). It refuses to know how a step is done: the vocabulary is in package checkpoint, the
// files are in package eventlog, and the state is in package projection.
//
// A coordinator embeds a [Store]. To read the history of a store, while it is in use or later, use
// package replay. The page docs/EMBEDDING.md of the repository describes the starts, the guards,
// and the decisions of a coordinator.
package migrationlog
