package eventlog

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// A repair cuts off the bytes after the last entry. If they are a torn write, it copies them to
// quarantine/ first, without the zeros after them. Zeros alone are preallocated space.
func TestRepair_Tail(t *testing.T) {
	const sector = 512
	inSector := sector - 3*bodyBytes // the bytes of the fourth entry that are in the sector of the third
	padded := func(b []byte, size int) []byte { return append(bytes.Clone(b), make([]byte, size-len(b))...) }
	for name, tc := range map[string]struct {
		behind func(entry []byte) []byte // the bytes after the three intact entries
		torn   func(entry []byte) []byte
	}{
		"nothing":        {func([]byte) []byte { return nil }, nil},
		"zeros":          {func([]byte) []byte { return make([]byte, 5000) }, nil},
		"one zero":       {func([]byte) []byte { return make([]byte, 1) }, nil},
		"a prefix":       {func(e []byte) []byte { return e[:1] }, func(e []byte) []byte { return e[:1] }},
		"half a header":  {func(e []byte) []byte { return e[:20] }, func(e []byte) []byte { return e[:20] }},
		"a header":       {func(e []byte) []byte { return e[:42] }, func(e []byte) []byte { return e[:42] }},
		"all but a byte": {func(e []byte) []byte { return e[:len(e)-1] }, func(e []byte) []byte { return e[:len(e)-1] }},
		"a part that ends with a sector, and zeros": {
			func(e []byte) []byte { return padded(e[:inSector], 5000) }, func(e []byte) []byte { return e[:inSector] },
		},
		"a part whose sector is zeros to its end, and zeros": {
			func(e []byte) []byte { return padded(e[:50], 5000) }, func(e []byte) []byte { return padded(e[:50], inSector) },
		},
		"a part whose sector is zeros to its end": {
			func(e []byte) []byte { return padded(e[:50], inSector) }, func(e []byte) []byte { return padded(e[:50], inSector) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedLog(t, 4, Options{})
			path := segmentPath(dir, 1)
			four := read(t, path)
			whole, entry := four[:3*bodyBytes], four[3*bodyBytes:]
			setWatermark(t, dir, 3) // as after a writer was killed before the fourth entry was durable
			put(t, append(bytes.Clone(whole), tc.behind(entry)...), path)
			if tc.torn == nil {
				require.Empty(t, repaired(t, dir, Options{}))
				require.NotContains(t, names(t, dir), QuarantineDir)
			} else {
				saved := repaired(t, dir, Options{})
				require.Equal(t, []string{fmt.Sprintf("quarantine/%s-%d.torn", segment.Name(1), 3*bodyBytes)}, saved)
				require.Equal(t, tc.torn(entry), read(t, dir, saved[0]))
				report := reportOf(t, dir, saved[0])
				require.EqualValues(t, 4, report.NextSeq)
				require.EqualValues(t, 3*bodyBytes, report.Offset)
				require.EqualValues(t, len(tc.torn(entry)), report.Length)
			}
			require.Equal(t, whole, read(t, path))
			require.Empty(t, repaired(t, dir, Options{}))
			log := openLog(t, dir, Options{})
			require.EqualValues(t, 4, log.NextSeq(), "the sequence number is used again")
			require.NoError(t, log.Close())
		})
	}
}

// If several writes are torn at the same offset, quarantine/ keeps each of them.
func TestRepair_TornTwice(t *testing.T) {
	dir := closedLog(t, 2, Options{})
	path := segmentPath(dir, 1)
	whole := read(t, path)
	for i, want := range []string{"", ".1", ".2"} {
		put(t, append(bytes.Clone(whole), whole[bodyBytes:bodyBytes+10+i]...), path)
		saved := repaired(t, dir, Options{})
		require.Equal(t, []string{fmt.Sprintf("quarantine/%s-%d.torn%s", segment.Name(1), 2*bodyBytes, want)}, saved)
		require.Equal(t, whole[bodyBytes:bodyBytes+10+i], read(t, dir, saved[0]))
	}
}

