package simos_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/internal/torture/simos"
)

// states cuts the power after the last operation many times and returns the different results, as
// described by describe.
func states(d *simos.Disk, describe func(*simos.Image) string) []string {
	rng := rand.New(rand.NewPCG(1, 2))
	found := map[string]bool{}
	for range 4000 {
		found[describe(d.Cut(len(d.Ops()), simos.DrawLuck(rng)))] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// names describes an image by its names and the first byte of each file.
func names(i *simos.Image) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(i.Entries)) {
		entry := i.Entries[name]
		switch {
		case entry.Entries != nil:
			parts = append(parts, name+"/("+names(entry)+")")
		case len(entry.Bytes) > 0:
			parts = append(parts, name+"="+string(entry.Bytes[:1]))
		default:
			parts = append(parts, name)
		}
	}
	return strings.Join(parts, " ")
}

func watch(t *testing.T) (string, *simos.Disk) {
	dir := t.TempDir()
	d := simos.Watch(dir)
	t.Cleanup(d.Stop)
	return dir, d
}

func sync(t *testing.T, path string) error {
	f, err := simos.Open(path)
	require.NoError(t, err)
	return errors.Join(f.Sync(), f.Close())
}

func write(t *testing.T, path, text string) {
	require.NoError(t, simos.WriteFile(path, []byte(text), 0o600))
}

// sectors returns a text with one sector for each letter.
func sectors(letters string) (text string) {
	for _, letter := range letters {
		text += strings.Repeat(string(letter), simos.SectorBytes)
	}
	return text
}

// letters returns one character for each sector of a file. It fails the test if a sector is torn.
func letters(t *testing.T, b []byte) (parts string) {
	for sector := range slices.Chunk(b, simos.SectorBytes) {
		require.Equal(t, strings.Repeat(string(sector[:1]), len(sector)), string(sector), "a torn sector")
		parts += strings.ReplaceAll(string(sector[:1]), "\x00", "0")
	}
	return parts
}

// After a cut, each sector independently has the synced content or the content of any later write.
func TestCut_SectorsAreIndependent(t *testing.T) {
	dir, d := watch(t)
	path := filepath.Join(dir, "f")
	write(t, path, sectors("ab"))
	require.NoError(t, sync(t, path))
	require.NoError(t, sync(t, dir))
	f, err := simos.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte(sectors("cd")), 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(sectors("e")), simos.SectorBytes)
	require.NoError(t, err)
	file := func(i *simos.Image) string { return letters(t, i.File("f")) }
	require.Equal(t, []string{"ab", "ad", "ae", "cb", "cd", "ce"}, states(d, file))
	require.NoError(t, f.Sync())
	require.Equal(t, []string{"ce"}, states(d, file))
}

// After a cut, an appended file may have any of its sizes, and any of its unsynced sectors may be
// zeros.
func TestCut_AppendedMayBeZeros(t *testing.T) {
	dir, d := watch(t)
	path := filepath.Join(dir, "f")
	write(t, path, sectors("a"))
	require.NoError(t, sync(t, path))
	require.NoError(t, sync(t, dir))
	f, err := simos.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer f.Close()
	for _, letter := range []string{"b", "c"} {
		_, err = f.WriteString(sectors(letter))
		require.NoError(t, err)
	}
	file := func(i *simos.Image) string { return letters(t, i.File("f")) }
	require.Equal(t, []string{"a", "a0", "a00", "a0c", "ab", "ab0", "abc"}, states(d, file))
	require.NoError(t, f.Truncate(simos.SectorBytes))
	require.NoError(t, f.Sync())
	require.Equal(t, []string{"a"}, states(d, file))
}

// After a cut, a name has one of its earlier states, independently of other names. The sync of a
// file does not make its name durable.
func TestCut_NamesKeepTheirOrder(t *testing.T) {
	dir, d := watch(t)
	write(t, filepath.Join(dir, "a"), "1")
	require.NoError(t, sync(t, filepath.Join(dir, "a")))
	require.Equal(t, []string{"", "a=1"}, states(d, names))
	require.NoError(t, simos.Remove(filepath.Join(dir, "a")))
	require.NoError(t, simos.Mkdir(filepath.Join(dir, "a"), 0o700))
	write(t, filepath.Join(dir, "b"), "")
	require.Equal(t, []string{"", "a/()", "a/() b", "a=1", "a=1 b", "b"}, states(d, names))
	require.NoError(t, sync(t, dir))
	require.Equal(t, []string{"a/() b"}, states(d, names))
}

