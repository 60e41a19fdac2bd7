package segment_test

import (
	"errors"
	"io/fs"
	"math"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// watched returns a log directory with this manifest and watermark.
func watched(segments map[uint64][]byte, m segment.Manifest, watermark uint64) fstest.MapFS {
	fsys := logOf(segments)
	setManifest(fsys, m)
	for _, name := range segment.WatermarkNames {
		fsys[name] = &fstest.MapFile{Data: segment.AppendWatermark(nil, testLog, watermark)}
	}
	return fsys
}

func setManifest(fsys fstest.MapFS, m segment.Manifest) {
	for _, name := range []string{segment.ManifestName, segment.ManifestCopyName} {
		fsys[name] = &fstest.MapFile{Data: m.Encode()}
	}
}

// ReadDirectory returns the manifest, the watermark, the damage of both, and the strays among the
// segments.
func TestReadDirectory(t *testing.T) {
	m := segment.Manifest{UUID: testLog, Revision: 3, Skipped: ranges{{First: 2, Last: 3}}}
	fsys := watched(map[uint64][]byte{1: entries(1, 4)}, m, 4)
	d, err := segment.ReadDirectory(fsys)
	require.NoError(t, err)
	require.Equal(t, m.UUID, d.Manifest.UUID)
	require.EqualValues(t, 4, d.Watermark)
	require.Empty(t, d.Damage)
	require.Empty(t, d.Strays)
	l := d.Losses()
	l.AddLost(segment.SeqRange{First: 1, Last: 9})
	require.Equal(t, ranges{{First: 1, Last: 1}, {First: 4, Last: 4}}, l.Acknowledged())
	require.Equal(t, ranges{{First: 5, Last: 9}}, l.UnknownIfAcknowledged())

	delete(fsys, segment.ManifestCopyName)
	delete(fsys, segment.WatermarkName)
	fsys["wal/x"] = &fstest.MapFile{Data: []byte("stray")}
	d, err = segment.ReadDirectory(fsys)
	require.NoError(t, err)
	require.EqualValues(t, 4, d.Watermark)
	require.Equal(t, []segment.Damage{
		{Segment: segment.ManifestCopyName, Reason: "missing", Severity: segment.Harmless},
		{Segment: segment.WatermarkName, Reason: "missing", Severity: segment.Harmless},
	}, d.Damage)
	require.Equal(t, []segment.Damage{{Segment: "wal/x", Length: 5, Reason: "not a file of this log", Severity: segment.Harmless}}, d.Strays)

	// Without both watermarks, a loss at the end of the log may go unnoticed.
	delete(fsys, segment.WatermarkCopyName)
	d, err = segment.ReadDirectory(fsys)
	require.NoError(t, err)
	require.Len(t, d.Damage, 3)
	require.Equal(t, segment.Harmless, d.Damage[0].Severity)
	require.Equal(t, segment.EndangersEvents, d.Damage[1].Severity)
	require.Equal(t, segment.EndangersEvents, d.Damage[2].Severity)
}

// A log of revision 0 has no watermark. Missing watermark files are not damage, and existing ones
// are ignored.
func TestReadDirectory_WithoutWatermark(t *testing.T) {
	fsys := watched(map[uint64][]byte{1: entries(1, 4)}, segment.Manifest{UUID: testLog}, 9)
	for range 2 {
		d, err := segment.ReadDirectory(fsys)
		require.NoError(t, err)
		require.Zero(t, d.Watermark)
		require.Empty(t, d.Damage)
		for _, name := range segment.WatermarkNames {
			delete(fsys, name)
		}
	}
}

// opening is a log whose files change after a read, as if a writer opened it.
type opening struct {
	fstest.MapFS
	after func(name string)
}

func (o opening) Open(name string) (fs.File, error) {
	f, err := o.MapFS.Open(name)
	o.after(name)
	return f, err
}

// If a writer opens the log between the reads of the manifest and the watermark, both are read
// again. Otherwise numbers that the writer skipped would count as acknowledged.
func TestReadDirectory_WriterOpensMeanwhile(t *testing.T) {
	older := segment.Manifest{UUID: testLog, Revision: 1}
	newer := older.Skip(ranges{{First: 4, Last: 6}})
	fsys := watched(map[uint64][]byte{1: entries(1, 3)}, older, 3)
	opened := 0
	d, err := segment.ReadDirectory(opening{fsys, func(name string) {
		if name == segment.ManifestCopyName && opened == 0 { // just after the manifest was read
			opened++
			for file, of := range watched(nil, newer, 6) {
				fsys[file] = of
			}
		}
	}})
	require.NoError(t, err)
	require.Equal(t, 1, opened)
	require.EqualValues(t, 6, d.Watermark)
	require.Equal(t, newer.Skipped, d.Manifest.Skipped)
	l := d.Losses()
	l.AddLost(segment.SeqRange{First: 4, Last: 6})
	require.Empty(t, l.Acknowledged())
}

// broken is a log in which one file or directory cannot be read.
type broken struct {
	fstest.MapFS
	name string
}

var errDevice = errors.New("the device does not answer")

func (b broken) Open(name string) (fs.File, error) {
	if name == b.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errDevice}
	}
	return b.MapFS.Open(name)
}

func (b broken) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == b.name {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errDevice}
	}
	return b.MapFS.ReadDir(name)
}

