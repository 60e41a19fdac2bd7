package segment_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io/fs"
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
	text := strings.Replace(string(segment.Manifest{UUID: testLog}.Encode()), "format 1", "format 2", 1)
	text, _, _ = strings.Cut(text, "crc32c ")
	text = fmt.Sprintf("%scrc32c %08x\n", text, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
	fsys := logOf(nil)
	fsys[segment.ManifestName] = &fstest.MapFile{Data: []byte(text)}
	_, _, err := segment.ReadManifest(fsys)
	require.ErrorIs(t, err, segment.ErrNewerFormat)
	require.ErrorContains(t, err, "version 2")
}

func TestStrays(t *testing.T) {
	fsys := logOf(map[uint64][]byte{1: nil})
	for _, name := range []string{"00000000000000000005.START", "00000000000000000005.END", "00000000000000000000", "99999999999999999999", "x"} {
		fsys["wal/"+name] = &fstest.MapFile{Data: []byte("abc")}
	}
	fsys["wal/00000000000000000007/file"] = &fstest.MapFile{}
	fsys["wal/MANIFEST.new"] = &fstest.MapFile{}
	strays, err := segment.Strays(fsys)
	require.NoError(t, err)
	require.Len(t, strays, 6)
	names, err := segment.Names(fsys)
	require.NoError(t, err)
	require.Equal(t, []string{segment.Name(1)}, names)
}
