package migrationlog

import "time"

// HoldCommits keeps every write waiting until resume is called, as a slow device
// does.
func (s *Store) HoldCommits() (resume func()) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	for s.queue.busy || len(s.queue.waiting) > 0 {
		s.queue.rests.Wait()
	}
	s.queue.busy = true
	return func() {
		next, gathers, round := s.queue.end(0)
		if next != nil {
			next.told <- leading
		}
		if gathers {
			go s.outwait(round, 0)
		}
	}
}

// Waiting is the number of writes in the commit queue.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}

// AwaitSnapshot waits until the snapshot under way is written, with no write under way.
func (s *Store) AwaitSnapshot() { s.snapshots.done.Wait() }

// Outwait waits with one write for another that does not come.
func Outwait() {
	q := queue{waiting: []*write{{}}, expected: 2}
	q.outwait(0, time.Second)
}