// A repair moves the files of wal/ that tidwall/wal would take for its own. All other files stay
// where they are and do not change.
func TestRepair_Strays(t *testing.T) {
	dir := closedLog(t, 1, Options{})
	dangerous := []string{segment.Name(1) + ".END", segment.Name(1) + ".START", "18446744073709551615"}
	for _, name := range dangerous {
		put(t, []byte("of "+name), dir, "wal", name)
	}
	link := segment.Name(2) + ".END"
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "wal", link)))
	for _, name := range []string{
		"00000000000000000000", "99999999999999999999", segment.Name(1) + ".new", segment.Name(1) + ".bak", segment.Name(1) + "~",
		"1", "LOCK", ".DS_Store", "x.swp", strings.Repeat("n", 255), "a\nb\xff", "MANIFEST.new", "WATERMARK.new", "directory/file", "../x",
	} {
		put(t, []byte("stays"), dir, "wal", name)
	}
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "wal", "link")))
	before := tree(t, dir)
	saved := repaired(t, dir, Options{})
	require.Len(t, saved, len(dangerous)+1)
	for _, name := range dangerous {
		require.Equal(t, "of "+name, string(read(t, dir, QuarantineDir, name)))
		delete(before, "wal/"+name)
	}
	target, err := os.Readlink(filepath.Join(dir, QuarantineDir, link))
	require.NoError(t, err)
	require.Equal(t, "nowhere", target)
	delete(before, "wal/"+link)
	after := tree(t, dir)
	maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasPrefix(name, QuarantineDir) })
	require.Equal(t, before, after)
}

// A repair moves a snapshot to quarantine/ if it is damaged, or if its frame is beyond the end of
// the log. Another frame will get that sequence number.
func TestRepair_Snapshots(t *testing.T) {
	dir := closedLog(t, 2, Options{})
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	sound := func(seq uint64) []byte {
		return segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: seq, Segment: 1}}.Encode(m.UUID)
	}
	put(t, sound(1), dir, "snapshots", segment.Name(1))
	put(t, sound(2), dir, "snapshots", segment.Name(2))
	put(t, sound(3), dir, "snapshots", segment.Name(3)) // the next number
	put(t, sound(9), dir, "snapshots", segment.Name(9))
	put(t, []byte("x"), dir, "snapshots", segment.Name(4))
	put(t, []byte("x"), dir, "snapshots", segment.Name(5)+".new")
	require.ElementsMatch(t, []string{"quarantine/" + segment.Name(3), "quarantine/" + segment.Name(4), "quarantine/" + segment.Name(9)}, repaired(t, dir, Options{}))
	require.Equal(t, []string{segment.Name(1), segment.Name(2), segment.Name(5) + ".new"}, names(t, filepath.Join(dir, "snapshots")))
	require.Equal(t, sound(9), read(t, dir, QuarantineDir, segment.Name(9)))
	require.Equal(t, "it covers frames that the log does not have", reportOf(t, dir, "quarantine/"+segment.Name(9)).Reason)
}

// The newer copy of the manifest counts, and a repair makes both the same. It keeps a damaged copy
// in quarantine/.
func TestRepair_Manifest(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, dir string, newer []byte)
		saved  int
		isNew  bool
	}{
		"both": {func(*testing.T, string, []byte) {}, 0, false},
		"one missing": {func(t *testing.T, dir string, _ []byte) {
			require.NoError(t, os.Remove(filepath.Join(dir, "MANIFEST")))
		}, 0, false},
		"the copy missing": {func(t *testing.T, dir string, _ []byte) {
			require.NoError(t, os.Remove(filepath.Join(dir, "wal", "MANIFEST")))
		}, 0, false},
		"one damaged":    {func(t *testing.T, dir string, _ []byte) { flip(t, 9, dir, "MANIFEST") }, 1, false},
		"one newer":      {func(t *testing.T, dir string, newer []byte) { put(t, newer, dir, "MANIFEST") }, 0, true},
		"the copy newer": {func(t *testing.T, dir string, newer []byte) { put(t, newer, dir, "wal", "MANIFEST") }, 0, true},
		"the newer damaged": {func(t *testing.T, dir string, newer []byte) {
			put(t, newer, dir, "MANIFEST")
			flip(t, 9, dir, "MANIFEST")
		}, 1, false},
	} {
		dir := closedLog(t, 2, Options{})
		m, _, err := segment.ReadManifest(os.DirFS(dir))
		require.NoError(t, err)
		newer := m.Skip([]segment.SeqRange{{First: 1, Last: 1}})
		tc.change(t, dir, newer.Encode())
		require.Len(t, repaired(t, dir, Options{}), tc.saved, name)
		want := m
		if tc.isNew {
			want = newer
		}
		for _, file := range []string{"MANIFEST", "wal/MANIFEST"} {
			require.Equal(t, string(want.Encode()), string(read(t, dir, file)), "%s: %s", name, file)
		}
	}
}

