package eventlog

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// Begin creates a log in a directory that has none. The log has two manifests, two watermarks, and
// an empty segment for the first frame. Other files there do not change.
func TestBegin_NewLog(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, above string){
		"no directory": func(*testing.T, string) {},
		"an empty directory": func(t *testing.T, above string) {
			require.NoError(t, os.MkdirAll(filepath.Join(above, "a", "log"), 0o700))
		},
		"unrelated files": func(t *testing.T, above string) { put(t, []byte("hello"), above, "a", "log", "README") },
		"an empty wal/": func(t *testing.T, above string) {
			require.NoError(t, os.MkdirAll(filepath.Join(above, "a", "log", "wal"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			above := memDir(t)
			dir := filepath.Join(above, "a", "log")
			prepare(t, above)
			r := begin(t, dir, Options{Now: atNoon})
			frames, damage := items(t, r)
			require.Empty(t, frames)
			require.Empty(t, damage)
			log, err := r.Finish(segment.FrameID{})
			require.NoError(t, err)
			require.EqualValues(t, 1, log.NextSeq())
			require.Zero(t, log.DurableThrough())
			require.Zero(t, log.Last())
			require.NoError(t, log.Health())
			require.NoError(t, write(log, body))
			require.NoError(t, log.Close())
			require.Empty(t, r.Quarantined())

			require.Equal(t, []string{"00000000000000000001", "MANIFEST", "WATERMARK"}, names(t, filepath.Join(dir, "wal")))
			require.Subset(t, names(t, dir), []string{"LOCK", "MANIFEST", "WATERMARK", "wal"})
			require.NotContains(t, names(t, dir), "quarantine")
			require.Equal(t, string(read(t, dir, "MANIFEST")), string(read(t, dir, "wal", "MANIFEST")))
			m := r.Directory().Manifest
			require.Equal(t, atNoon().Truncate(time.Second).UTC(), m.Created)
			require.EqualValues(t, 1, m.Revision)
			if name == "unrelated files" {
				require.Equal(t, "hello", string(read(t, dir, "README")))
			}
			again := begin(t, dir, Options{})
			frames, damage = items(t, again)
			require.Len(t, frames, 1)
			require.Empty(t, damage)
			require.Equal(t, m, again.Directory().Manifest)
			require.NoError(t, again.Abandon())
		})
	}
}

// Every new log has its own UUID. A clock outside the years of a manifest does not stop Begin.
func TestBegin_Identity(t *testing.T) {
	uuids := map[string]bool{}
	for _, year := range []int{2026, -1, 10_000, 292_277_026} {
		r := begin(t, filepath.Join(memDir(t), "log"), Options{Now: func() time.Time { return time.Date(year, 1, 2, 3, 4, 5, 6, time.UTC) }})
		m := r.Directory().Manifest
		uuids[m.UUID.String()] = true
		if year == 2026 {
			require.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), m.Created)
		} else {
			require.Equal(t, time.Unix(0, 0).UTC(), m.Created, "year %d", year)
		}
		require.NoError(t, r.Abandon())
	}
	require.Len(t, uuids, 4)
}

// With MustExist, Begin makes no log and writes nothing if there is none.
func TestBegin_MustExist(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, dir string){
		"no directory":    func(*testing.T, string) {},
		"an empty one":    func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir, 0o700)) },
		"unrelated files": func(t *testing.T, dir string) { put(t, []byte("hello"), dir, "README") },
		"a log whose creation was interrupted": func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(dir, os.DirFS(closedLog(t, 0, Options{}))))
			require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
		},
	} {
		above := memDir(t)
		dir := filepath.Join(above, "log")
		prepare(t, dir)
		before := tree(t, above)
		_, err := Begin(dir, Options{MustExist: true})
		require.ErrorIs(t, err, fs.ErrNotExist, name)
		require.ErrorIs(t, err, segment.ErrNotALog, name)
		require.ErrorContains(t, err, dir, name)
		require.Equal(t, before, tree(t, above), name)
	}
	beginLog(t, closedLog(t, 1, Options{}), Options{MustExist: true})
}

// If Begin refuses a directory, it changes nothing there and leaves no lock file.
func TestBegin_Refuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, dir string) (path string)
		want   error
	}{
		"the directory of segments": {func(t *testing.T, dir string) string { return filepath.Join(dir, "wal") }, segment.ErrIsWALDir},
		"a log without manifests": {func(t *testing.T, dir string) string {
			require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
			require.NoError(t, os.Remove(filepath.Join(dir, "wal", "MANIFEST")))
			return dir
		}, segment.ErrManifestLost},
		"the manifests of two logs": {func(t *testing.T, dir string) string {
			put(t, read(t, closedLog(t, 0, Options{}), "MANIFEST"), dir, "MANIFEST")
			return dir
		}, segment.ErrManifestLost},
		"no segments": {func(t *testing.T, dir string) string {
			require.NoError(t, os.Remove(segmentPath(dir, 1)))
			return dir
		}, ErrNeedsRepair},
		"a directory under a segment's name": {func(t *testing.T, dir string) string {
			require.NoError(t, os.Mkdir(segmentPath(dir, 5), 0o700))
			return dir
		}, ErrNeedsRepair},
		"a link under a segment's name": {func(t *testing.T, dir string) string {
			require.NoError(t, os.Symlink(segment.Name(1), segmentPath(dir, 5)))
			return dir
		}, ErrNeedsRepair},
	} {
		dir := closedLog(t, 3, Options{})
		path := tc.change(t, dir)
		before := tree(t, dir)
		for range 2 {
			_, err := Begin(path, Options{})
			require.ErrorIs(t, err, tc.want, name)
			require.ErrorContains(t, err, path, name)
		}
		require.Equal(t, before, tree(t, dir), name)
	}
}

