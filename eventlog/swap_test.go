package eventlog

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// The histories of the logs in these tests: the old log has three events, and the new one five.
const oldEvents, newEvents = 3, 5

// makeLog makes a closed log with that many events.
func makeLog(t testing.TB, dir string, events int) {
	opts := Options{Replicated: true}
	if strings.HasSuffix(dir, ".new-incomplete") {
		opts.History = &segment.History{Index: 5, Term: 1, Origin: segment.OriginRestored}
	}
	log := openLog(t, dir, opts)
	for seq := 1; seq <= events; seq++ {
		require.NoError(t, write(log, eventBody(seq)))
	}
	require.NoError(t, log.Close())
}

// swapReady makes an old log, and next to it a new one that can replace it.
func swapReady(t testing.TB) (dir string) {
	dir = filepath.Join(memDir(t), "member", "log")
	makeLog(t, dir, oldEvents)
	restoring, err := BeginSwap(dir)
	require.NoError(t, err)
	makeLog(t, restoring, newEvents)
	return dir
}

// eventsIn opens a log, checks that it is intact, and returns the number of its events.
func eventsIn(t testing.TB, dir string) int {
	t.Helper()
	r := begin(t, dir, Options{MustExist: true, Replicated: true})
	frames, damage := items(t, r)
	require.Empty(t, damage)
	for i, f := range frames {
		require.Equal(t, eventBody(i+1), f.Body)
	}
	require.NoError(t, r.Abandon())
	return len(frames)
}

// D12: SwapDir replaces a log by another one and keeps the old one.
func TestD12_Swap(t *testing.T) {
	dir := swapReady(t)
	require.NoError(t, os.Mkdir(dir+".replaced-7", 0o700))
	require.NoError(t, os.Mkdir(dir+".replaced-x", 0o700))
	replaced, err := SwapDir(dir)
	require.NoError(t, err)
	require.Equal(t, dir+".replaced-8", replaced)
	require.Equal(t, newEvents, eventsIn(t, dir))
	require.Empty(t, read(t, replaced, LockName), "nobody has the log open")
	require.Equal(t, oldEvents, eventsIn(t, replaced))
	require.Equal(t, []string{"log", "log.replaced-7", "log.replaced-8", "log.replaced-x"}, names(t, filepath.Dir(dir)))

	require.NoError(t, os.Chmod(dir, 0o700))
	restoring, err := BeginSwap(dir)
	require.NoError(t, err)
	info, err := os.Stat(restoring)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	makeLog(t, restoring, oldEvents)
	replaced, err = SwapDir(dir)
	require.NoError(t, err)
	require.Equal(t, dir+".replaced-9", replaced)
	require.Equal(t, oldEvents, eventsIn(t, dir))
	require.NoError(t, FinishSwap(dir, 0))
	require.Equal(t, oldEvents, eventsIn(t, dir))
}

// D12: a crash between any two steps leaves the old or the new log, and FinishSwap removes all other
// traces. It can itself be interrupted.
func TestD12_InterruptedSwap(t *testing.T) {
	rename := func(t *testing.T, from, to string) { require.NoError(t, os.Rename(from, to)) }
	part := func(t *testing.T, dir string) { // what a removal that was interrupted has left
		require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
		require.NoError(t, os.Remove(segmentPath(dir, 1)))
	}
	for name, tc := range map[string]struct {
		change func(t *testing.T, dir string)
		want   int // events; -1: no log
	}{
		"the new log is empty": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir+".new-incomplete"))
			require.NoError(t, os.Mkdir(dir+".new-incomplete", 0o750))
		}, oldEvents},
		"the new log is a part":    {func(t *testing.T, dir string) { part(t, dir+".new-incomplete") }, oldEvents},
		"the new log is not named": {func(t *testing.T, dir string) {}, oldEvents},
		"the new log is complete":  {func(t *testing.T, dir string) { rename(t, dir+".new-incomplete", dir+".new-complete") }, oldEvents},
		"the old log is set aside": {func(t *testing.T, dir string) {
			rename(t, dir+".new-incomplete", dir+".new-complete")
			rename(t, dir, dir+".replaced-1")
		}, newEvents},
		"a service manager has created the directory": {func(t *testing.T, dir string) {
			rename(t, dir+".new-incomplete", dir+".new-complete")
			rename(t, dir, dir+".replaced-1")
			require.NoError(t, os.Mkdir(dir, 0o750))
		}, newEvents},
		"both names": {func(t *testing.T, dir string) {
			rename(t, dir+".new-incomplete", dir+".new-complete")
			rename(t, dir, dir+".replaced-1")
			rename(t, dir+".new-complete", dir)
		}, newEvents},
		"the old log is removed, the new one is a part": {func(t *testing.T, dir string) {
			part(t, dir+".new-incomplete")
			require.NoError(t, os.RemoveAll(dir))
		}, -1},
		"a later new log is a part": {func(t *testing.T, dir string) {
			rename(t, dir+".new-incomplete", dir+".new-complete")
			require.NoError(t, os.CopyFS(dir+".new-incomplete", os.DirFS(dir+".new-complete")))
			part(t, dir+".new-incomplete")
		}, oldEvents},
	} {
		t.Run(name, func(t *testing.T) {
			dir := swapReady(t)
			tc.change(t, dir)
			for range 2 {
				require.NoError(t, FinishSwap(dir, 0))
				want := []string{"log", "log.replaced-1"}
				if _, err := os.Stat(dir + ".replaced-1"); err != nil {
					want = want[:1]
				} else {
					require.Equal(t, oldEvents, eventsIn(t, dir+".replaced-1"))
				}
				if tc.want < 0 {
					require.Empty(t, names(t, filepath.Dir(dir)))
					continue
				}
				require.Equal(t, want, names(t, filepath.Dir(dir)))
				require.Equal(t, tc.want, eventsIn(t, dir))
			}
		})
	}
}

