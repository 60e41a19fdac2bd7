//go:build linux

package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
)

// 14: the disk of one member becomes full, or a sync fails. The member stops and reports the reason,
// and the others continue. When the disk works again, the member starts and catches up. No
// acknowledged proposal is missing.
func TestRaft14_FailedDisk(t *testing.T) {
	t.Parallel()
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprintf("full, leader: %v", leads), func(t *testing.T) {
			f := newFailedDisk(t, leads)
			ballast := f.mount()
			f.load(func(f *failedDisk) {}) // the disk becomes full by itself
			require.ErrorIs(t, f.failure(), syscall.ENOSPC)
			require.NoError(t, os.Remove(ballast))
			f.restart()
		})
		t.Run(fmt.Sprintf("failed sync, leader: %v", leads), func(t *testing.T) {
			f := newFailedDisk(t, leads)
			f.start()
			f.load((*failedDisk).breakSync)
			require.ErrorContains(t, f.failure(), "sync")
			f.restart()
		})
	}
}

// failedDisk is a group, and the member whose disk fails.
type failedDisk struct {
	t     *testing.T
	dir   string
	leads bool
	h     cluster.History
	c     *cluster.Cluster
	m     *cluster.Member

	mu     sync.Mutex
	reason error // for which the member must stop
}

func newFailedDisk(t *testing.T, leads bool) *failedDisk {
	return &failedDisk{t: t, dir: newDir(t), leads: leads}
}

const failing = 1 // position of the member whose disk fails

// start starts the group.
func (f *failedDisk) start() {
	// Without snapshots only the member's own writes can fail.
	f.c = cluster.New(f.t, f.dir, 3, group{tune: manualSnapshots, options: func(m *cluster.Member) *raftlog.Options {
		return &raftlog.Options{Store: migrationlog.Options{SegmentSize: 32 << 10}, OnFailure: func(err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.reason = errors.Join(f.reason, fmt.Errorf("member %s: %w", m.ID, err))
			m.Raft.Shutdown()
		}}
	}}.config())
	f.m = f.c.Members[failing]
	if f.leads {
		lead(f.t, f.c, f.m)
	} else {
		lead(f.t, f.c, f.c.Members[failing+1])
	}
}

func (f *failedDisk) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reason
}

// mount starts the group with the member's store on a small disk. It returns the path of a file that
// can be removed to get space.
func (f *failedDisk) mount() (ballast string) {
	if os.Getuid() != 0 {
		f.t.Skip("only root can mount a small disk")
	}
	disk := filepath.Dir((&cluster.Member{Dir: filepath.Join(f.dir, fmt.Sprintf("m%d", failing))}).StoreDir())
	require.NoError(f.t, os.MkdirAll(disk, 0o700))
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk).CombinedOutput()
	if err != nil {
		f.t.Skipf("no small disk can be mounted here: %s", out)
	}
	f.t.Cleanup(func() { exec.Command("umount", "-l", disk).Run() })
	f.start()
	ballast = filepath.Join(disk, "ballast")
	var free syscall.Statfs_t
	require.NoError(f.t, syscall.Statfs(disk, &free))
	require.NoError(f.t, os.WriteFile(ballast, make([]byte, int64(free.Bavail)*free.Bsize-256<<10), 0o600))
	return ballast
}

// load proposes until the member fails, and then on the others.
func (f *failedDisk) load(fail func(*failedDisk)) {
	load(f.t, newRand(f.t), f.c, &f.h, 8, 400, func(await func(int)) {
		await(50)
		fail(f)
		f.c.Wait("failure of the member", func() bool { await(0); return f.failure() != nil })
		f.c.Disconnect(failing)
		require.ErrorIs(f.t, f.m.Stop(), migrationlog.ErrFailed)
	})
	require.Contains(f.t, f.failure().Error(), "member m1")
	require.NotContains(f.t, f.failure().Error(), "member m0")
	require.NotContains(f.t, f.failure().Error(), "member m2")
}

// restart starts the member again.
func (f *failedDisk) restart() {
	f.c.Start(failing)
	checkMembers(f.t, f.c, &f.h)
}

// breakSync replaces the open segments of the member in this process by /dev/null, on which each
// write succeeds and each sync fails. The bytes are not in the segment either, as after a failed sync.
func (f *failedDisk) breakSync() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(f.t, err)
	defer null.Close()
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(f.t, err)
	wal := filepath.Join(f.m.StoreDir(), "wal") + "/0"
	replaced := 0
	for _, fd := range open {
		name, err := os.Readlink("/proc/self/fd/" + fd.Name())
		var n int
		if err != nil || !strings.HasPrefix(name, wal) {
			continue
		}
		_, err = fmt.Sscan(fd.Name(), &n)
		require.NoError(f.t, err)
		require.NoError(f.t, syscall.Dup2(int(null.Fd()), n))
		replaced++
	}
	require.NotZero(f.t, replaced)
}