// After a cut, a rename is never half done, even between two directories. If either directory is
// synced, the rename and the changes that it depends on are durable.
func TestCut_RenameIsAtomic(t *testing.T) {
	dir, d := watch(t)
	write(t, filepath.Join(dir, "a"), "1")
	write(t, filepath.Join(dir, "b"), "2")
	require.NoError(t, simos.Mkdir(filepath.Join(dir, "x"), 0o700))
	require.NoError(t, simos.Mkdir(filepath.Join(dir, "y"), 0o700))
	for _, name := range []string{"a", "b"} {
		require.NoError(t, sync(t, filepath.Join(dir, name)))
	}
	require.NoError(t, sync(t, dir))
	require.NoError(t, simos.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	require.Equal(t, []string{"a=1 b=2 x/() y/()", "b=1 x/() y/()"}, states(d, names))
	require.NoError(t, sync(t, dir))

	require.NoError(t, simos.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "x", "c")))
	require.NoError(t, simos.Rename(filepath.Join(dir, "x", "c"), filepath.Join(dir, "y", "c")))
	require.Equal(t, []string{"b=1 x/() y/()", "x/() y/(c=1)", "x/(c=1) y/()"}, states(d, names))
	require.NoError(t, sync(t, filepath.Join(dir, "y")))
	require.Equal(t, []string{"x/() y/(c=1)"}, states(d, names))
}

// If the name of a directory is lost, everything below it is lost too, even if it was synced.
func TestCut_DirectoryTakesAllBelow(t *testing.T) {
	dir, d := watch(t)
	sub := filepath.Join(dir, "sub")
	require.NoError(t, simos.MkdirAll(sub, 0o700))
	write(t, filepath.Join(sub, "f"), "1")
	require.NoError(t, sync(t, filepath.Join(sub, "f")))
	require.NoError(t, sync(t, sub))
	require.Equal(t, []string{"", "sub/(f=1)"}, states(d, names))
}

// A file stays the same file after it is renamed, linked or removed.
func TestCut_LinksAreOneFile(t *testing.T) {
	dir, d := watch(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	f, err := simos.Create(a)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, simos.Link(a, b))
	require.NoError(t, simos.Remove(a))
	write(t, a, "2")
	require.NoError(t, sync(t, a))
	_, err = f.WriteString("1")
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, sync(t, dir))
	require.Equal(t, []string{"a=2 b=1"}, states(d, names))

	require.NoError(t, simos.Link(b, filepath.Join(dir, "c")))
	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, d.Cut(len(d.Ops()), simos.FullLuck()).Write(copied))
	again := simos.ReadImage(copied)
	require.Same(t, again.Entries["b"], again.Entries["c"])
	require.Equal(t, again.Hash(), simos.ReadImage(dir).Hash(), "everything arrived")
}

// After a failed sync, the unsynced bytes can be read, but a power cut loses them. A later sync
// does not change this unless they are written again.
func TestCut_FailedSync(t *testing.T) {
	dir, d := watch(t)
	path := filepath.Join(dir, "f")
	write(t, path, sectors("ab"))
	require.NoError(t, sync(t, path))
	require.NoError(t, sync(t, dir))
	f, err := simos.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte(sectors("cde")), 0)
	require.NoError(t, err)
	d.FailAt(d.Calls()+1, syscall.EIO, false)
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	require.NoError(t, f.Sync(), "the kernel has forgotten")
	b, err := simos.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "cde", letters(t, b))
	lost := func() string { return letters(t, d.Cut(len(d.Ops()), simos.Luck{}).File("f")) }
	require.Equal(t, "ab", lost())

	_, err = f.WriteAt([]byte(sectors("g")), simos.SectorBytes)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.Equal(t, "ag0", lost(), "the size is written with the next write")
	require.Contains(t, states(d, func(i *simos.Image) string { return letters(t, i.File("f")) }), "cge")
}

