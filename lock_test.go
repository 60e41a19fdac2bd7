package migrationlog_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog"
)

const holdLockEnv = "MIGRATIONLOG_TEST_HOLD"

// holdLock runs in another process: it opens the log, prints a line, and waits to be killed.
func holdLock(dir string) {
	s, err := migrationlog.Open(dir, nil)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open", s.Len())
	time.Sleep(time.Hour)
}

// startHolder starts a process that has the log open.
func startHolder(t *testing.T, dir string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(self)
	child.Env = append(os.Environ(), holdLockEnv+"="+dir)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "open")
	return child
}

// A second process gets an error that names the holder of the lock. Readers need no lock. The lock
// ends with its process.
func TestD10_SecondProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
	require.NoError(t, s.Close())
	holder := startHolder(t, dir)

	for range 20 {
		_, err := migrationlog.Open(dir, nil)
		require.ErrorIs(t, err, migrationlog.ErrLocked)
		var locked *eventlog.LockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, holder.Process.Pid, locked.PID)
		require.ErrorContains(t, err, fmt.Sprintf("process %d", holder.Process.Pid))
	}
	before := hashes(t, dir)
	require.EqualValues(t, 1, verify(t, dir).FramesOK)
	require.Equal(t, before, hashes(t, dir))

	waited := make(chan error)
	go func() {
		s, err := migrationlog.Open(dir, &migrationlog.Options{LockTimeout: time.Minute})
		if err == nil {
			err = s.Close()
		}
		waited <- err
	}()
	require.NoError(t, holder.Process.Kill())
	require.NoError(t, <-waited, "a waiting opener gets the lock")
}

// Two stores in one process exclude each other as well.
func TestD10_SecondStoreOfThisProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	_, err := migrationlog.Open(dir, nil)
	var locked *eventlog.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, os.Getpid(), locked.PID)
	require.NoError(t, s.Close())
	lock, err := os.ReadFile(filepath.Join(dir, eventlog.LockName))
	require.NoError(t, err)
	require.Empty(t, lock, "the lock file must be empty after Close")
	open(t, dir, nil)
}
