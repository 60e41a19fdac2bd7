package eventlog

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// bodyBytes is the size of the entry that body makes: length prefix, header and body.
var bodyBytes = 2 + segment.NewBody(body).FrameBytes()

// memDir returns a directory in memory, if the system has one.
func memDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "migrationlog-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func begin(t testing.TB, dir string, opts Options) *Recovery {
	r, err := Begin(dir, opts)
	require.NoError(t, err)
	return r
}

// items reads a recovery to its end.
func items(t testing.TB, r *Recovery) (frames []segment.Frame, damage []segment.Damage) {
	for item, err := range r.Scan(segment.ScanAll) {
		require.NoError(t, err)
		if item.Damage != nil {
			damage = append(damage, *item.Damage)
		} else {
			frames = append(frames, item.Frame)
		}
	}
	return frames, damage
}

// repaired opens a log and closes it again. It returns the paths of the files in quarantine/.
func repaired(t testing.TB, dir string, opts Options) (saved []string) {
	r := begin(t, dir, opts)
	items(t, r)
	log, err := r.Finish(segment.FrameID{})
	require.NoError(t, err)
	require.NoError(t, log.Close())
	return r.Quarantined()
}

// closedLog returns the directory of a closed log with that many events.
func closedLog(t testing.TB, events int, opts Options) (dir string) {
	dir = filepath.Join(memDir(t), "log")
	log := openLog(t, dir, opts)
	for range events {
		require.NoError(t, write(log, body))
	}
	require.NoError(t, log.Close())
	return dir
}

// tree returns the content of each file in a directory, and the mode of each name.
func tree(t testing.TB, dir string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		require.NoError(t, err)
		name, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		all[name] = info.Mode().String() + "\n"
		if info.Mode().IsRegular() {
			all[name] += string(read(t, path))
		}
		return nil
	}))
	return all
}

// names returns the names in a directory.
func names(t testing.TB, dir string) (all []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func read(t testing.TB, path ...string) []byte {
	b, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return b
}

func put(t testing.TB, content []byte, path ...string) {
	name := filepath.Join(path...)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o750))
	require.NoError(t, os.WriteFile(name, content, 0o640))
}

// flip changes one bit of a file.
func flip(t testing.TB, at int, path ...string) {
	name := filepath.Join(path...)
	f, err := os.OpenFile(name, os.O_RDWR, 0) // it stays the same file
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, int64(at))
	require.NoError(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, int64(at))
	require.NoError(t, err)
}

func segmentPath(dir string, first uint64) string {
	return filepath.Join(dir, segment.WALDir, segment.Name(first))
}

// isSame reports whether two paths have the same file.
func isSame(t testing.TB, a, b string) bool {
	first, err := os.Lstat(a)
	require.NoError(t, err)
	second, err := os.Lstat(b)
	require.NoError(t, err)
	return os.SameFile(first, second)
}

// setWatermark writes that number into both watermark files.
func setWatermark(t testing.TB, dir string, seq uint64) {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	for _, name := range segment.WatermarkNames {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), segment.AppendWatermark(nil, m.UUID, seq), 0o640))
	}
}

// watermarks returns the numbers in the two files.
func watermarks(t testing.TB, dir string) (seqs [2]uint64) {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	for i, name := range segment.WatermarkNames {
		line := read(t, dir, name)
		for seq := range uint64(1000) {
			if string(line) == string(segment.AppendWatermark(nil, m.UUID, seq)) {
				seqs[i] = seq
			}
		}
		require.Equal(t, string(segment.AppendWatermark(nil, m.UUID, seqs[i])), string(line), name)
	}
	return seqs
}

// reportOf returns the report on a file in quarantine/.
func reportOf(t testing.TB, dir, saved string) (r quarantineReport) {
	require.NoError(t, json.Unmarshal(read(t, dir, saved+".json"), &r))
	return r
}

// atNoon is a clock that always returns the same time.
func atNoon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 5, time.FixedZone("", 3600)) }
