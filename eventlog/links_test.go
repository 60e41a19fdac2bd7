package eventlog

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// linkAll copies a log with hard links, as cp -al does.
func linkAll(t *testing.T, dir string) (backup string) {
	backup = filepath.Join(filepath.Dir(dir), "backup")
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		name, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(backup, name), 0o750)
		}
		return os.Link(path, filepath.Join(backup, name))
	}))
	return backup
}

// contents returns the content of a log's files. LOCK is left out, because it belongs to the
// process that has the log open.
func contents(t *testing.T, dir string) map[string]string {
	all := tree(t, dir)
	delete(all, LockName)
	return all
}

// D4: a backup that was made with hard links stays as it is, byte for byte, if the log is opened,
// repaired and written to. The same holds for the log if the backup is opened.
func TestD4_LinkedBackup(t *testing.T) {
	tear := func(t *testing.T, dir string) {
		put(t, append(read(t, segmentPath(dir, 1)), read(t, segmentPath(dir, 1))[:bodyBytes/2]...), segmentPath(dir, 1))
	}
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"closed":             func(*testing.T, string) {},
		"killed":             func(t *testing.T, dir string) { setWatermark(t, dir, 1) },
		"torn":               tear,
		"unused space":       func(t *testing.T, dir string) { require.NoError(t, os.Truncate(segmentPath(dir, 1), 4096)) },
		"damaged":            func(t *testing.T, dir string) { flip(t, 2*bodyBytes-1, segmentPath(dir, 1)) },
		"damaged and killed": func(t *testing.T, dir string) { flip(t, 2*bodyBytes-1, segmentPath(dir, 1)); setWatermark(t, dir, 1) },
		"damaged and torn":   func(t *testing.T, dir string) { flip(t, 2*bodyBytes-1, segmentPath(dir, 1)); tear(t, dir) },
		"watermark damaged":  func(t *testing.T, dir string) { put(t, []byte("x"), dir, segment.WatermarkName) },
		"copy of it missing": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, segment.WatermarkCopyName)))
		},
		"linked in quarantine too": func(t *testing.T, dir string) { flip(t, bodyBytes-1, segmentPath(dir, 1)); repaired(t, dir, Options{}) },
	} {
		for opened, other := range map[string]string{"log": "backup", "backup": "log"} {
			t.Run(name+"/"+opened, func(t *testing.T) {
				dir := closedLog(t, 3, Options{})
				prepare(t, dir)
				parent := filepath.Dir(linkAll(t, dir))
				before := contents(t, filepath.Join(parent, other))
				for range 2 {
					log := openLog(t, filepath.Join(parent, opened), Options{})
					require.NoError(t, write(log, body))
					require.NoError(t, log.Sync())
					require.NoError(t, log.Close())
					require.Equal(t, before, contents(t, filepath.Join(parent, other)))
				}
				begin(t, filepath.Join(parent, other), Options{}).Abandon()
			})
		}
	}
}

// A file without a second link keeps its inode.
func TestLinks_SingleFilesAreNotCopied(t *testing.T) {
	dir := closedLog(t, 3, Options{})
	for _, file := range []string{segmentPath(dir, 1), filepath.Join(dir, segment.WatermarkName), filepath.Join(dir, segment.WatermarkCopyName)} {
		before, _, err := statID(file)
		require.NoError(t, err)
		repaired(t, dir, Options{})
		after, _, err := statID(file)
		require.NoError(t, err)
		require.True(t, before.equal(after), file)
	}
}

// The copy of a file with a second link has the mode and the owner of the original.
func TestLinks_CopyKeepsModeAndOwner(t *testing.T) {
	dir := closedLog(t, 3, Options{})
	path := segmentPath(dir, 1)
	require.NoError(t, os.Chmod(path, 0o664))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(path, 1234, 2345))
	}
	require.NoError(t, os.Link(path, filepath.Join(memDir(t), "backup")))
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, separate(path))
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.False(t, os.SameFile(before, after))
	require.Equal(t, before.Mode(), after.Mode())
	for _, name := range []string{"Uid", "Gid"} {
		want, _ := statField(before, name)
		got, _ := statField(after, name)
		require.Equal(t, want, got, name)
	}
}
