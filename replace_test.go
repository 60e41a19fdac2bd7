package migrationlog_test

import (
	"bytes"
	"fmt"
	"io"

	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// otherState returns the state of a replica with another history.
func otherState(t testing.TB, seed uint64, entries int) *migrationlog.State {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	newEntryMaker(seed).history(t, r, entries)
	return r.State()
}

func manifestOf(t testing.TB, dir string) segment.Manifest {
	found, err := segment.ReadDirectory(os.DirFS(dir))
	require.NoError(t, err)
	return found.Manifest
}

// Replace begins a new log with one event for each row and one with the digests. It keeps the old one.
func TestReplace(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, nil)
	newEntryMaker(4).history(t, r, 300)
	oldStore, oldRows := r.Store(), r.Store().All()
	s := otherState(t, 5, 1200)
	require.NoError(t, r.Replace(s))

	d := s.Digest()
	require.Equal(t, d, r.Digest())
	require.Equal(t, d.Index, r.AppliedIndex())
	require.Equal(t, &segment.History{Index: d.Index, Term: d.Term, Origin: segment.OriginRestored}, manifestOf(t, dir).History)
	require.EqualValues(t, s.Len()+1, r.Store().Stats().LastSeq)
	kinds, _ := kindsAt(t, dir)
	want := append(strings.Fields(strings.Repeat("restored ", s.Len())), "digest")
	require.Equal(t, want, kinds)
	require.True(t, verify(t, dir).Clean())

	// The old store keeps its rows, and its history is in the old directory.
	require.NotSame(t, oldStore, r.Store())
	require.Equal(t, oldRows, oldStore.All())
	require.ErrorIs(t, oldStore.Health(), migrationlog.ErrClosed)
	old := openReplica(t, dir+".replaced-1", nil)
	require.Equal(t, oldRows, old.Store().All())

	// A state of an earlier time is accepted too.
	require.NoError(t, r.Replace(old.State()))
	require.Equal(t, old.Digest(), r.Digest())
	require.NoError(t, r.Replace(s))
	apply(t, r, []migrationlog.Entry{removedAt(d.Index), removedAt(d.Index + 1)}, nil)
	require.Equal(t, d.Index+1, r.AppliedIndex())
	r = reopenReplica(t, r, dir)
	require.Equal(t, d.Index+1, r.AppliedIndex())
	require.DirExists(t, dir+".replaced-3")
	require.NoDirExists(t, dir+".new-incomplete")

	// A state without rows, and one before the first entry.
	empty := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	require.NoError(t, r.Replace(empty.State()))
	require.Zero(t, r.AppliedIndex())
	r = reopenReplica(t, r, dir)
	require.Equal(t, empty.Digest(), r.Digest())
	apply(t, empty, []migrationlog.Entry{removedAt(1)}, nil)
	apply(t, r, []migrationlog.Entry{removedAt(1)}, nil)
	require.Equal(t, empty.Digest(), r.Digest())
	require.NoError(t, r.Replace(empty.State()))
	require.Equal(t, empty.Digest(), reopenReplica(t, r, dir).Digest())
}

// A state that cannot be read to its end changes nothing, and the next one is accepted.
func TestReplace_FailingReader(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	r := openReplica(t, dir, nil)
	newEntryMaker(4).history(t, r, 100)
	require.NoError(t, r.Record())
	before, digest := hashes(t, dir), r.Digest()
	b := stateBytes(t, otherState(t, 5, 500))
	for k := 0; k < len(b); k += 7 {
		from := io.MultiReader(bytes.NewReader(b[:k]), iotest.ErrReader(os.ErrDeadlineExceeded))
		s, err := migrationlog.ReadState(from)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Nil(t, s)
	}
	require.Equal(t, before, hashes(t, dir))
	require.Equal(t, digest, r.Digest())
	s, err := migrationlog.ReadState(bytes.NewReader(b))
	require.NoError(t, err)
	require.NoError(t, r.Replace(s))
	require.Equal(t, s.Digest(), r.Digest())
}

