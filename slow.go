package migrationlog

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// slowWatch is the timer that checks how long the running commit takes. Options.SlowSync is the
// limit.
//
// One timer checks all commits, because a timer for each commit would slow down every write. A
// commit starts the timer only if the timer is not running. The timer stops when it finds no
// running commit.
type slowWatch struct {
	timer   *time.Timer // calls Store.checkSlowCommit
	running atomic.Bool // the timer was started
}

// init creates the timer, stopped.
func (w *slowWatch) init(check func()) {
	w.timer = time.AfterFunc(math.MaxInt64, check)
	w.timer.Stop()
}

// watchCommit starts the timer at the start of a commit. Only the leader calls it.
func (s *Store) watchCommit() {
	if !s.slow.running.Load() && s.slow.running.CompareAndSwap(false, true) {
		s.slow.timer.Reset(s.opts.SlowSync)
	}
}

// checkSlowCommit runs in the timer's goroutine. If no commit is running, it returns. If the
// running commit is too slow, it logs the commit until the commit ends. It then sets the timer
// again.
func (s *Store) checkSlowCommit() {
	// Reset the flag before reading the queue. A commit that starts later then starts the timer
	// itself.
	s.slow.running.Store(false)
	since, ended := s.queue.Running()
	if since.IsZero() || !s.slow.running.CompareAndSwap(false, true) {
		return
	}
	left := s.opts.SlowSync - time.Since(since)
	if left <= 0 {
		s.logSlow("sync", since, ended)
		left = s.opts.SlowSync
	}
	s.slow.timer.Reset(left)
}

// watchClose records the start of Close's own I/O, and logs the I/O if it takes too long. The
// caller must call stop when the I/O has ended.
func (s *Store) watchClose() (stop func()) {
	s.slow.timer.Stop() // no commit follows
	s.setClosingIO(time.Now())
	stopWatch := watchSlow(s.opts.SlowSync, func(since time.Time, ended <-chan struct{}) {
		s.logSlow("Close", since, ended)
	})
	return func() {
		s.setClosingIO(time.Time{})
		stopWatch()
	}
}

// setClosingIO sets the start of Close's own I/O. The zero time means that there is none.
func (s *Store) setClosingIO(since time.Time) {
	s.statsMu.Lock()
	s.closingIO = since
	s.statsMu.Unlock()
}

// watchOpen logs an Open that takes longer than SlowSync. The level is Info, because reading a long
// log also takes time. The caller must call stop when Open returns.
func (o *Options) watchOpen(dir string) (stop func()) {
	return watchSlow(o.SlowSync, func(since time.Time, ended <-chan struct{}) {
		whileSlow(since, ended, func(elapsed time.Duration) {
			o.Logger.Info("migrationlog is still being opened: Open waits for the lock or the disk, or reads a long log", "dir", dir, "since", since, "elapsed", elapsed)
		})
	})
}

// logSlow logs an operation that has taken too long, and returns when it has ended. The log handler
// may block and may call methods of the store, so the caller must hold no lock and must not be in
// commitBatch.
func (s *Store) logSlow(operation string, since time.Time, ended <-chan struct{}) {
	whileSlow(since, ended, func(elapsed time.Duration) {
		s.opts.Logger.Warn("migrationlog waits for the disk: an operation has not ended yet. Check the disk", "dir", s.dir, "operation", operation, "since", since, "elapsed", elapsed)
	})
	s.opts.Logger.Warn("migrationlog waited for the disk: the slow operation has ended", "dir", s.dir, "operation", operation, "since", since, "elapsed", time.Since(since))
}

// watchSlow calls log in a goroutine of its own if the caller has not called stop within limit. It
// passes the time of its own call as since, and a channel that stop closes as ended.
func watchSlow(limit time.Duration, log func(since time.Time, ended <-chan struct{})) (stop func()) {
	since, ended := time.Now(), make(chan struct{})
	timer := time.AfterFunc(limit, func() { log(since, ended) })
	return func() {
		timer.Stop()
		close(ended)
	}
}

// whileSlow calls log at once, and again each time that the duration of the operation has doubled.
// It returns when the operation has ended.
func whileSlow(since time.Time, ended <-chan struct{}, log func(elapsed time.Duration)) {
	for {
		elapsed := time.Since(since)
		log(elapsed)
		select {
		case <-ended:
			return
		case <-time.After(2*elapsed - time.Since(since)):
		}
	}
}

// checkStalled returns an error if a write has waited for longer than Options.StallAfter. It uses
// the system's clock and not Options.Now: a wall clock that was set must not start or end a stall.
func (s *Store) checkStalled() error {
	if s.opts.StallAfter == 0 {
		return nil
	}
	since := s.queue.OldestSince()
	if since.IsZero() {
		return nil
	}
	waited := time.Since(since)
	if waited <= s.opts.StallAfter {
		return nil
	}
	cause := "to be committed"
	if started, _ := s.queue.Running(); !started.IsZero() {
		cause = "for a sync that began at " + started.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Errorf("a write has waited for %v, since %s, %s: check the disk of %s. The write returns when the disk responds. "+
		"Before another process takes over, end this one", waited.Round(time.Millisecond), since.UTC().Format(time.RFC3339Nano), cause, s.dir)
}
