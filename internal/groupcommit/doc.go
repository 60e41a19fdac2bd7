// Package groupcommit batches concurrent writes, so that one commit serves many callers.
// It refuses to know the content of a write, how a batch is committed, and whether the commit
// succeeded.
package groupcommit
