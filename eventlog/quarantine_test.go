package eventlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// A stray file gets a name in quarantine/ that no file and no report has yet. Files that are
// already there do not change.
func TestQuarantine_NameTaken(t *testing.T) {
	stray := segment.Name(1) + ".END"
	for name, tc := range map[string]struct {
		taken []string // what follows the stray's name
		want  string
	}{
		"free":                            {nil, ""},
		"taken":                           {[]string{""}, ".1"},
		"the name of its report is taken": {[]string{".json"}, ".1"},
		"taken twice":                     {[]string{"", ".1.json"}, ".2"},
		"taken, with a gap":               {[]string{"", ".2"}, ".1"},
		"a directory has the name":        {[]string{"/file"}, ".1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedLog(t, 1, Options{})
			for _, taken := range tc.taken {
				put(t, []byte("before"), dir, QuarantineDir, stray+taken)
			}
			put(t, []byte("the stray"), dir, "wal", stray)
			before := tree(t, dir)
			saved := repaired(t, dir, Options{})
			require.Equal(t, []string{filepath.Join(QuarantineDir, stray+tc.want)}, saved)
			after := tree(t, dir)
			require.Equal(t, "the stray", string(read(t, dir, saved[0])))
			require.NotContains(t, after, filepath.Join("wal", stray))
			for path, content := range before {
				if strings.HasPrefix(path, QuarantineDir+"/") {
					require.Equal(t, content, after[path], path)
				}
			}
			require.Empty(t, repaired(t, dir, Options{}))
		})
	}
}

// A repair moves stray files and links damaged segments. It copies the last segment if it will cut
// its end off. It links a damaged file that it will replace.
func TestQuarantine_LinkCopyOrMove(t *testing.T) {
	opts := Options{SegmentSize: 2 * bodyBytes}
	for name, tc := range map[string]struct {
		file     string
		change   func(t *testing.T, path string)
		isThere  bool // after the repair, a file still has the old path
		isSame   bool // it is the same file as in quarantine/
		wasMoved bool // quarantine/ has the original file, not a copy
	}{
		"a stray":            {"wal/" + segment.Name(1) + ".START", func(t *testing.T, path string) { put(t, []byte("x"), path) }, false, false, true},
		"a damaged snapshot": {"snapshots/" + segment.Name(1), func(t *testing.T, path string) { put(t, []byte("x"), path) }, false, false, true},
		"a sealed segment":   {"wal/" + segment.Name(1), func(t *testing.T, path string) { flip(t, bodyBytes-1, path) }, true, true, true},
		"the last segment":   {"wal/" + segment.Name(3), func(t *testing.T, path string) { flip(t, bodyBytes-1, path) }, true, true, true},
		"the last, with zeros": {"wal/" + segment.Name(3), func(t *testing.T, path string) {
			flip(t, bodyBytes-1, path)
			require.NoError(t, os.Truncate(path, 999))
		}, true, false, false},
		"a manifest":     {"MANIFEST", func(t *testing.T, path string) { flip(t, 30, path) }, true, false, true},
		"the copy of it": {"wal/MANIFEST", func(t *testing.T, path string) { flip(t, 30, path) }, true, false, true},
		"a watermark":    {"WATERMARK", func(t *testing.T, path string) { flip(t, 3, path) }, true, false, true},
		"a directory":    {"WATERMARK", func(t *testing.T, path string) { require.NoError(t, os.Remove(path)); put(t, nil, path, "file") }, true, false, true},
		"a symbolic link": {"wal/MANIFEST", func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Symlink("nowhere", path))
		}, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := closedLog(t, 3, opts)
			path := filepath.Join(dir, tc.file)
			tc.change(t, path)
			was, err := os.Lstat(path)
			require.NoError(t, err)
			content := tree(t, dir)[tc.file]
			saved := repaired(t, dir, opts)
			require.Equal(t, []string{filepath.Join(QuarantineDir, filepath.Base(tc.file))}, saved)
			require.Equal(t, content, tree(t, dir)[saved[0]])
			kept, err := os.Lstat(filepath.Join(dir, saved[0]))
			require.NoError(t, err)
			require.Equal(t, tc.wasMoved, os.SameFile(was, kept))
			_, err = os.Lstat(path)
			require.Equal(t, tc.isThere, err == nil)
			if tc.isThere {
				require.Equal(t, tc.isSame, isSame(t, path, filepath.Join(dir, saved[0])))
			}
			require.Empty(t, repaired(t, dir, opts), "the second repair adds nothing")
		})
	}
}

