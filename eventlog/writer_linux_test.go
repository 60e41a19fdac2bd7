//go:build linux && !portable

package eventlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FindWriter finds the process that holds the lock. If LOCK names a process of this host that does
// not hold the lock, the writer was killed. For another host the result is not known.
func TestFindWriter(t *testing.T) {
	dir := t.TempDir()
	require.Equal(t, Writer{Known: true}, FindWriter(dir), "no LOCK")
	held, err := lock(dir, 0)
	require.NoError(t, err)
	require.Equal(t, Writer{Known: true, Alive: true, PID: os.Getpid()}, FindWriter(dir))
	require.NoError(t, unlock(held))
	require.Equal(t, Writer{Known: true}, FindWriter(dir), "closed")

	killed := thisProcess()
	killed.PID = 1 << 30
	elsewhere := Holder{PID: 7, Host: "another", BootID: "x"}
	for _, test := range []struct {
		lock []byte
		want Writer
	}{
		{killed.encode(), Writer{Known: true}},
		{elsewhere.encode(), Writer{}},
		{[]byte("7\n"), Writer{}}, // an older version wrote no host
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, LockName), test.lock, 0o600))
		require.Equal(t, test.want, FindWriter(dir), "%s", test.lock)
	}
}

// A lock counts if its device and inode are those of the file, or if its process is the one that
// LOCK names and the inode is the same.
func TestFindLock(t *testing.T) {
	const locks = "1: FLOCK  ADVISORY  WRITE 4711 fd:01:1835021 0 EOF\n" +
		"2: FLOCK  ADVISORY  WRITE 4712 00:1f:77 0 EOF\n" +
		"2: -> FLOCK  ADVISORY  WRITE 4713 fd:01:99 0 EOF\n" +
		"3: POSIX  ADVISORY  WRITE 4714 fd:01:98 0 EOF\n" +
		"4: FLOCK  ADVISORY  WRITE 0 fd:01:97 0 EOF\n"
	const device = 0xfd<<8 | 1
	for _, test := range []struct {
		id       fileID
		namedPID int
		want     int
	}{
		{fileID{device, 1835021}, 0, 4711},
		{fileID{device, 35021}, 0, 0},
		{fileID{device, 77}, 0, 0},
		{fileID{device, 77}, 4712, 4712},
		{fileID{device, 99}, 4713, 0}, // it waits for the lock
		{fileID{device, 98}, 4714, 0}, // not a lock of flock
		{fileID{device, 97}, 0, 0},    // a process outside this container
	} {
		require.Equal(t, test.want, findLock(locks, test.id, test.namedPID), "%+v", test)
	}
}
