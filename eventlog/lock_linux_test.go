//go:build !portable

package eventlog

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const flockErrorEnv = "MIGRATIONLOG_TEST_FLOCK_ERROR"

// If the file system does not support locks, the error names the file and the remedy. The test runs
// in a process in which the kernel returns an error for each flock.
func TestLock_NotSupported(t *testing.T) {
	number, err := strconv.Atoi(os.Getenv(flockErrorEnv))
	if err != nil {
		for _, number := range []syscall.Errno{syscall.ENOSYS, syscall.ENOTSUP, syscall.ENOLCK} {
			self, err := os.Executable()
			require.NoError(t, err)
			child := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
			child.Env = append(os.Environ(), flockErrorEnv+"="+strconv.Itoa(int(number)))
			out, err := child.CombinedOutput()
			require.NoError(t, err, string(out))
			t.Logf("%s", out)
		}
		return
	}
	if err := failFlock(syscall.Errno(number)); err != nil {
		t.Skip("cannot make flock fail: " + err.Error())
	}
	dir := filepath.Join(memDir(t), "log")
	_, err = Begin(dir, Options{})
	require.ErrorIs(t, err, syscall.Errno(number))
	require.NotErrorIs(t, err, ErrLocked)
	require.EqualError(t, err, "lock: flock "+filepath.Join(dir, LockName)+": "+syscall.Errno(number).Error()+
		": this file system does not support locks, which keep a second writer out. Put the log on a file system with locks, such as ext4 or XFS, or mount this file system with locks")
}

// failFlock makes the kernel return an error for each later flock of this process.
func failFlock(number syscall.Errno) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FLOCK, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(number)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, failure := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if failure != 0 {
		return errors.Join(errors.New("seccomp"), failure)
	}
	return nil
}
