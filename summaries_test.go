package migrationlog_test

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// summarized returns the directory of a closed log with many segments and all summaries, and the
// summaries. Each event has its own time.
func summarized(t *testing.T) (dir string, index map[string][]byte) {
	dir = filepath.Join(memDir(t), "log")
	s := open(t, dir, smallSegments())
	rng := rand.New(rand.NewPCG(4, 4))
	for range 400 {
		randomWrite(t, s, rng)
	}
	require.NoError(t, s.Close())
	awaitSummaries(t, dir)
	return dir, summariesOf(t, dir)
}

func smallSegments() *migrationlog.Options { return &migrationlog.Options{SegmentSize: 2000} }

// awaitSummaries opens a log, waits until all summaries are written, and closes it.
func awaitSummaries(t *testing.T, dir string) {
	s := open(t, dir, smallSegments())
	s.AwaitSummaries()
	require.NoError(t, s.Close())
}

// summariesOf returns the content of each file in index/.
func summariesOf(t *testing.T, dir string) map[string][]byte {
	files := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(dir, segment.SummaryDir))
	require.NoError(t, err)
	for _, e := range entries {
		files[e.Name()], err = os.ReadFile(filepath.Join(dir, segment.SummaryDir, e.Name()))
		require.NoError(t, err)
	}
	return files
}

// Summaries that are written while the log is written are the same as those that are written later.
// Each segment but the last has one.
func TestSummaries_SealEqualsBackfill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, smallSegments())
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		randomWrite(t, s, rng)
		if rng.IntN(10) == 0 {
			s.AwaitSummaries()
		}
	}
	atSeal := summariesOf(t, dir)
	require.NoError(t, s.Close())
	names, err := segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	require.Greater(t, len(atSeal), len(names)/2)

	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SummaryDir)))
	awaitSummaries(t, dir)
	backfilled := summariesOf(t, dir)
	names, err = segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	require.Len(t, backfilled, len(names)-1)
	for name, content := range atSeal {
		require.Equal(t, content, backfilled[name], name)
	}
}

// A summary that is missing, damaged, of another log or of another segment is replaced.
func TestSummaries_Replaced(t *testing.T) {
	t.Parallel()
	dir, want := summarized(t)
	_, other := summarized(t)
	const second = 1
	names, err := segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	name := names[second]
	intact := want[name]
	for what, content := range map[string][]byte{
		"missing": nil, "empty": {}, "cut short": intact[:len(intact)-1], "too long": append(bytes.Clone(intact), 0),
		"head damaged": flipped(intact, 9), "frames damaged": flipped(intact, len(intact)-1),
		"of another segment": want[names[second+1]], "of another log": other[name], "of a newer version": flipped(intact, 3),
		"before another segment": namingNext(t, dir, name, 5), "before an unknown segment": namingNext(t, dir, name, 0),
	} {
		path := filepath.Join(dir, segment.SummaryDir, name)
		require.NoError(t, os.Remove(path))
		if content != nil {
			require.NoError(t, os.WriteFile(path, content, 0o600))
		}
		awaitSummaries(t, dir)
		require.Equal(t, want, summariesOf(t, dir), what)
	}
}

// namingNext returns a segment's summary with another checksum of the next segment's first header.
func namingNext(t *testing.T, dir, name string, crc32c uint32) []byte {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	file, ok := segment.OpenSummary(os.DirFS(dir), name, m.UUID)
	require.True(t, ok)
	s := segment.Summary{SummaryHead: file.SummaryHead}
	s.NextHeaderCRC32C = crc32c
	for i := range s.Sections {
		s.Sections[i], ok = file.Section(i)
		require.True(t, ok)
	}
	return s.Encode(m.UUID)
}

func flipped(content []byte, at int) []byte {
	content = bytes.Clone(content)
	content[at] ^= 1
	return content
}

// If a segment is damaged or gone, its summary stays as it is, because it has the migrations of the
// lost events. A damaged segment gets no summary. The report does not depend on summaries.
func TestSummaries_KeptIfTheSegmentIsDamaged(t *testing.T) {
	t.Parallel()
	source, want := summarized(t)
	names, err := segment.Names(os.DirFS(source))
	require.NoError(t, err)
	const damaged = 1
	for what, damage := range map[string]func(t *testing.T, path string){
		"in the middle":    func(t *testing.T, path string) { flip(t, path, 500) },
		"the last byte":    func(t *testing.T, path string) { flip(t, path, lastByte(t, path)) },
		"cut short":        func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 700)) },
		"between frames":   cutLastFrame,
		"empty":            func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
		"gone":             func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"of zeros":         func(t *testing.T, path string) { overwriteWithZeros(t, path) },
		"with zeros added": func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 5000)) },
	} {
		dir := copyDir(t, source)
		damage(t, segmentPath(dir, names[damaged]))
		without := copyDir(t, dir)
		require.NoError(t, os.RemoveAll(filepath.Join(without, segment.SummaryDir)))
		require.Equal(t, verify(t, without), verify(t, dir), what)

		awaitSummaries(t, dir)
		after := summariesOf(t, dir)
		if what == "with zeros added" { // it is intact, but has another size
			require.NotEqual(t, want[names[damaged]], after[names[damaged]], what)
			delete(after, names[damaged])
			expected := clone(want)
			delete(expected, names[damaged])
			require.Equal(t, expected, after, what)
			continue
		}
		require.Equal(t, want, after, what)
		awaitSummaries(t, without)
		require.NotContains(t, summariesOf(t, without), names[damaged], what)
	}
}