// D12: leftovers do not stop the next replacement.
func TestD12_SwapAfterLeftovers(t *testing.T) {
	for _, leftover := range []string{".new-incomplete", ".new-complete"} {
		dir := swapReady(t)
		if leftover != ".new-incomplete" {
			require.NoError(t, os.Rename(dir+".new-incomplete", dir+leftover))
		}
		restoring, err := BeginSwap(dir)
		require.NoError(t, err)
		require.Empty(t, names(t, restoring))
		require.Equal(t, []string{"log", "log.new-incomplete"}, names(t, filepath.Dir(dir)))
		makeLog(t, restoring, newEvents)
		_, err = SwapDir(dir)
		require.NoError(t, err)
		require.Equal(t, newEvents, eventsIn(t, dir))
	}
}

// D10, D12: no other writer opens the old or the new log during a replacement, and none starts a log
// in place of them. If another writer has either log open, nothing is replaced.
func TestD12_SwapNeedsTheLocks(t *testing.T) {
	for _, open := range []string{"", ".new-incomplete"} {
		dir := swapReady(t)
		other := begin(t, dir+open, Options{Replicated: true})
		before := names(t, filepath.Dir(dir))
		_, err := SwapDir(dir)
		require.ErrorIs(t, err, ErrLocked)
		require.Equal(t, before, names(t, filepath.Dir(dir)))
		if open == "" {
			require.ErrorIs(t, FinishSwap(dir, 0), ErrLocked, "the other process may be preparing a replacement")
		}
		require.NoError(t, other.Abandon())
		_, err = SwapDir(dir)
		require.NoError(t, err)
		require.Equal(t, newEvents, eventsIn(t, dir))
	}

	dir := swapReady(t)
	require.NoError(t, os.Rename(dir+".new-incomplete", dir+".new-complete"))
	require.NoError(t, os.Rename(dir, dir+".replaced-1"))
	before := names(t, filepath.Dir(dir))
	_, err := Begin(dir, Options{Replicated: true})
	require.ErrorIs(t, err, ErrNeedsRepair)
	require.ErrorContains(t, err, "the replacement of the log "+dir+" was interrupted, and the new log is still in "+dir+".new-complete: open the log as a replica")
	require.Equal(t, before, names(t, filepath.Dir(dir)))
	next := begin(t, dir+".new-complete", Options{Replicated: true}) // as SwapDir does
	require.ErrorIs(t, FinishSwap(dir, 0), ErrLocked)
	require.Equal(t, before, names(t, filepath.Dir(dir)))
	go func() {
		time.Sleep(20 * time.Millisecond)
		os.Rename(dir+".new-complete", dir)
		next.Abandon()
	}()
	require.NoError(t, FinishSwap(dir, time.Minute), "the other process finishes it")
	require.Equal(t, newEvents, eventsIn(t, dir))
}

