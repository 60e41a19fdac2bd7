package migrationlog

// HoldCommits keeps every write waiting until resume is called, as a slow device does.
func (s *Store) HoldCommits() (resume func()) { return s.queue.Hold() }

// Waiting returns the number of writes in the commit queue.
func (s *Store) Waiting() int { return s.queue.Pending() }

// AwaitSnapshot waits until the snapshot under way is written, with no write under way.
func (s *Store) AwaitSnapshot() { s.snapshots.done.Wait() }