func lastByte(t *testing.T, path string) int {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return int(info.Size()) - 1
}

func clone(m map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func overwriteWithZeros(t *testing.T, path string) {
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, make([]byte, info.Size()), 0o600))
}

// cutLastFrame removes the last frame of a segment.
func cutLastFrame(t *testing.T, path string) {
	last := int64(0)
	first, _ := segment.ParseName(filepath.Base(path))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	manifest, _, err := segment.ReadManifest(os.DirFS(filepath.Dir(filepath.Dir(path))))
	require.NoError(t, err)
	end := int64(0)
	_, intact := segment.Walk(data, manifest.UUID, first, func(_ segment.Header, frame []byte) {
		last = end
		end += int64(segment.EntryBytes(len(frame)))
	})
	require.True(t, intact)
	require.NoError(t, os.Truncate(path, last))
}

// Nothing that is in index/, or in its place, is a finding, and nothing of it keeps a log from being
// opened, read and written. If a summary cannot be written, a warning says so.
func TestSummaries_AreNotNeeded(t *testing.T) {
	t.Parallel()
	source, _ := summarized(t)
	index := func(dir string) string { return filepath.Join(dir, segment.SummaryDir) }
	for what, spoil := range map[string]func(t *testing.T, dir string){
		"no index": func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(index(dir))) },
		"a file in its place": func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(index(dir)))
			require.NoError(t, os.WriteFile(index(dir), []byte("x"), 0o600))
		},
		"a broken link in its place": func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(index(dir)))
			require.NoError(t, os.Symlink("nowhere", index(dir)))
		},
		"foreign files": func(t *testing.T, dir string) {
			for _, name := range []string{"x", "README", segment.Name(3), segment.Name(99999), firstSegment + ".new", "00000000000000000000"} {
				require.NoError(t, os.WriteFile(filepath.Join(index(dir), name), []byte("x"), 0o600))
			}
			require.NoError(t, os.Mkdir(filepath.Join(index(dir), segment.Name(100_000)), 0o700))
		},
		"a pipe": func(t *testing.T, dir string) {
			path := filepath.Join(index(dir), firstSegment)
			require.NoError(t, os.Remove(path))
			require.NoError(t, syscall.Mkfifo(path, 0o600))
		},
	} {
		dir := copyDir(t, source)
		before := verify(t, dir)
		spoil(t, dir)
		require.Equal(t, before, verify(t, dir), what)
		var logged bytes.Buffer
		opts := smallSegments()
		opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		s := open(t, dir, opts)
		require.Empty(t, s.Report().Damage, what)
		s.AwaitSummaries()
		rng := rand.New(rand.NewPCG(3, 3))
		for range 100 {
			randomWrite(t, s, rng)
		}
		report, err := s.Scrub(t.Context())
		require.NoError(t, err)
		require.Empty(t, report.Damage, what)
		require.NoError(t, s.Close(), what)
		require.Equal(t, what[:2] == "a " && what != "a pipe", bytes.Contains(logged.Bytes(), []byte("could not write a summary")), "%s: %s", what, &logged)
	}
}

// Close does not wait for the summaries of a whole log, and the next opening continues.
func TestSummaries_CloseDuringBackfill(t *testing.T) {
	t.Parallel()
	dir, want := summarized(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, segment.SummaryDir)))
	for tries := range 1000 {
		s := open(t, dir, smallSegments())
		time.Sleep(time.Duration(tries) * 100 * time.Microsecond)
		require.NoError(t, s.Close())
		require.False(t, s.WritesSummaries())
		entries, _ := os.ReadDir(filepath.Join(dir, segment.SummaryDir))
		if len(entries) == len(want) {
			break
		}
	}
	require.Equal(t, want, summariesOf(t, dir))
}

// Readers and several writers use the log while its summaries are written.
func TestSummaries_Concurrently(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memDir(t), "log")
	s := open(t, dir, smallSegments())
	done := make(chan error)
	for w := range 4 {
		go func() {
			for n := range 100 {
				id := checkpoint.MigrationID{1 + byte(w), byte(n)}
				if _, err := s.Upsert(row(t, id, 0, checkpoint.CatchUp{VShardID: uint32(w)})); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		for range 20 {
			reader, err := replay.Open(dir)
			require.NoError(t, err)
			_, err = reader.Verify(t.Context())
			require.NoError(t, err)
		}
		require.NoError(t, <-done)
	}
	require.NoError(t, s.Close())
	require.NotEmpty(t, summariesOf(t, dir))
}