// D10, D12: a writer that waits for the old log's lock gets the new log, and holds its lock.
func TestD12_WaitingWriterGetsTheNewLog(t *testing.T) {
	dir := swapReady(t)
	old, err := lock(dir, 0)
	require.NoError(t, err)
	type opening struct {
		recovery *Recovery
		err      error
	}
	opened := make(chan opening)
	go func() {
		r, err := Begin(dir, Options{MustExist: true, Replicated: true, LockTimeout: time.Minute})
		opened <- opening{r, err}
	}()
	time.Sleep(30 * time.Millisecond)
	require.NoError(t, os.Rename(dir+".new-incomplete", dir+".new-complete"))
	require.NoError(t, os.Rename(dir, dir+".replaced-1"))
	require.NoError(t, os.Rename(dir+".new-complete", dir))
	require.NoError(t, unlock(old))
	waiting := <-opened
	require.NoError(t, waiting.err)
	frames, _ := items(t, waiting.recovery)
	require.Len(t, frames, newEvents)
	_, err = lock(dir, 0)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, waiting.recovery.Abandon())
}

// D12: a directory without a log, or a missing one, replaces nothing.
func TestD12_NothingToSwap(t *testing.T) {
	dir := swapReady(t)
	require.NoError(t, os.Remove(filepath.Join(dir+".new-incomplete", "MANIFEST")))
	require.NoError(t, os.Remove(filepath.Join(dir+".new-incomplete", "wal", "MANIFEST")))
	_, err := SwapDir(dir)
	require.ErrorIs(t, err, segment.ErrManifestLost)
	require.NoError(t, os.RemoveAll(dir+".new-incomplete"))
	_, err = SwapDir(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, oldEvents, eventsIn(t, dir))

	missing := filepath.Join(t.TempDir(), "a", "b")
	_, err = BeginSwap(missing)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, FinishSwap(missing, 0))
	require.NoDirExists(t, filepath.Dir(missing))
}

// D12: if dir is a symbolic link, its target is replaced and the link stays. This also holds if the
// replacement was interrupted while the target did not exist.
func TestD12_SymbolicLink(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		base := memDir(t)
		target := filepath.Join(base, "disk", "target")
		makeLog(t, target, oldEvents)
		link, second := filepath.Join(base, "a", "log"), filepath.Join(base, "second")
		require.NoError(t, os.Mkdir(filepath.Dir(link), 0o750))
		require.NoError(t, os.Symlink("../disk/target", link))
		require.NoError(t, os.Symlink(link, second))
		restoring, err := BeginSwap(second)
		require.NoError(t, err)
		require.Equal(t, target+".new-incomplete", restoring)
		makeLog(t, restoring, newEvents)
		if interrupted {
			require.NoError(t, os.Rename(restoring, target+".new-complete"))
			require.NoError(t, os.Rename(target, target+".replaced-1"))
			_, err := Begin(second, Options{Replicated: true})
			require.ErrorIs(t, err, ErrNeedsRepair)
			require.NoError(t, FinishSwap(second, 0))
		} else {
			replaced, err := SwapDir(second)
			require.NoError(t, err)
			require.Equal(t, target+".replaced-1", replaced)
		}
		require.Equal(t, newEvents, eventsIn(t, second))
		require.Equal(t, []string{"log"}, names(t, filepath.Dir(link)))
		require.Equal(t, []string{"target", "target.replaced-1"}, names(t, filepath.Dir(target)))
	}
	loop := filepath.Join(t.TempDir(), "loop")
	require.NoError(t, os.Symlink(loop, loop))
	require.ErrorContains(t, FinishSwap(loop, 0), "too many symbolic links")
}

// D12: a mount point cannot be renamed. BeginSwap returns an error before the new log is written. If
// the system does not show mount points, SwapDir returns it and leaves the old log in place.
func TestD12_MountPoint(t *testing.T) {
	disk := smallDisk(t, 1<<20)
	makeLog(t, disk, oldEvents)
	want := disk + " is a mount point, so it cannot be renamed, and its log cannot be replaced: move the log into a directory below the mount point"
	if isMountPoint("/proc") {
		_, err := BeginSwap(disk)
		require.EqualError(t, err, want)
		require.NoDirExists(t, disk+".new-incomplete")
	}
	makeLog(t, disk+".new-incomplete", newEvents)
	_, err := SwapDir(disk)
	require.Error(t, err)
	if isMountPoint("/proc") {
		require.ErrorContains(t, err, want)
	}
	require.NotErrorIs(t, err, ErrFailed)
	require.Equal(t, oldEvents, eventsIn(t, disk))
	require.Equal(t, []string{filepath.Base(disk)}, names(t, filepath.Dir(disk)))

	below := filepath.Join(disk, "log")
	makeLog(t, below, oldEvents)
	restoring, err := BeginSwap(below)
	require.NoError(t, err, "a directory below a mount point")
	makeLog(t, restoring, newEvents)
	_, err = SwapDir(below)
	require.NoError(t, err)
	require.Equal(t, newEvents, eventsIn(t, below))
}

