// Package groupcommit batches concurrent writes, so that one commit serves many callers.
// It refuses to know what a write contains, how a batch is committed, and whether that succeeded.
package groupcommit