// If the device cannot read a file, ReadDirectory returns the I/O error and does not report damage.
func TestReadDirectory_IOError(t *testing.T) {
	for _, name := range []string{segment.ManifestName, segment.ManifestCopyName, segment.WatermarkName, segment.WatermarkCopyName, segment.WALDir} {
		_, err := segment.ReadDirectory(broken{watched(map[uint64][]byte{1: nil}, segment.Manifest{UUID: testLog, Revision: 1}, 0), name})
		require.ErrorIs(t, err, errDevice, name)
	}
}

// A segment's name is the number of its first frame in 20 digits. Names sort in the order of the
// numbers.
func TestName(t *testing.T) {
	for name, want := range map[string]uint64{
		"00000000000000000001": 1,
		"00000000000000000042": 42,
		"00000001099511627776": 1 << 40,
	} {
		require.Equal(t, name, segment.Name(want))
		got, ok := segment.ParseName(name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
	}
	for _, name := range []string{
		"", "1", "0000000000000000001", "000000000000000000001", "00000000000000000000", "0000000000000000000x", "+0000000000000000001",
		"-0000000000000000001", " 0000000000000000001", "0x000000000000000001", "0_000000000000000001", "1844674407370955161٦",
		"18446744073709551616", "99999999999999999999", "00000000000000000001.END", segment.Name(math.MaxUint64),
	} {
		_, ok := segment.ParseName(name)
		require.False(t, ok, name)
	}
	require.Less(t, segment.Name(9), segment.Name(10))

	fsys := logOf(map[uint64][]byte{10: nil, 9: nil, 100: nil})
	fsys["wal/"+segment.Name(7)+"/file"] = &fstest.MapFile{}
	fsys["wal/"+segment.Name(8)] = &fstest.MapFile{Mode: fs.ModeSymlink}
	fsys["wal/99999999999999999999"] = &fstest.MapFile{}
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	require.Equal(t, []string{segment.Name(9), segment.Name(10), segment.Name(100)}, names)
	_, err = segment.Names(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// The text of a Damage is one line with the file, the offset and the lost frames, even if the file
// name contains control characters.
func TestDamage_String(t *testing.T) {
	for _, tc := range []struct {
		damage segment.Damage
		want   string
		lost   uint64
	}{
		{segment.Damage{FirstSeq: 4, LastSeq: 4, Segment: segment.Name(1), Offset: 7, Length: 9, Reason: "zeros"}, segment.Name(1) + " at byte 7, 9 bytes: zeros; lost seq 4", 1},
		{segment.Damage{FirstSeq: 4, LastSeq: 6, Segment: segment.Name(1), Offset: 7, Reason: "zeros"}, segment.Name(1) + " at byte 7: zeros; lost seq 4 to 6", 3},
		{segment.Damage{Segment: segment.Name(1), Offset: 7, Length: 1, Reason: "prefix"}, segment.Name(1) + " at byte 7, 1 byte: prefix; no frame lost", 0},
		{segment.Damage{FirstSeq: 4, LastSeq: 4, Torn: true, Segment: segment.Name(1), Offset: 7, Length: 1, Reason: "cut"}, "torn tail: " + segment.Name(1) + " at byte 7, 1 byte: cut", 0},
		{segment.Damage{Segment: "MANIFEST", Reason: "missing"}, "MANIFEST: missing", 0},
		{segment.Damage{Segment: "wal/a\n\x1b[2J\xff", Length: 3, Reason: "stray"}, `wal/a\n\x1b[2J\xff, 3 bytes: stray`, 0},
		{segment.Damage{Segment: "wal/.nfs000000000123", Length: 3, Reason: "stray"}, "wal/.nfs000000000123, 3 bytes: stray", 0},
		{segment.Damage{Segment: "wal", Reason: "no segment files", FirstSeq: 1, LastSeq: 8}, "wal: no segment files; lost seq 1 to 8", 8},
		{segment.Damage{Segment: segment.Name(1), Reason: "zeros", AfterMS: 1795399697649, BeforeMS: 1795399697701}, segment.Name(1) + " at byte 0: zeros; no frame lost; between 2026-11-23 02:08:17.649 and 02:08:17.701 UTC", 0},
		{segment.Damage{Segment: segment.Name(1), Reason: "zeros", AfterMS: 1795399697649, BeforeMS: 1795500000000}, segment.Name(1) + " at byte 0: zeros; no frame lost; between 2026-11-23 02:08:17.649 UTC and 2026-11-24 06:00:00.000 UTC", 0},
		{segment.Damage{Segment: segment.Name(1), Reason: "zeros", AfterMS: 1795399697649, BeforeMS: 1795300000000}, segment.Name(1) + " at byte 0: zeros; no frame lost; after 2026-11-23 02:08:17.649 UTC; the next event has an earlier clock, 2026-11-21 22:26:40.000 UTC", 0},
		{segment.Damage{Segment: segment.Name(1), Reason: "zeros", AfterMS: 1795399697649}, segment.Name(1) + " at byte 0: zeros; no frame lost; after 2026-11-23 02:08:17.649 UTC", 0},
		{segment.Damage{Segment: segment.Name(1), Reason: "zeros", BeforeMS: 1 << 63}, segment.Name(1) + " at byte 0: zeros; no frame lost; before 9223372036854775808 ms", 0},
	} {
		require.Equal(t, tc.want, tc.damage.String())
		require.Equal(t, tc.lost, tc.damage.Lost())
	}
}
