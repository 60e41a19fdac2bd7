//go:build linux

package real_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// frozenDisk is an ext4 file system on a loop device. While it is frozen, each write and sync
// blocks and returns no error, as on a disk that hangs. Reads of cached data continue.
type frozenDisk struct {
	path   string // mount point
	parent string
	frozen bool
}

// mountFrozen mounts a disk, which can be frozen for at most ten seconds.
func mountFrozen(t *testing.T) *frozenDisk {
	if os.Getuid() != 0 {
		t.Skip("only root can mount and freeze an image")
	}
	for _, program := range []string{"mkfs.ext4", "fsfreeze", "timeout"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("there is no " + program)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("there are no loop devices")
	}
	d := &frozenDisk{parent: memDir(t)}
	d.path = filepath.Join(d.parent, "disk")
	image := filepath.Join(d.parent, "image")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, imageBytes))
	run(t, "mkfs.ext4", "-q", image)
	mountImage(t, image, d.path)

	// A process of its own thaws the disk, because this one cannot even exit while a thread of it
	// is blocked in the kernel. cat ends when the test closes its input.
	thawer := exec.Command("sh", "-c", `timeout 10 cat; fsfreeze -u "$0" 2> /dev/null; true`, d.path)
	in, err := thawer.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, thawer.Start())
	t.Cleanup(func() {
		d.thaw(t)
		require.NoError(t, errors.Join(in.Close(), thawer.Wait()))
		if t.Failed() { // the log is still open
			require.NoError(t, syscall.Unmount(d.path, syscall.MNT_DETACH))
			return
		}
		unmount(t, d.path)
	})
	if out, err := exec.Command("fsfreeze", "-f", d.path).CombinedOutput(); err != nil {
		t.Skipf("no file system can be frozen here: %s", out)
	}
	d.frozen = true
	d.thaw(t)
	return d
}

func (d *frozenDisk) freeze(t *testing.T) {
	run(t, "fsfreeze", "-f", d.path)
	d.frozen = true
}

func (d *frozenDisk) thaw(t *testing.T) {
	if d.frozen {
		d.frozen = false
		run(t, "fsfreeze", "-u", d.path)
	}
}

// logText is the text of a log that can be read while the store writes to it.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// awaitLine waits for a line with all of these texts.
func (l *logText) awaitLine(t *testing.T, texts ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for line := range strings.Lines(l.text.String()) {
			missing := false
			for _, text := range texts {
				missing = missing || !strings.Contains(line, text)
			}
			if !missing {
				return true
			}
		}
		return false
	}, 5*time.Second, time.Millisecond, "no line with %q", texts)
}

// If the disk hangs without an error, the calls that need it block. Meanwhile the store reports
// since when, logs a warning, and serves reads. When the disk responds, the calls succeed.
func TestFrozenDisk(t *testing.T) {
	d := mountFrozen(t)
	dir, lines := filepath.Join(d.path, "log"), &logText{}
	opts := &migrationlog.Options{SlowSync: 20 * time.Millisecond, StallAfter: 30 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(lines, nil))}
	s, err := migrationlog.Open(dir, opts)
	require.NoError(t, err)
	id := checkpoint.NewMigrationID()
	upsertOn(t, s, id, 0)

	d.freeze(t)
	before := time.Now()
	written := async(func() error {
		_, err := s.Upsert(frozenRow(t, id, 1))
		return err
	})
	require.Eventually(t, func() bool { return s.Health() != nil }, 5*time.Second, time.Millisecond)
	require.ErrorContains(t, s.Health(), "a write has waited for ")
	require.NotErrorIs(t, s.Health(), migrationlog.ErrFailed)
	lines.awaitLine(t, "WARN", "waits for the disk", "operation=sync", "dir="+dir)
	stats := s.Stats()
	require.WithinRange(t, stats.OldestWriteSince, before, time.Now())
	require.WithinRange(t, stats.SyncSince, before, time.Now())
	requireReads(t, s, id)
	require.Empty(t, written, "the write blocks")

	closed := []<-chan error{async(s.Close), async(s.Close)} // both wait for the write, and then for the disk
	lines.awaitLine(t, "WARN", "waits for the disk", "operation=sync")
	requireReads(t, s, id)
	d.thaw(t)
	require.NoError(t, <-written)
	require.NoError(t, <-closed[0])
	require.NoError(t, <-closed[1])
	require.Equal(t, migrationlog.ErrClosed, s.Health())
	lines.awaitLine(t, "WARN", "waited for the disk", "operation=sync", "elapsed=")
	got, ok := s.Get(id)
	require.True(t, ok)
	require.EqualValues(t, 1, got.Attempt, "the write that hung succeeded")
	checkReopened(t, d, dir, lines, id)
}

// checkReopened opens the log while the disk is frozen, and closes it while the disk is frozen.
func checkReopened(t *testing.T, d *frozenDisk, dir string, lines *logText, id checkpoint.MigrationID) {
	opts := &migrationlog.Options{SlowSync: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(lines, nil))}
	d.freeze(t)
	var s *migrationlog.Store
	opened := async(func() (err error) {
		s, err = migrationlog.Open(dir, opts)
		return err
	})
	lines.awaitLine(t, "INFO", "is still being opened", "dir="+dir)
	require.Empty(t, opened)
	d.thaw(t)
	require.NoError(t, <-opened)
	require.NoError(t, s.Health())
	upsertOn(t, s, id, 2)

	d.freeze(t)
	closed := async(s.Close)
	lines.awaitLine(t, "WARN", "waits for the disk", "operation=Close")
	require.NotZero(t, s.Stats().SyncSince)
	require.Equal(t, migrationlog.ErrClosed, s.Health())
	require.Empty(t, closed)
	d.thaw(t)
	require.NoError(t, <-closed)
	lines.awaitLine(t, "WARN", "waited for the disk", "operation=Close")
}

// requireReads checks that the store serves reads of memory and of files.
func requireReads(t *testing.T, s *migrationlog.Store, id checkpoint.MigrationID) {
	t.Helper()
	got, ok := s.Get(id)
	require.True(t, ok)
	require.Zero(t, got.Attempt, "a write that hangs is not visible")
	rows := 0
	for range s.Rows() {
		rows++
	}
	require.Equal(t, 1, rows)
	records := 0
	for _, err := range s.History(t.Context(), id) {
		require.NoError(t, err)
		records++
	}
	require.Equal(t, 1, records)
}

// async calls f in a goroutine. The channel receives its result.
func async(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func frozenRow(t *testing.T, id checkpoint.MigrationID, attempt uint32) checkpoint.Checkpoint {
	c, err := checkpoint.New(id, attempt, checkpoint.CatchUp{VShardID: 7, LearnerLogIndexAtAdd: 1}, 1795399697649)
	require.NoError(t, err)
	return c
}

func upsertOn(t *testing.T, s *migrationlog.Store, id checkpoint.MigrationID, attempt uint32) {
	_, err := s.Upsert(frozenRow(t, id, attempt))
	require.NoError(t, err)
}
