package migrationlog

import (
	"sync"
	"testing"

	"migrationlog/internal/groupcommit"
)

// HoldCommits keeps every write waiting until resume is called, as a slow device does.
func (s *Store) HoldCommits() (resume func()) { return s.queue.Hold() }

// Waiting returns the number of writes in the commit queue.
func (s *Store) Waiting() int { return s.queue.Pending() }

// AwaitSnapshot waits until the snapshot under way is written, with no write under way.
func (s *Store) AwaitSnapshot() { s.snapshots.done.Wait() }

// AwaitSummaries waits until no summary is being written, with no write under way.
func (s *Store) AwaitSummaries() { s.summaries.done.Wait() }

// WritesSummaries reports whether the goroutine that writes summaries runs.
func (s *Store) WritesSummaries() bool { return s.summaries.running.Load() }

// HangCommits makes every commit hang before it ends. Each sends to hanging, and continues when it
// receives from resume. It must be called before the first write. At the end of the test no commit
// hangs any more.
func (s *Store) HangCommits(t testing.TB) (hanging <-chan struct{}, resume chan<- struct{}) {
	began, proceed := make(chan struct{}, 10), make(chan struct{})
	s.queue = groupcommit.New(func(batch []*write) func() {
		after := s.commitBatch(batch)
		began <- struct{}{}
		<-proceed
		return after
	})
	t.Cleanup(func() { close(proceed) })
	return began, proceed
}

// HoldSnapshot makes Close wait until resume is called, like a snapshot that is being written.
func (s *Store) HoldSnapshot(t testing.TB) (resume func()) {
	s.snapshots.done.Add(1)
	resume = sync.OnceFunc(s.snapshots.done.Done)
	t.Cleanup(resume)
	return resume
}
