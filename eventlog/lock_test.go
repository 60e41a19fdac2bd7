package eventlog

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// If a writer holds the lock, a second one fails at once with the PID of the first. It changes no
// file, not even LOCK.
func TestLock_Held(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	first := beginLog(t, dir, Options{})
	before := tree(t, dir)
	for range 2 {
		_, err := Begin(dir, Options{})
		require.ErrorIs(t, err, ErrLocked)
		var locked *LockedError
		require.ErrorAs(t, err, &locked)
		host, err := os.Hostname()
		require.NoError(t, err)
		require.Equal(t, LockedError{Path: filepath.Join(dir, LockName), PID: os.Getpid(), Host: host, BootID: thisProcess().BootID}, *locked)
		require.EqualError(t, locked, fmt.Sprintf("log is open in another writer: process %d on host %s holds %s", os.Getpid(), host, locked.Path))
	}
	require.Equal(t, before, tree(t, dir))
	require.NoError(t, write(first, body), "the first writer continues")
	require.NoError(t, first.Close())
	beginLog(t, dir, Options{})
}

// Every way to end a writer or a recovery, even a failed opening, releases the lock and empties
// LOCK.
func TestLock_Released(t *testing.T) {
	whole := closedLog(t, 3, Options{})
	for name, end := range map[string]func(t *testing.T, dir string){
		"close":   func(t *testing.T, dir string) { require.NoError(t, openLog(t, dir, Options{}).Close()) },
		"abandon": func(t *testing.T, dir string) { require.NoError(t, begin(t, dir, Options{}).Abandon()) },
		"a log that cannot be repaired": func(t *testing.T, dir string) {
			_, err := begin(t, dir, Options{}).Finish(segment.FrameID{})
			require.Error(t, err)
		},
		"a log that is refused": func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(segmentPath(dir, 1), filepath.Join(dir, "elsewhere")))
			_, err := Begin(dir, Options{})
			require.ErrorIs(t, err, ErrNeedsRepair)
			require.NoError(t, os.Rename(filepath.Join(dir, "elsewhere"), segmentPath(dir, 1)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(memDir(t), "log")
			require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
			end(t, dir)
			require.Empty(t, read(t, dir, LockName))
			log := openLog(t, dir, Options{})
			require.Equal(t, string(thisProcess().encode()), string(read(t, dir, LockName)))
			require.NoError(t, log.Close())
			require.NoError(t, log.Close(), "a second Close does nothing")
		})
	}
}

// The lock file of a killed writer does not lock the log, whatever its text is.
func TestLock_Stale(t *testing.T) {
	for _, left := range []string{"", "1\n", "99999999999999999999999999\n", "no number", "12345\nand more than a process would write into it"} {
		dir := closedLog(t, 1, Options{})
		put(t, []byte(left), dir, LockName)
		log := openLog(t, dir, Options{})
		require.Equal(t, string(thisProcess().encode()), string(read(t, dir, LockName)), "after %q", left)
		require.NoError(t, log.Close())
	}
}

// The error has the PID from the lock file. If the holder has not written it yet, lock waits a
// moment for it, and then returns an error without a PID.
func TestLock_PIDOfTheHolder(t *testing.T) {
	for _, tc := range []struct {
		first, later string // the content of the file, and its content a moment later
		pid          int
		text         string
	}{
		{"4711\n", "", 4711, "process 4711 holds "},
		{"4711", "", 4711, "process 4711 holds "},
		{"1 web-7 6c1f7bd0-0dd3-4d0e-8f9c-95d1f5b0a9c1\n", "", 1, "process 1 on host web-7 holds "},
		{"1 web-7\n", "", 1, "process 1 on host web-7 holds "},
		{"1 \x1b[31mweb\x80 x\n", "", 1, "process 1 on host _[31mweb\ufffd holds "},
		{"1 " + strings.Repeat("w", 9999), "", 1, "process 1 on host " + strings.Repeat("w", maxLockBytes/4) + " holds "},
		{"1 a b c\n", "", 0, "LOCK is held"},
		{"-1 a b\n", "", 0, "LOCK is held"},
		{"1\n2\n", "", 0, "LOCK is held"},
		{"", "", 0, "LOCK is held"},
		{"x", "", 0, "LOCK is held"},
		{"", "4712\n", 4712, "process 4712 holds "},
	} {
		synctest.Test(t, func(t *testing.T) { // fake clock: the test does not wait
			dir := memDir(t)
			path := filepath.Join(dir, LockName)
			put(t, []byte(tc.first), path)
			holder := flock.New(path)
			require.NoError(t, holder.Lock())
			defer holder.Close()
			if tc.later != "" {
				go func() {
					time.Sleep(lockHolderTime / 2)
					put(t, []byte(tc.later), path)
				}()
			}
			_, err := lock(dir, 0)
			var locked *LockedError
			require.ErrorAs(t, err, &locked, "%q", tc.first)
			require.Equal(t, tc.pid, locked.PID, "%q, %q", tc.first, tc.later)
			require.ErrorContains(t, err, tc.text)
		})
	}
}

