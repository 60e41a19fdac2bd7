package migrationlog

// HoldCommits keeps every write waiting until resume is called, as a slow device
// does.
func (s *Store) HoldCommits() (resume func()) {
	s.lead <- struct{}{}
	return func() { <-s.lead }
}

// Waiting is the number of writes in the commit queue.
func (s *Store) Waiting() int {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	return len(s.queue)
}