// If the new log does not fit on the disk, the old state is in use, and nothing is left over.
func TestReplace_DiskFull(t *testing.T) {
	parent := t.TempDir()
	if err := syscall.Mount("tmpfs", parent, "tmpfs", 0, "size=400k"); err != nil {
		t.Skipf("a small file system is needed, and only root can mount one: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(parent, syscall.MNT_DETACH) })
	dir := filepath.Join(parent, "log")
	r := openReplica(t, dir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{SegmentSize: 4096}})
	newEntryMaker(4).history(t, r, 100)
	digest, store := r.Digest(), r.Store()

	large := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	var entries []migrationlog.Entry
	for i := range 5000 {
		entries = append(entries, upsertAt(t, uint64(i+1), numberedID(i), 0, checkpoint.PhaseAddLearner))
	}
	apply(t, large, entries, nil)
	err := r.Replace(large.State())
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NotErrorIs(t, err, migrationlog.ErrFailed)
	require.Equal(t, digest, r.Digest())
	require.Same(t, store, r.Store())
	names, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Len(t, names, 1, "the incomplete log was removed")
	apply(t, r, []migrationlog.Entry{removedAt(digest.Index + 1)}, nil)
	small := otherState(t, 5, 100)
	require.NoError(t, r.Replace(small))
	require.Equal(t, small.Digest(), r.Digest())
}

// The directory of a log that is a mount point cannot be renamed. The replica then keeps its state.
func TestReplace_MountPoint(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a mount point is needed, and only root can mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	r := openReplica(t, dir, &migrationlog.ReplicaOptions{Store: migrationlog.Options{SegmentSize: 4096}})
	newEntryMaker(4).history(t, r, 100)
	digest := r.Digest()
	err := r.Replace(otherState(t, 5, 100))
	require.ErrorContains(t, err, "mount point")
	require.NotErrorIs(t, err, migrationlog.ErrFailed)
	require.Equal(t, digest, r.Digest())
	apply(t, r, []migrationlog.Entry{removedAt(digest.Index + 1)}, nil)
}

// A state does not change while entries are applied, and it is that of its index.
func TestState_WhileEntriesAreApplied(t *testing.T) {
	r := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	maker := newEntryMaker(21)
	maker.history(t, r, 500)
	s := r.State()
	want, digest := stateBytes(t, s), s.Digest()
	written := make(chan []byte)
	go func() {
		for range 20 {
			var b bytes.Buffer
			if _, err := s.WriteTo(&b); err != nil {
				panic(err)
			}
			written <- b.Bytes()
		}
		close(written)
	}()
	var reads int
	for i := 0; i < 1000 || reads < 20; i++ {
		maker.history(t, r, 1)
		select {
		case b, ok := <-written:
			if ok {
				require.Equal(t, want, b)
			}
			reads++
		default:
		}
	}
	require.Equal(t, digest, s.Digest())
	restored := openReplica(t, filepath.Join(memDir(t), "log"), nil)
	require.NoError(t, restored.Replace(s))
	require.Equal(t, digest, restored.Digest())
	require.Equal(t, want, stateBytes(t, restored.State()))
}

const replacingEnv = "MIGRATIONLOG_TEST_REPLACING"

// TestReplace_Process is the process of TestReplace_Killed. It replaces the state of the log again and
// again by two other ones.
func TestReplace_Process(t *testing.T) {
	dir := os.Getenv(replacingEnv)
	if dir == "" {
		t.Skip("a process of TestReplace_Killed")
	}
	r, err := migrationlog.OpenReplica(dir, nil)
	require.NoError(t, err)
	var states [2]*migrationlog.State
	for i := range states {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), fmt.Sprint("state", i)))
		require.NoError(t, err)
		states[i], err = migrationlog.ReadState(bytes.NewReader(b))
		require.NoError(t, err)
	}
	fmt.Println("ready")
	for i := 0; ; i++ {
		require.NoError(t, r.Replace(states[i%2]))
	}
}

// If the process is killed during Replace, the next one finds the old or the new state.
func TestReplace_Killed(t *testing.T) {
	parent := memDir(t)
	dir := filepath.Join(parent, "log")
	want := map[migrationlog.Digest]int{}
	for i := range 2 {
		s := otherState(t, uint64(30+i), 50)
		require.NoError(t, os.WriteFile(filepath.Join(parent, fmt.Sprint("state", i)), stateBytes(t, s), 0o600))
		want[s.Digest()] = 0
	}
	first := openReplica(t, dir, nil)
	want[first.Digest()] = 0
	require.NoError(t, first.Close())
	random, names := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)), map[string]int{}
	for range 50 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestReplace_Process$")
		cmd.Env = append(os.Environ(), replacingEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, len("ready")))
		require.NoError(t, err)
		time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		entries, err := os.ReadDir(parent)
		require.NoError(t, err)
		for _, e := range entries {
			name, _, _ := strings.Cut(e.Name(), "-")
			names[name]++
			if strings.HasPrefix(e.Name(), "log.replaced-") && random.IntN(2) == 0 {
				require.NoError(t, os.RemoveAll(filepath.Join(parent, e.Name())))
			}
		}
		r, err := migrationlog.OpenReplica(dir, nil)
		require.NoError(t, err)
		require.NoError(t, r.Health())
		require.Contains(t, want, r.Digest())
		want[r.Digest()]++
		require.NoError(t, r.Close())
		for _, rest := range []string{".new-incomplete", ".new-complete"} {
			require.NoDirExists(t, dir+rest)
		}
	}
	t.Logf("names after the kills: %v; states: %v", names, len(want))
}