// A writer waits for the lock until the timeout, and no longer.
func TestLock_Timeout(t *testing.T) {
	for _, tc := range []struct {
		timeout, held time.Duration
		gets          bool
	}{
		{0, time.Minute, false},
		{time.Second, time.Minute, false},
		{time.Second + 5*time.Millisecond, time.Minute, false}, // not a whole number of tries
		{time.Minute, time.Second, true},
		{time.Second + 5*time.Millisecond, time.Second + time.Millisecond, true}, // between two tries
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := memDir(t)
			first, err := lock(dir, 0)
			require.NoError(t, err)
			released := make(chan error, 1)
			go func() {
				time.Sleep(tc.held)
				released <- unlock(first)
			}()
			started := time.Now()
			second, err := lock(dir, tc.timeout)
			if tc.gets {
				require.NoError(t, err)
				require.Equal(t, string(thisProcess().encode()), string(read(t, dir, LockName)))
				require.NoError(t, unlock(second))
			} else {
				require.ErrorIs(t, err, ErrLocked)
				require.Equal(t, tc.timeout, time.Since(started), "on the fake clock")
			}
			require.NoError(t, <-released)
		})
	}
}

// If the lock file is replaced while a writer waits for it, the writer gets the lock on the new
// file. The old file no longer belongs to the log.
func TestLock_ReplacedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := memDir(t)
		first, err := lock(dir, 0)
		require.NoError(t, err)
		go func() {
			time.Sleep(time.Second)
			require.NoError(t, os.Remove(filepath.Join(dir, LockName)))
		}()
		second, err := lock(dir, time.Minute)
		require.NoError(t, err)
		change, err := second.change()
		require.NoError(t, err)
		require.Empty(t, change)
		_, err = lock(dir, 0)
		require.ErrorIs(t, err, ErrLocked)

		change, err = first.change()
		require.NoError(t, err)
		require.Equal(t, "replaced", change)
		require.NoError(t, unlock(first))
		require.Equal(t, string(thisProcess().encode()), string(read(t, dir, LockName)), "unlock of the old file does not clear the PID of the second writer")
		require.NoError(t, unlock(second))
	})
}

// If the lock file of a writer is removed or replaced, the writer writes nothing more and leaves
// the new file alone.
func TestLock_RemovedOrReplaced(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"replaced": func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			put(t, []byte("4711\n"), path)
		},
		"renamed over": func(t *testing.T, path string) {
			put(t, []byte("4711\n"), path+".other")
			require.NoError(t, os.Rename(path+".other", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(memDir(t), "log")
			log := beginLog(t, dir, Options{})
			require.NoError(t, write(log, body))
			take(t, filepath.Join(dir, LockName))
			change := "replaced"
			if name == "removed" {
				change = "removed"
			}
			before := tree(t, dir)
			for range 2 {
				err := log.Write([]Entry{{Body: segment.NewBody(body)}})
				require.ErrorIs(t, err, ErrFailed)
				require.ErrorContains(t, err, "LOCK was "+change+": another writer may own the log")
				require.ErrorIs(t, log.Sync(), ErrFailed)
				require.ErrorIs(t, log.Health(), ErrFailed)
			}
			require.ErrorIs(t, log.Close(), ErrFailed)
			require.Equal(t, before, tree(t, dir))
		})
	}
}

// If the lock cannot be taken for any other reason, the error is not ErrLocked.
func TestLock_IOError(t *testing.T) {
	dir := closedLog(t, 1, Options{})
	require.NoError(t, os.Remove(filepath.Join(dir, LockName)))
	require.NoError(t, os.Mkdir(filepath.Join(dir, LockName), 0o700))
	_, err := Begin(dir, Options{LockTimeout: time.Hour})
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "lock: ")

	_, err = lock(filepath.Join(dir, "nowhere"), 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