// Every call can be made to fail, once or permanently. A failed call has no effect.
func TestFailAt_EveryCall(t *testing.T) {
	run := func(dir string) (done []string, err error) {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "sub", "b")
		for _, step := range []struct {
			name string
			do   func() error
		}{
			{"mkdir", func() error { return simos.Mkdir(filepath.Join(dir, "sub"), 0o700) }},
			{"create", func() error { return simos.WriteFile(a, []byte("1234"), 0o600) }},
			{"stat", func() error { _, err := simos.Stat(a); return err }},
			{"read", func() error { _, err := simos.ReadFile(a); return err }},
			{"truncate", func() error { return simos.Truncate(a, 3) }},
			{"link", func() error { return simos.Link(a, b+"2") }},
			{"rename", func() error { return simos.Rename(a, b) }},
			{"readdir", func() error { _, err := fs.ReadDir(simos.DirFS(dir), "sub"); return err }},
			{"readfs", func() error { _, err := fs.ReadFile(simos.DirFS(dir), "sub/b"); return err }},
			{"statfs", func() error { _, err := fs.Stat(simos.DirFS(dir), "sub/b"); return err }},
			{"openfs", func() error {
				f, err := simos.DirFS(dir).Open("sub")
				if err == nil {
					err = errors.Join(f.(*simos.File).Sync(), f.Close())
				}
				return err
			}},
			{"remove", func() error { return simos.Remove(b) }},
		} {
			if err := step.do(); err != nil {
				return done, fmt.Errorf("%s: %w", step.name, err)
			}
			done = append(done, step.name)
		}
		return done, nil
	}
	dir, d := watch(t)
	all, err := run(dir)
	require.NoError(t, err)
	require.Len(t, all, 12)
	failed := map[string]int{}
	for n := 1; n <= d.Calls(); n++ {
		for _, sticky := range []bool{false, true} {
			dir, d := watch(t)
			d.FailAt(n, syscall.EIO, sticky)
			done, err := run(dir)
			require.ErrorIs(t, err, syscall.EIO, "call %d", n)
			failed[all[len(done)]]++
			_, err = simos.Stat(dir)
			require.Equal(t, sticky, err != nil)
			d.Heal()
			_, err = simos.Stat(dir)
			require.NoError(t, err)
		}
	}
	require.Len(t, failed, len(all), "%v", failed)
}

// If the disk is full, half of a write is done. Calls that need no space succeed.
func TestFailAt_FullDisk(t *testing.T) {
	dir, d := watch(t)
	f, err := simos.Create(filepath.Join(dir, "f"))
	require.NoError(t, err)
	d.FailAt(1, syscall.ENOSPC, true)
	n, err := f.Write([]byte("1234"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 2, n)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	_, err = simos.Create(filepath.Join(dir, "g"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	fired, last := d.Fired()
	require.Equal(t, 2, fired)
	require.Contains(t, last, "create /g")
	b, err := simos.ReadFile(filepath.Join(dir, "f"))
	require.NoError(t, err)
	require.Equal(t, "12", string(b))
	require.Equal(t, "f=1", names(d.Cut(len(d.Ops()), simos.FullLuck())))
}

// After a program is killed, its calls have no effect. Its earlier writes can be read. A power cut
// loses them unless the next program syncs them.
func TestKillAt(t *testing.T) {
	dir, d := watch(t)
	path := filepath.Join(dir, "f")
	f, err := simos.Create(path)
	require.NoError(t, err)
	require.NoError(t, sync(t, dir))
	d.KillAt(d.Calls() + 2)
	_, err = f.WriteString("1234")
	require.NoError(t, err)
	_, err = f.WriteString("5678")
	require.ErrorIs(t, err, simos.ErrKilled)
	_, err = f.WriteString("9")
	require.ErrorIs(t, err, simos.ErrKilled)
	require.ErrorIs(t, f.Sync(), simos.ErrKilled)
	require.ErrorIs(t, f.Close(), simos.ErrKilled)
	d.Heal()
	b, err := simos.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "123456", string(b))
	require.Empty(t, d.Cut(len(d.Ops()), simos.Luck{}).File("f"))
	require.NoError(t, sync(t, path))
	require.Equal(t, "123456", string(d.Cut(len(d.Ops()), simos.Luck{}).File("f")))
}

// A program that makes calls without end is stopped.
func TestFailAt_Endless(t *testing.T) {
	dir, _ := watch(t)
	require.PanicsWithError(t, "the program made 100000 calls and does not end; the last is stat /f", func() {
		for {
			simos.Stat(filepath.Join(dir, "f"))
		}
	})
}

// Marks keep their position among the recorded operations.
func TestMark(t *testing.T) {
	dir, d := watch(t)
	d.Mark("before")
	write(t, filepath.Join(dir, "f"), "1")
	d.Mark("after")
	var parts []string
	for _, op := range d.Ops() {
		parts = append(parts, op.String())
	}
	require.Equal(t, []string{"mark before", "create f", "write f at 0, 1 bytes", "mark after"}, parts)
	require.Equal(t, "", names(d.Cut(1, simos.FullLuck())))
	require.Equal(t, "f", names(d.Cut(2, simos.FullLuck())))
}

func BenchmarkCut(b *testing.B) {
	dir := b.TempDir()
	d := simos.Watch(dir)
	defer d.Stop()
	for n := range 6 {
		f, err := simos.Create(filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			b.Fatal(err)
		}
		for range 10 {
			f.Write(make([]byte, 100))
			f.Sync()
		}
		f.Close()
	}
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		d.Cut(rng.IntN(len(d.Ops())+1), simos.DrawLuck(rng)).Hash()
	}
}
