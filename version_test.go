package migrationlog_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// setVersion changes the format version of the frame at an offset. As a writer of that version
// does, it includes the version byte in the CRC32C of the header.
func setVersion(t testing.TB, dir, path string, at int64, version byte) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	log := reader.Manifest().UUID
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	header := b[at : at+40]
	header[3] = version
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(header[36:], crc32.Update(crc32.Checksum(header[:36], table), table, log[:]))
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// Open and every reader refuse a log with a frame of a newer version, and name the version. The
// refused Open changes no file.
func TestNewerFormat(t *testing.T) {
	for name, segmentSize := range map[string]int{"one segment": 0, "many segments": 200} {
		whole := filepath.Join(memDir(t), "log")
		s := open(t, whole, &migrationlog.Options{SegmentSize: segmentSize})
		for range 9 {
			upsert(t, s, checkpoint.NewMigrationID(), 0, catchUp)
		}
		require.NoError(t, s.Close())
		// A snapshot may hide the newer frames from Open. This log has none.
		require.NoError(t, os.RemoveAll(filepath.Join(whole, "snapshots")))
		for seq := uint64(1); seq <= 9; seq++ {
			dir := copyDir(t, whole)
			record := recordAt(t, dir, seq)
			setVersion(t, dir, segmentPath(dir, record.Segment), record.Offset, 2)
			before := hashes(t, dir)
			for _, opts := range []*migrationlog.Options{nil, {VerifyAll: true}, {OnDamage: migrationlog.RefuseDamage}} {
				_, err := migrationlog.Open(dir, opts)
				require.ErrorIs(t, err, migrationlog.ErrNewerFormat, "%s, seq %d", name, seq)
				require.ErrorContains(t, err, record.Segment)
				require.ErrorContains(t, err, "has format version 2")
			}
			require.Equal(t, before, hashes(t, dir), "%s, seq %d", name, seq)

			reader, err := replay.Open(dir)
			require.NoError(t, err)
			_, err = reader.Verify(t.Context())
			require.ErrorIs(t, err, migrationlog.ErrNewerFormat, "%s, seq %d", name, seq)
			var failure error
			var seqs uint64
			for _, failure = range reader.Records(t.Context(), replay.Query{}) {
				if failure == nil {
					seqs++
				}
			}
			require.ErrorIs(t, failure, migrationlog.ErrNewerFormat, "%s, seq %d", name, seq)
			require.Equal(t, seq-1, seqs, "%s: the frames before it are shown", name)
		}
	}
}

// recordAt returns the record with that number.
func recordAt(t testing.TB, dir string, seq uint64) (found replay.Record) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{FromSeq: seq, ToSeq: seq}) {
		require.NoError(t, err)
		found = r
	}
	require.Equal(t, seq, found.Seq)
	return found
}

// If there is a snapshot, Open still reads the whole last segment.
func TestNewerFormat_WithASnapshot(t *testing.T) {
	dir, events, _ := smallLog(t)
	record := recordAt(t, dir, uint64(len(events)))
	setVersion(t, dir, segmentPath(dir, record.Segment), record.Offset, 2)
	_, err := migrationlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrNewerFormat)
}
