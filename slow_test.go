package migrationlog_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// logLines is a log that can be read while the store writes to it.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// count returns the number of lines that contain all of the texts.
func (l *logLines) count(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			n++
		}
	}
	return n
}

const (
	notEnded = "migrationlog waits for the disk"
	hasEnded = "migrationlog waited for the disk"
)

func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	require.Eventually(t, reached, time.Minute, time.Millisecond, what)
}

// openSlow opens a store that logs each sync of more than 2 ms, and calls ask before it writes a
// line of the log.
func openSlow(t *testing.T, stallAfter time.Duration, ask func(*migrationlog.Store)) (*migrationlog.Store, *logLines) {
	lines := &logLines{}
	var s *migrationlog.Store
	opened := make(chan struct{})
	handler := slog.NewTextHandler(lines, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "operation" {
			<-opened
			ask(s)
		}
		return a
	}})
	s = open(t, memDir(t), &migrationlog.Options{
		SlowSync: 2 * time.Millisecond, StallAfter: stallAfter, Logger: slog.New(handler),
		Now: func() time.Time { return time.Unix(1_800_000_000, 0) }, // a clock that stands still
	})
	close(opened)
	return s, lines
}

func askAll(s *migrationlog.Store) {
	s.Stats()
	s.Health()
	s.Len()
	s.Row(checkpoint.NewMigrationID())
}

// While a commit hangs, Stats has the times of the wait, Health returns an error after StallAfter,
// and the log has a warning that is repeated. The log handler may call the store. After the commit
// has ended, Health returns nil and the log has the duration.
func TestSlowSync_IsReportedWhileItHangs(t *testing.T) {
	s, lines := openSlow(t, 5*time.Millisecond, askAll)
	require.Zero(t, s.Stats().OldestWriteSince)
	require.Zero(t, s.Stats().SyncSince)
	hanging, resume := s.HangCommits(t)
	before := time.Now()
	written := make(chan error, 2)
	upsert := func() {
		_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner))
		written <- err
	}
	go upsert()
	<-hanging
	go upsert()
	eventually(t, "the second write is queued", func() bool { return s.Waiting() == 1 })

	stats := s.Stats()
	require.WithinRange(t, stats.OldestWriteSince, before, time.Now())
	require.WithinRange(t, stats.SyncSince, stats.OldestWriteSince, time.Now())
	eventually(t, "the warning is repeated", func() bool { return lines.count("WARN", notEnded, "operation=sync", "since=", "elapsed=") >= 3 })
	eventually(t, "Health", func() bool { return s.Health() != nil })
	err := s.Health()
	require.ErrorContains(t, err, "a write has waited for ")
	require.ErrorContains(t, err, stats.OldestWriteSince.UTC().Format(time.RFC3339Nano))
	require.ErrorContains(t, err, "for a sync that began at "+stats.SyncSince.UTC().Format(time.RFC3339Nano))
	require.NotErrorIs(t, err, migrationlog.ErrFailed)
	require.NotErrorIs(t, err, migrationlog.ErrClosed)
	require.Zero(t, lines.count(hasEnded))

	resume <- struct{}{}
	require.NoError(t, <-written)
	<-hanging
	require.True(t, s.Stats().OldestWriteSince.After(stats.OldestWriteSince), "the second write waits")
	resume <- struct{}{}
	require.NoError(t, <-written)
	require.NoError(t, s.Health())
	require.Zero(t, s.Stats().OldestWriteSince)
	require.Zero(t, s.Stats().SyncSince)
	eventually(t, "the end is logged", func() bool { return lines.count("WARN", hasEnded, "operation=sync", "elapsed=") >= 1 })
}

// A write that waits in the queue counts as waiting, also if no commit runs. Without StallAfter,
// Health returns nil however long a write waits.
func TestStallAfter_CountsQueuedWrites(t *testing.T) {
	for _, stallAfter := range []time.Duration{0, time.Nanosecond} {
		s := open(t, memDir(t), &migrationlog.Options{StallAfter: stallAfter})
		require.NoError(t, s.Health())
		resume := sync.OnceFunc(s.HoldCommits())
		t.Cleanup(resume)
		written := make(chan error)
		go func() {
			_, err := s.WriteAll(moves(t, 3))
			written <- err
		}()
		eventually(t, "the write is queued", func() bool { return s.Waiting() == 1 })
		require.Zero(t, s.Stats().SyncSince)
		require.NotZero(t, s.Stats().OldestWriteSince)
		err := s.Health()
		resume()
		require.NoError(t, <-written)
		if stallAfter == 0 {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "to be committed")
		}
		require.NoError(t, s.Health())
	}
}

// A warning is logged for each slow commit, and none for a fast one.
func TestSlowSync_EachSlowCommit(t *testing.T) {
	s, lines := openSlow(t, 0, askAll)
	hanging, resume := s.HangCommits(t)
	for n := range 3 {
		written := make(chan error)
		go func() {
			_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner))
			written <- err
		}()
		<-hanging
		warnings := lines.count(notEnded)
		eventually(t, "the warning", func() bool { return lines.count(notEnded) > warnings })
		resume <- struct{}{}
		require.NoError(t, <-written)
		eventually(t, "the end is logged", func() bool { return lines.count(hasEnded) == n+1 })
	}

	lines = &logLines{}
	s = open(t, memDir(t), &migrationlog.Options{SlowSync: time.Hour, Logger: slog.New(slog.NewTextHandler(lines, nil))})
	for range 100 {
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	}
	require.Zero(t, lines.count(notEnded))
}

// The log handler may close the store, also while Close waits for the commit that is being logged.
func TestSlowSync_HandlerMayClose(t *testing.T) {
	closed := make(chan error, 100)
	s, _ := openSlow(t, 0, func(s *migrationlog.Store) { closed <- s.Close() })
	hanging, resume := s.HangCommits(t)
	written := make(chan error)
	go func() {
		_, err := s.Upsert(row(t, checkpoint.NewMigrationID(), 0, addLearner))
		written <- err
	}()
	<-hanging
	eventually(t, "the handler calls Close", func() bool { return s.Health() != nil })
	require.ErrorIs(t, s.Health(), migrationlog.ErrClosed)
	resume <- struct{}{}
	require.NoError(t, <-written)
	require.NoError(t, <-closed)
}

// A Close that hangs is reported like a sync that hangs. A second Close waits as well. Health
// returns ErrClosed from the start of Close on, and the ErrFailed of a failed store too.
func TestClose_IsReportedWhileItHangs(t *testing.T) {
	s, lines := openSlow(t, time.Nanosecond, askAll)
	resume := s.HoldSnapshot(t)
	before := time.Now()
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- s.Close() }()
	}
	eventually(t, "the warning is repeated", func() bool { return lines.count("WARN", notEnded, "operation=Close") >= 3 })
	require.WithinRange(t, s.Stats().SyncSince, before, time.Now())
	require.Zero(t, s.Stats().OldestWriteSince)
	require.ErrorIs(t, s.Health(), migrationlog.ErrClosed)
	require.Empty(t, closed)
	resume()
	require.NoError(t, <-closed)
	require.NoError(t, <-closed)
	require.Zero(t, s.Stats().SyncSince)
	require.Equal(t, migrationlog.ErrClosed, s.Health())
	eventually(t, "the end is logged", func() bool { return lines.count(hasEnded, "operation=Close") == 1 })
}
