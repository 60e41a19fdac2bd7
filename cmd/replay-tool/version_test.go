package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay"
)

// If a frame has a newer format version, every reading command and import exit with 8 and change no
// segment.
func TestNewerFormat_ExitCode(t *testing.T) {
	t.Parallel()
	lines, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	lines = bytes.Join(bytes.SplitAfterN(lines, []byte("\n"), 6)[:5], nil)
	for _, seq := range []uint64{1, 3, 5} {
		dir := filepath.Join(t.TempDir(), "log")
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, bytes.NewReader(lines), io.Discard, io.Discard))
		id := makeNewer(t, dir, seq)
		before, err := hashDir(filepath.Join(dir, "wal")) // import changes LOCK, which is outside wal/
		require.NoError(t, err)
		for _, args := range [][]string{
			{"verify", dir}, {"frame", dir, "5"}, {"info", dir}, {"log", dir}, {"state", dir}, {"plan", dir}, {"what-if", dir}, {"crash-points", dir}, {"lint", dir},
			{"timeline", dir},
			{"triage", dir}, {dir},
			{"stats", dir}, {"quiet", dir}, {"diff", dir, "--at", "#1"}, {"diff", dir, dir}, {"export", dir, "--format", "sql"},
			{"bundle", dir, "--all", "--out", filepath.Join(t.TempDir(), "new")},
			{"show", dir, id}, {"triage", dir}, {dir}, {"import", dir, "-"},
			{"salvage", dir, "--out", filepath.Join(t.TempDir(), "new")},
		} {
			var stderr bytes.Buffer
			require.Equal(t, exitNewerFormat, run(t.Context(), args, bytes.NewReader(lines), io.Discard, &stderr), "seq %d: %v", seq, args)
			require.Contains(t, stderr.String(), "has format version 2", "seq %d: %v", seq, args)
		}
		after, err := hashDir(filepath.Join(dir, "wal"))
		require.NoError(t, err)
		require.Equal(t, before, after, "seq %d", seq)
	}
}

// makeNewer changes the format version of the frame seq to 2. It returns the id of its migration.
func makeNewer(t *testing.T, dir string, seq uint64) (id string) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{FromSeq: seq, ToSeq: seq}) {
		require.NoError(t, err)
		path := filepath.Join(dir, "wal", r.Segment)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		header := b[r.Offset : r.Offset+40]
		header[3] = 2
		log := reader.Manifest().UUID
		table := crc32.MakeTable(crc32.Castagnoli)
		binary.LittleEndian.PutUint32(header[36:], crc32.Update(crc32.Checksum(header[:36], table), table, log[:]))
		require.NoError(t, os.WriteFile(path, b, 0o600))
		id = r.Event.Migration().String()
	}
	return id
}
