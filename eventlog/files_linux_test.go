//go:build !portable

package eventlog

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const mountedEnv = "MIGRATIONLOG_TEST_MOUNTED"

// A directory above the log may be on a file system that cannot sync directories, such as procfs. A
// log can be created there, used, and repaired. The test mounts a file system on /proc/fs in a
// process that has its own mounts.
func TestFiles_ParentCannotBeSynced(t *testing.T) {
	if os.Getenv(mountedEnv) == "" {
		inOwnMounts(t)
		return
	}
	if err := syscall.Mount("tmpfs", "/proc/fs", "tmpfs", 0, ""); err != nil {
		t.Skip("cannot mount a file system: " + err.Error())
	}
	require.ErrorIs(t, syncDir("/proc"), syscall.EINVAL)
	dir := "/proc/fs/logs/log"
	log := openLog(t, dir, Options{})
	require.NoError(t, write(log, body))
	require.NoError(t, log.Close())

	path := segmentPath(dir, 1)
	put(t, append(read(t, path), read(t, path)[:bodyBytes/2]...), path)
	require.Len(t, repaired(t, dir, Options{}), 1, "the torn write is in quarantine/")
	require.Empty(t, repaired(t, dir, Options{}))
}

// inOwnMounts runs the test again, in a process with its own mounts.
func inOwnMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), mountedEnv+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := child.CombinedOutput()
	if child.ProcessState == nil {
		t.Skip("cannot start a process with its own mounts: " + err.Error())
	}
	require.NoError(t, err, string(out))
	t.Logf("%s", out)
}

// If the log's own directory cannot be synced, the error says why and what to do. The same holds
// for a directory in which this call created an entry.
func TestFiles_OwnDirectoryCannotBeSynced(t *testing.T) {
	const message = "sync /proc: invalid argument: this file system cannot sync a directory, so a power cut may remove new files. " +
		"Put the log on a file system that can, such as ext4 or XFS"
	require.EqualError(t, syncDir("/proc"), message)
	require.EqualError(t, syncParent("/proc/fs", true), message)
	require.NoError(t, syncParent("/proc/fs", false))

	r := Recovery{dir: "/proc/self"}
	require.ErrorContains(t, r.syncDirs(), "sync /proc/self: invalid argument: this file system cannot sync a directory", "in an opening")
}