// Finish refuses a segment whose number is higher than the log's next number. Otherwise the numbers
// up to that name could be used twice.
func TestFinish_SegmentNamedBeyondTheEnd(t *testing.T) {
	dir := closedLog(t, 3, Options{SegmentSize: 1})
	require.NoError(t, os.Rename(segmentPath(dir, 3), segmentPath(dir, 9)))
	before := tree(t, dir)
	r := begin(t, dir, Options{})
	items(t, r)
	_, err := r.Finish(segment.FrameID{})
	require.ErrorIs(t, err, ErrNeedsRepair)
	require.ErrorContains(t, err, "segment 00000000000000000009: its name is beyond the end of the log, which continues with seq 4: rename")
	require.Equal(t, before, tree(t, dir))

	require.NoError(t, os.Rename(segmentPath(dir, 9), segmentPath(dir, 3)))
	require.Empty(t, repaired(t, dir, Options{}))
}

// Finish uses the last Scan, which must have been read to its end. If it was not, Finish repairs
// nothing and releases the lock.
func TestFinish_NotReadToTheEnd(t *testing.T) {
	whole := closedLog(t, 3, Options{})
	leave := func(r *Recovery) {
		for range r.Scan(segment.ScanAll) {
			break
		}
	}
	for name, tc := range map[string]struct {
		read func(t *testing.T, r *Recovery)
		ok   bool
	}{
		"not read":                 {func(*testing.T, *Recovery) {}, false},
		"Scan called and not read": {func(t *testing.T, r *Recovery) { r.Scan(segment.ScanAll) }, false},
		"interrupted":              {func(t *testing.T, r *Recovery) { leave(r) }, false},
		"read, then interrupted":   {func(t *testing.T, r *Recovery) { items(t, r); leave(r) }, false},
		"interrupted, then read":   {func(t *testing.T, r *Recovery) { leave(r); items(t, r) }, true},
		"read":                     {func(t *testing.T, r *Recovery) { items(t, r) }, true},
		"read twice":               {func(t *testing.T, r *Recovery) { items(t, r); items(t, r) }, true},
	} {
		dir := filepath.Join(memDir(t), "log")
		require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
		put(t, append(read(t, segmentPath(dir, 1)), 0xff), segmentPath(dir, 1)) // something to repair
		before := tree(t, dir)
		r := begin(t, dir, Options{})
		tc.read(t, r)
		log, err := r.Finish(segment.FrameID{})
		if tc.ok {
			require.NoError(t, err, name)
			require.EqualValues(t, 4, log.NextSeq(), name)
			require.Len(t, r.Quarantined(), 1, name)
			require.NoError(t, log.Close())
			continue
		}
		require.ErrorContains(t, err, "the log was not read to its end", name)
		require.Equal(t, before, tree(t, dir), name)
		openLog(t, dir, Options{}).Close()
	}
}

// Scan and Abandon change no file, even if there is something to repair.
func TestAbandon_LeavesTheDirectoryUnchanged(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"intact": func(*testing.T, string) {},
		"torn": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(segmentPath(dir, 1), int64(3*bodyBytes-5)))
		},
		"not closed": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(segmentPath(dir, 1), 1<<18)) // zeros
			setWatermark(t, dir, 1)
		},
		"damaged":             func(t *testing.T, dir string) { flip(t, bodyBytes-1, segmentPath(dir, 1)) },
		"a stray":             func(t *testing.T, dir string) { put(t, []byte("x"), dir, "wal", "x.END") },
		"a damaged snapshot":  func(t *testing.T, dir string) { put(t, []byte("x"), dir, "snapshots", segment.Name(2)) },
		"a damaged manifest":  func(t *testing.T, dir string) { flip(t, 30, dir, "MANIFEST") },
		"a missing manifest":  func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "wal", "MANIFEST"))) },
		"a damaged watermark": func(t *testing.T, dir string) { flip(t, 3, dir, "WATERMARK") },
		"a missing watermark": func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "WATERMARK"))) },
		"left by a crash":     func(t *testing.T, dir string) { put(t, []byte("x"), dir, "MANIFEST.new") },
	} {
		dir := closedLog(t, 3, Options{})
		change(t, dir)
		before := tree(t, dir)
		for _, scope := range []segment.Scope{segment.ScanAll, segment.ScanTail} {
			r := begin(t, dir, Options{})
			for _, err := range r.Scan(scope) {
				require.NoError(t, err)
			}
			require.NoError(t, r.Abandon())
			require.Equal(t, before, tree(t, dir), name)
		}
	}
}

// Scan can read the last segment alone. Then the segment's name gives the number of its first
// frame.
func TestScan_LastSegment(t *testing.T) {
	dir := closedLog(t, 5, Options{SegmentSize: 2 * bodyBytes})
	flip(t, bodyBytes-1, segmentPath(dir, 3)) // not read
	r := begin(t, dir, Options{})
	var seqs []uint64
	for item, err := range r.Scan(segment.ScanTail) {
		require.NoError(t, err)
		require.Nil(t, item.Damage)
		seqs = append(seqs, item.Frame.Seq)
	}
	require.Equal(t, []uint64{5}, seqs)
	log, err := r.Finish(segment.FrameID{})
	require.NoError(t, err)
	require.EqualValues(t, 6, log.NextSeq())
	require.NoError(t, log.Close())
	require.Empty(t, r.Quarantined())
	require.False(t, strings.Contains(strings.Join(names(t, dir), " "), QuarantineDir))
}
