// Package groupcommit batches concurrent writes, so that one commit serves many callers.
// It does not know the content of a write, how a batch is committed, or whether the commit
// succeeded.
package groupcommit