// The report on a file has its origin, its offset and length, the reason, and the time.
func TestQuarantine_Report(t *testing.T) {
	dir := closedLog(t, 5, Options{SegmentSize: 3 * bodyBytes})
	flip(t, bodyBytes-1, segmentPath(dir, 1))
	flip(t, 3*bodyBytes-1, segmentPath(dir, 1))
	stray := segment.Name(1) + ".END"
	put(t, []byte("stray"), dir, "wal", stray)
	setWatermark(t, dir, 4)
	require.NoError(t, os.Truncate(segmentPath(dir, 4), int64(2*bodyBytes-7)))
	saved := repaired(t, dir, Options{Now: atNoon})
	require.Len(t, saved, 3)
	reports := map[string]quarantineReport{}
	for _, name := range saved {
		reports[name] = reportOf(t, dir, name)
		require.True(t, strings.HasSuffix(string(read(t, dir, name+".json")), "}\n"), "a text file")
	}
	noon := atNoon().UTC()
	require.Equal(t, quarantineReport{
		Segment: "wal/" + stray, Length: 5, Reason: "not a file of this log, but tidwall/wal would take it for a segment", SavedAt: noon,
	}, reports["quarantine/"+stray])
	kept := reports["quarantine/"+segment.Name(1)]
	require.Equal(t, segment.Name(1), kept.Segment)
	require.EqualValues(t, 3*bodyBytes, kept.Length)
	require.Equal(t, "damaged", kept.Reason)
	require.Len(t, kept.Damage, 2)
	require.EqualValues(t, 1, kept.Damage[0].FirstSeq)
	require.EqualValues(t, 3, kept.Damage[1].FirstSeq)
	require.EqualValues(t, 2*bodyBytes, kept.Damage[1].Offset)
	torn := fmt.Sprintf("quarantine/%s-%d.torn", segment.Name(4), bodyBytes)
	require.Equal(t, quarantineReport{
		Segment: segment.Name(4), Offset: int64(bodyBytes), Length: int64(bodyBytes - 7), NextSeq: 5,
		Reason: "the last write was not whole", SavedAt: noon,
	}, reports[torn])

	other := closedLog(t, 1, Options{})
	put(t, nil, other, "wal", stray)
	late := func() time.Time { return time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) }
	require.Equal(t, time.Unix(0, 0).UTC(), reportOf(t, other, repaired(t, other, Options{Now: late})[0]).SavedAt, "RFC 3339 cannot represent that year")
}

// A damaged segment is kept once for the same damage. It is kept again if there is more damage, or
// if the kept copy is gone.
func TestQuarantine_OnceForTheSameDamage(t *testing.T) {
	opts := Options{SegmentSize: 3 * bodyBytes}
	dir := closedLog(t, 4, opts)
	kept := filepath.Join(QuarantineDir, segment.Name(1))
	flip(t, bodyBytes-1, segmentPath(dir, 1))
	require.Equal(t, []string{kept}, repaired(t, dir, opts))
	for range 3 {
		require.Empty(t, repaired(t, dir, opts))
	}
	flip(t, 2*bodyBytes-1, segmentPath(dir, 1))
	require.Equal(t, []string{kept + ".1"}, repaired(t, dir, opts), "there is more damage")
	require.Empty(t, repaired(t, dir, opts))

	require.NoError(t, os.Remove(filepath.Join(dir, kept+".1")))
	require.Equal(t, []string{kept + ".2"}, repaired(t, dir, opts), "the quarantined file is gone")
	put(t, []byte("{"), dir, kept+".2.json")
	require.Equal(t, []string{kept + ".3"}, repaired(t, dir, opts), "the report is not valid JSON")
	require.Empty(t, repaired(t, dir, opts))

	put(t, []byte("another's"), dir, QuarantineDir, segment.Name(4)+".json") // not a report on this damage
	flip(t, bodyBytes-1, segmentPath(dir, 4))
	require.Equal(t, []string{filepath.Join(QuarantineDir, segment.Name(4)+".1")}, repaired(t, dir, opts))
}

// If an earlier opening was interrupted after it had linked a damaged file, the next opening does
// not link it again.
func TestQuarantine_AfterAnInterruptedOpening(t *testing.T) {
	for _, name := range []string{"MANIFEST", "wal/MANIFEST", "WATERMARK", "wal/WATERMARK"} {
		dir := closedLog(t, 1, Options{})
		flip(t, 5, dir, name)
		require.NoError(t, os.Mkdir(filepath.Join(dir, QuarantineDir), 0o750))
		require.NoError(t, os.Link(filepath.Join(dir, name), filepath.Join(dir, QuarantineDir, "under a name of its own")))
		require.Empty(t, repaired(t, dir, Options{}), name)
		require.Equal(t, []string{"under a name of its own"}, names(t, filepath.Join(dir, QuarantineDir)), name)
	}
}

