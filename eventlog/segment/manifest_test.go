package segment_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// D1: if one copy of the manifest has a flipped bit or is cut, the log keeps its UUID. The damage
// report has the copy's name.
func TestD1_ManifestEveryBitAndCut(t *testing.T) {
	whole := logOf(nil)[segment.ManifestName].Data
	try := func(name string, b []byte) {
		fsys := logOf(map[uint64][]byte{1: entries(1, 1)})
		fsys[name] = &fstest.MapFile{Data: b}
		m, damage, err := segment.ReadManifest(fsys)
		require.NoError(t, err)
		require.Equal(t, testLog, m.UUID)
		require.Len(t, damage, 1)
		require.Equal(t, name, damage[0].Segment)
	}
	for _, name := range []string{segment.ManifestName, segment.ManifestCopyName} {
		for bit := range len(whole) * 8 {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			try(name, b)
		}
		for size := range len(whole) {
			try(name, whole[:size])
		}
	}
}

func TestManifest_RoundTrip(t *testing.T) {
	m := segment.Manifest{UUID: uuid.New(), Created: time.Unix(1795399697, 0).UTC()}
	got, err := segment.DecodeManifest(m.Encode())
	require.NoError(t, err)
	require.Equal(t, m, got)
}

func TestReadManifest_NotALogOrLost(t *testing.T) {
	_, _, err := segment.ReadManifest(fstest.MapFS{})
	require.ErrorIs(t, err, segment.ErrNotALog)

	both := logOf(map[uint64][]byte{1: entries(1, 1)})
	delete(both, segment.ManifestName)
	delete(both, segment.ManifestCopyName)
	_, _, err = segment.ReadManifest(both)
	require.ErrorIs(t, err, segment.ErrManifestLost)

	two := logOf(map[uint64][]byte{1: entries(1, 1)})
	two[segment.ManifestCopyName] = &fstest.MapFile{Data: segment.Manifest{UUID: uuid.New()}.Encode()}
	_, _, err = segment.ReadManifest(two)
	require.ErrorIs(t, err, segment.ErrManifestLost)

	gone := logOf(nil) // the copy without any segment: the segments are lost
	delete(gone, segment.ManifestName)
	_, damaged, err := segment.ReadManifest(gone)
	require.NoError(t, err)
	require.Len(t, damaged, 1)

	dir := logOf(nil)
	dir[segment.ManifestName] = &fstest.MapFile{Mode: fs.ModeDir}
	_, damage, err := segment.ReadManifest(dir)
	require.NoError(t, err)
	require.Len(t, damage, 1)
}