// If it is unknown whether a lost frame had been durable, a repair adds its number to the manifest
// before it raises the watermark past it. It does so only once.
func TestRepair_SkippedNumbers(t *testing.T) {
	dir := closedLog(t, 3, Options{})
	setWatermark(t, dir, 1)
	flip(t, 3*bodyBytes-1, segmentPath(dir, 1))
	for range 2 {
		repaired(t, dir, Options{})
		m, _, err := segment.ReadManifest(os.DirFS(dir))
		require.NoError(t, err)
		require.Equal(t, []segment.SeqRange{{First: 3, Last: 3}}, m.Skipped)
		require.EqualValues(t, 2, m.Revision)
		require.Equal(t, [2]uint64{3, 3}, watermarks(t, dir))
	}
	log := openLog(t, dir, Options{})
	require.EqualValues(t, 4, log.NextSeq())
	require.NoError(t, log.Close())
}

// If the last segment changes between Scan and its repair, the repair fails and leaves the segment
// as it is.
func TestRepair_AnotherProcessWrites(t *testing.T) {
	torn := func(t *testing.T, dir string) {
		put(t, append(read(t, segmentPath(dir, 1)), 0xff), segmentPath(dir, 1))
	}
	for name, tc := range map[string]struct {
		before, meanwhile func(t *testing.T, dir string)
	}{
		"longer, after a torn write":  {torn, torn},
		"shorter, after a torn write": {torn, func(t *testing.T, dir string) { require.NoError(t, os.Truncate(segmentPath(dir, 1), int64(bodyBytes))) }},
		"shorter, and not all durable": {
			func(t *testing.T, dir string) { setWatermark(t, dir, 1) },
			func(t *testing.T, dir string) { require.NoError(t, os.Truncate(segmentPath(dir, 1), int64(bodyBytes))) },
		},
	} {
		dir := closedLog(t, 3, Options{})
		tc.before(t, dir)
		r := begin(t, dir, Options{})
		items(t, r)
		tc.meanwhile(t, dir)
		put(t, nil, dir, LockName) // as Finish leaves it when it releases the lock
		before := tree(t, dir)
		_, err := r.Finish(segment.FrameID{})
		require.ErrorContains(t, err, "another process writes to it", name)
		require.Equal(t, before, tree(t, dir), name)
	}

	dir := closedLog(t, 3, Options{})
	r := begin(t, dir, Options{})
	items(t, r)
	put(t, nil, dir, "wal", segment.Name(1)+".END")
	_, err := r.Finish(segment.FrameID{})
	require.ErrorContains(t, err, "another process writes into the log's directory")
	require.Len(t, read(t, segmentPath(dir, 1)), 3*bodyBytes)
}

// A file is created or replaced completely or not at all.
func TestFiles(t *testing.T) {
	dir := memDir(t)
	path := filepath.Join(dir, "file")
	require.NoError(t, replaceFile(path, []byte("one")))
	put(t, []byte("left by a crash, and longer"), path+".new")
	require.NoError(t, replaceFile(path, []byte("two")))
	require.Equal(t, "two", string(read(t, path)))
	require.NoFileExists(t, path+".new")

	require.ErrorIs(t, createFile(path, []byte("three")), os.ErrExist)
	require.ErrorIs(t, createEmpty(path), os.ErrExist)
	require.Equal(t, "two", string(read(t, path)))

	put(t, nil, dir, "directory", "file")
	require.Error(t, replaceFile(filepath.Join(dir, "directory"), []byte("one")))
	require.DirExists(t, filepath.Join(dir, "directory"))

	require.NoError(t, makeDir(filepath.Join(dir, "a", "b", "c")))
	require.NoError(t, makeDir(filepath.Join(dir, "a", "b", "c")), "again")
	require.Error(t, makeDir(filepath.Join(path, "below a file")))
	require.Error(t, overwrite(filepath.Join(dir, "nowhere"), 0, nil), "the file must exist")
	require.NoFileExists(t, filepath.Join(dir, "nowhere"))
}