// D12: if the directory above the log is read-only, nothing is replaced, and the error has the
// reason.
func TestD12_ReadOnlyParent(t *testing.T) {
	dir := swapReady(t)
	copied := filepath.Join(smallDisk(t, 1<<20), "member")
	require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Dir(dir))))
	for _, leftover := range []bool{true, false} {
		if !leftover {
			require.NoError(t, os.RemoveAll(filepath.Join(copied, "log.new-incomplete")))
		}
		readOnly := smallDisk(t, 1<<20)
		mounted := mountReadOnly(t, copied, readOnly)
		before := tree(t, mounted)
		_, err := BeginSwap(filepath.Join(mounted, "log"))
		require.ErrorContains(t, err, "read-only file system")
		if !leftover {
			require.ErrorContains(t, err, "cannot create a directory next to the log")
			require.NoError(t, FinishSwap(filepath.Join(mounted, "log"), 0), "nothing to do")
		}
		_, err = SwapDir(filepath.Join(mounted, "log"))
		require.Error(t, err)
		require.Equal(t, before, tree(t, mounted))
	}
}

// D12: on a full disk the new log cannot be written. The old log stays in use, and the rest of the
// new one is removed later.
func TestD12_FullDisk(t *testing.T) {
	disk := smallDisk(t, 1<<20)
	dir := filepath.Join(disk, "log")
	makeLog(t, dir, oldEvents)
	ballast := filepath.Join(disk, "ballast")
	require.Error(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
	restoring, err := BeginSwap(dir)
	require.NoError(t, err)
	_, err = Begin(restoring, Options{Replicated: true})
	require.Error(t, err)
	_, err = SwapDir(dir)
	require.Error(t, err)
	require.NoError(t, FinishSwap(dir, 0))
	require.NoDirExists(t, restoring)
	require.NoError(t, os.Remove(ballast))
	require.Equal(t, oldEvents, eventsIn(t, dir))
}

// If the second rename fails, SwapDir undoes the first one.
func TestD12_SwapUndone(t *testing.T) {
	dir := swapReady(t)
	s, err := newSwap(dir)
	require.NoError(t, err)
	require.NoError(t, s.markComplete())
	s.restored += "-missing"
	err = s.exchange(dir + ".replaced-1")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.False(t, errors.Is(err, ErrFailed))
	require.Equal(t, oldEvents, eventsIn(t, dir))
	require.NoDirExists(t, dir+".replaced-1")
}

// mountReadOnly makes the content of a directory visible at another one, read-only.
func mountReadOnly(t *testing.T, dir, at string) string {
	t.Helper()
	for _, arguments := range [][]string{{"--bind", dir, at}, {"-o", "remount,bind,ro", at}} {
		if out, err := exec.Command("mount", arguments...).CombinedOutput(); err != nil {
			t.Skipf("no directory can be mounted here: %s", out)
		}
	}
	t.Cleanup(func() { exec.Command("umount", "-l", at).Run() })
	return at
}

// D12: a log that has the name of a new log, but does not replace another one, is neither removed nor
// used.
func TestD12_OtherLogIsKept(t *testing.T) {
	for _, suffix := range []string{".new-incomplete", ".new-complete"} {
		for _, isPresent := range []bool{true, false} {
			dir := filepath.Join(memDir(t), "log")
			if isPresent {
				makeLog(t, dir, oldEvents)
			}
			makeLog(t, dir+"-backup", newEvents)
			require.NoError(t, os.Rename(dir+"-backup", dir+suffix))
			require.ErrorIs(t, FinishSwap(dir, 0), ErrNeedsRepair)
			require.Equal(t, newEvents, eventsIn(t, dir+suffix))
			if isPresent {
				_, err := BeginSwap(dir)
				require.ErrorIs(t, err, ErrNeedsRepair)
				require.Equal(t, oldEvents, eventsIn(t, dir))
			}
		}
	}
}