// A newer format is refused with its version. It does not count as damage.
func TestReadManifest_NewerFormat(t *testing.T) {
	text := strings.Replace(string(segment.Manifest{UUID: testLog}.Encode()), "format 1", "format 3", 1)
	text, _, _ = strings.Cut(text, "crc32c ")
	text = fmt.Sprintf("%scrc32c %08x\n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
	fsys := logOf(nil)
	fsys[segment.ManifestName] = &fstest.MapFile{Data: []byte(text)}
	_, _, err := segment.ReadManifest(fsys)
	require.ErrorIs(t, err, segment.ErrNewerFormat)
	require.ErrorContains(t, err, "version 3")
}

// A stray file endangers events if tidwall/wal takes it for one of its own files, or if it has the
// name of a segment. All other files are harmless.
func TestStrays(t *testing.T) {
	fsys := logOf(map[uint64][]byte{1: nil})
	severities := map[string]segment.Severity{
		"00000000000000000005.START":     segment.EndangersEvents,
		"00000000000000000005.END":       segment.EndangersEvents,
		"18446744073709551615":           segment.EndangersEvents, // above MaxSeq
		"00000000000000000000":           segment.Harmless,
		"99999999999999999999":           segment.Harmless, // above the highest uint64
		"00000000000000000000.END":       segment.Harmless,
		"00000000000000000005.END.START": segment.Harmless,
		"00000000000000000005.end":       segment.Harmless,
		"00000000000000000005.bak":       segment.Harmless,
		"00000000000000000005~":          segment.Harmless,
		"5.END":                          segment.Harmless,
		".DS_Store":                      segment.Harmless,
		".nfs0000000000000001":           segment.Harmless,
		"x.swp":                          segment.Harmless,
	}
	for name := range severities {
		fsys["wal/"+name] = &fstest.MapFile{Data: []byte("abc")}
	}
	fsys["wal/00000000000000000006.END/file"] = &fstest.MapFile{}
	fsys["wal/MANIFEST.new"] = &fstest.MapFile{}
	fsys["wal/00000000000000000007/file"] = &fstest.MapFile{}
	fsys["wal/00000000000000000008"] = &fstest.MapFile{Mode: fs.ModeSymlink}
	severities["00000000000000000007"], severities["00000000000000000008"] = segment.EndangersEvents, segment.EndangersEvents
	strays, err := segment.Strays(fsys)
	require.NoError(t, err)
	got := map[string]segment.Severity{}
	for _, d := range strays {
		got[path.Base(d.Segment)] = d.Severity
	}
	require.Equal(t, severities, got)
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	require.Equal(t, []string{segment.Name(1)}, names)
}

// The text of a severity is also its JSON form. A text from a later version counts as the worst
// severity, as a missing one does.
func TestSeverity_Text(t *testing.T) {
	for severity, want := range []string{"loses events", "endangers events", "harmless"} {
		text, err := segment.Severity(severity).MarshalText()
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		read := segment.Severity(9)
		require.NoError(t, read.UnmarshalText(text))
		require.Equal(t, segment.Severity(severity), read)
	}
	read := segment.Harmless
	require.NoError(t, read.UnmarshalText([]byte("of a later version")))
	require.Equal(t, segment.LosesEvents, read)
	require.Equal(t, "severity 9", segment.Severity(9).String())
}

// The error states whether the copies of the manifest are missing or belong to different logs.
func TestReadManifest_LostReasons(t *testing.T) {
	fsys := logOf(map[uint64][]byte{1: entries(1, 1)})
	fsys[segment.ManifestCopyName] = &fstest.MapFile{Data: segment.Manifest{UUID: uuid.UUID{1}}.Encode()}
	_, _, err := segment.ReadManifest(fsys)
	require.ErrorIs(t, err, segment.ErrManifestLost)
	require.ErrorContains(t, err, "belong to different logs")
	require.NotContains(t, err.Error(), "missing or damaged")
	delete(fsys, segment.ManifestName)
	fsys[segment.ManifestCopyName].Data = []byte("x\n")
	_, _, err = segment.ReadManifest(fsys)
	require.ErrorIs(t, err, segment.ErrManifestLost)
	require.ErrorContains(t, err, "missing or damaged")
}

// A small file that ends early is reported as cut short, not as a checksum that does not match.
func TestReadDirectory_CutShort(t *testing.T) {
	fsys := watched(map[uint64][]byte{1: entries(1, 4)}, segment.Manifest{UUID: testLog, Revision: 1}, 4)
	cut := func(name string) { fsys[name].Data = fsys[name].Data[:20] }
	cut(segment.ManifestName)
	cut(segment.WatermarkName)
	d, err := segment.ReadDirectory(fsys)
	require.NoError(t, err)
	require.Len(t, d.Damage, 2)
	require.Equal(t, "cut short: 20 bytes, and the last line has no line break", d.Damage[0].Reason)
	require.Equal(t, "cut short: 20 of 30 bytes", d.Damage[1].Reason)

	snapshot := segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: 4, Segment: 1}, Body: make([]byte, 9)}.Encode(testLog)
	for size, want := range map[int]string{
		39:                "cut short: 39 bytes, but the header has 40",
		len(snapshot) - 1: "the file has 48 bytes, and the header says 49",
	} {
		fsys[segment.SnapshotDir+"/"+segment.Name(4)] = &fstest.MapFile{Data: snapshot[:size]}
		_, damage := segment.ReadSnapshots(fsys, testLog, false)
		require.Len(t, damage, 1)
		require.Equal(t, want, damage[0].Reason)
		require.Equal(t, segment.Harmless, damage[0].Severity)
	}
}

// If the only file with a segment's name is not a regular file, the report does not say that there
// are no segment files.
func TestScan_OnlySegmentIsASymlink(t *testing.T) {
	fsys := logOf(map[uint64][]byte{1: nil})
	fsys["wal/"+segment.Name(1)].Mode = fs.ModeSymlink
	d, err := segment.ReadDirectory(fsys)
	require.NoError(t, err)
	var reasons []string
	for item, err := range segment.NewScan(fsys, d, segment.ScanOptions{}).Items() {
		require.NoError(t, err)
		reasons = append(reasons, item.Damage.Reason)
	}
	require.Equal(t, []string{"has a segment's name but is not a regular file: replace it with the segment itself", "no segment is a regular file"}, reasons)
}

// The beginning of the history is a line of the manifest. A manifest without the line has the whole
// history, and an origin of a later version is kept.
func TestManifest_History(t *testing.T) {
	m := segment.Manifest{UUID: uuid.New(), Created: time.Unix(1795399697, 0).UTC(), Revision: 1, Skipped: []segment.SeqRange{{3, 4}}}
	for _, h := range []*segment.History{nil, {1, 1, segment.OriginRestored}, {1 << 63, 1<<64 - 1, segment.OriginAcceptedLoss}, {5, 0, "moon"}} {
		m.History = h
		got, err := segment.DecodeManifest(m.Encode())
		require.NoError(t, err)
		require.Equal(t, m, got)
		require.Equal(t, h, got.Skip([]segment.SeqRange{{7, 7}}).History)
	}
	for _, line := range []string{"history", "history 1", "history 1 2", "history x 2 restored", "history -1 2 restored"} {
		text := fmt.Appendf(nil, "migrationlog format 1\nuuid %s\n%s\n", m.UUID, line)
		_, err := segment.DecodeManifest(fmt.Appendf(text, "crc32c %08x\n", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli))))
		require.Error(t, err, line)
	}
}