// A damaged file stays in its place until an intact one replaces it. If an opening is interrupted
// before that, the next one finds the damaged file again.
func TestQuarantine_DamagedFilesStayUntilTheyAreReplaced(t *testing.T) {
	for _, name := range []string{"MANIFEST", "wal/MANIFEST", "WATERMARK", "wal/WATERMARK"} {
		dir := closedLog(t, 3, Options{})
		flip(t, 5, dir, name)
		put(t, append(read(t, segmentPath(dir, 1)), 0xff), segmentPath(dir, 1))
		damaged := read(t, dir, name)
		r := begin(t, dir, Options{})
		items(t, r)
		put(t, append(read(t, segmentPath(dir, 1)), 0xff), segmentPath(dir, 1)) // makes the repair fail
		_, err := r.Finish(segment.FrameID{})
		require.ErrorContains(t, err, "another process writes to it")
		require.Equal(t, damaged, read(t, dir, name))
		require.Equal(t, damaged, read(t, dir, QuarantineDir, filepath.Base(name)))
	}
}

// If a file cannot be put into quarantine/, no report of it stays there, and the opening ends
// before it changes anything.
func TestQuarantine_Fails(t *testing.T) {
	r := begin(t, closedLog(t, 1, Options{}), Options{})
	full := errors.New("no space left on the device")
	err := r.quarantine("x", func(string) error { return full }, quarantineReport{})
	require.ErrorIs(t, err, full)
	require.Empty(t, names(t, filepath.Join(r.dir, QuarantineDir)))
	require.Empty(t, r.Quarantined())
	require.NoError(t, r.Abandon())

	dir := closedLog(t, 3, Options{})
	put(t, []byte("a file"), dir, QuarantineDir)
	put(t, append(read(t, segmentPath(dir, 1)), 0xff), segmentPath(dir, 1))
	before := tree(t, dir)
	for range 2 { // the lock is released each time
		r := begin(t, dir, Options{})
		items(t, r)
		_, err := r.Finish(segment.FrameID{})
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrLocked)
		require.Equal(t, before, tree(t, dir))
	}
}

// If a file cannot be linked or renamed, it is copied completely or not at all. The copy never
// replaces another file.
func TestQuarantine_Copies(t *testing.T) {
	memory, disk := memDir(t), t.TempDir()
	put(t, []byte("content"), memory, "from")
	from := filepath.Join(memory, "from")
	probe := os.Link(from, filepath.Join(disk, "probe"))
	if probe == nil {
		t.Skip("both directories are on one file system")
	}
	require.NoError(t, linkFile(from, filepath.Join(disk, "linked")))
	require.Equal(t, "content", string(read(t, disk, "linked")))
	require.Equal(t, "content", string(read(t, from)), "the original remains")
	require.NoError(t, moveFile(from, filepath.Join(disk, "moved")))
	require.Equal(t, "content", string(read(t, disk, "moved")))
	require.NoFileExists(t, from)

	put(t, []byte("other"), memory, "from")
	for name, put := range map[string]func(from, to string) error{"link": linkFile, "move": moveFile, "copy": copyFile} {
		require.ErrorIs(t, put(from, filepath.Join(disk, "moved")), os.ErrExist, name)
		require.Equal(t, "content", string(read(t, disk, "moved")), name)
		require.Equal(t, "other", string(read(t, from)), name)
	}
	require.NoError(t, os.Symlink("from", filepath.Join(memory, "link")))
	require.ErrorContains(t, copyFile(filepath.Join(memory, "link"), filepath.Join(disk, "of a link")), "is not a regular file")
	require.NoFileExists(t, filepath.Join(disk, "of a link"))
}

// The report of an older version has no severity. It still shows that the segment was quarantined
// for the same damage.
func TestQuarantine_ReportOfAnOlderVersion(t *testing.T) {
	dir := closedLog(t, 3, Options{})
	flip(t, bodyBytes, segmentPath(dir, 1)) // the length prefix of the second frame: no event is lost
	saved := repaired(t, dir, Options{})
	require.Len(t, saved, 1)
	text := string(read(t, dir, saved[0]+reportSuffix))
	older := strings.Replace(text, "\"reason\": \"damaged length prefix or stray bytes\",\n      \"severity\": \"endangers events\"", "\"reason\": \"damaged length prefix or stray bytes\"", 1)
	require.NotEqual(t, text, older)
	put(t, []byte(older), dir, saved[0]+reportSuffix)
	require.Empty(t, repaired(t, dir, Options{}))
}
