package segment_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// D2, D3: a snapshot is rejected if any bit is flipped, if it is cut anywhere, or if it is from
// another log.
func TestD2_SnapshotEveryBitAndCut(t *testing.T) {
	want := segment.Snapshot{
		Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: 1234, Segment: 1000, HeaderCRC32C: 0xfeed}, Synced: true, Body: []byte("rows"),
	}
	whole := want.Encode(testLog)
	got, err := segment.DecodeSnapshot(whole, testLog)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for bit := range len(whole) * 8 {
		flipped := append([]byte(nil), whole...)
		flipped[bit/8] ^= 1 << (bit % 8)
		_, err := segment.DecodeSnapshot(flipped, testLog)
		require.Error(t, err, "bit %d", bit)
	}
	for size := range len(whole) {
		_, err := segment.DecodeSnapshot(whole[:size], testLog)
		require.Error(t, err, "cut at %d", size)
	}
	_, err = segment.DecodeSnapshot(append(whole, 0), testLog)
	require.Error(t, err)
	_, err = segment.DecodeSnapshot(whole, uuid.UUID{9})
	require.Error(t, err)
}

// A snapshot of a later version is ignored if its checksums match. It is not damage.
func TestSnapshot_OfALaterVersion(t *testing.T) {
	s := segment.Snapshot{Version: segment.SnapshotVersion + 1, Last: segment.FrameID{Seq: 5, Segment: 1}, Synced: true, Body: []byte("rows")}
	whole := s.Encode(testLog)
	_, err := segment.DecodeSnapshot(whole, testLog)
	require.ErrorIs(t, err, segment.ErrNewerFormat)
	fsys := fstest.MapFS{segment.SnapshotDir + "/" + s.Name(): {Data: whole}}
	found, damage := segment.ReadSnapshots(fsys, testLog, true)
	require.Empty(t, found)
	require.Empty(t, damage)

	whole[len(whole)-1] ^= 1
	_, err = segment.DecodeSnapshot(whole, testLog)
	require.NotErrorIs(t, err, segment.ErrNewerFormat)
	_, damage = segment.ReadSnapshots(fsys, testLog, true)
	require.Len(t, damage, 1)
}

// D7: a snapshot whose file is far too large is damage, and it is not read into memory.
func TestD7_BlownUpSnapshot(t *testing.T) {
	s := segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: 5, Segment: 1}, Body: []byte("rows")}
	dir := t.TempDir()
	path := filepath.Join(dir, segment.SnapshotDir, s.Name())
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, s.Encode(testLog), 0o600))
	require.NoError(t, os.Truncate(path, 1<<40))
	found, damage := segment.ReadSnapshots(os.DirFS(dir), testLog, true)
	require.Empty(t, found)
	require.Len(t, damage, 1)
	require.Contains(t, damage[0].Reason, "the header says 44")
}

// D7: decoding ends for any bytes. If they are accepted, encoding returns the same bytes.
func FuzzSnapshot(f *testing.F) {
	f.Add(segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: 1, Segment: 1}, Body: []byte("rows")}.Encode(testLog))
	f.Add([]byte("\xf7MS\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := segment.DecodeSnapshot(b, testLog); err == nil {
			require.Equal(t, b, s.Encode(testLog))
		}
	})
}
