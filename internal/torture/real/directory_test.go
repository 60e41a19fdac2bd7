package real_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// goldenDir holds a log whose bytes never change, so that an input found by the
// fuzzer means the same to everybody.
const goldenDir = "../../../testdata/golden/v1/clean/log"

// archiveNames are the files that an archive may hold.
var archiveNames = []string{
	"MANIFEST", "wal/MANIFEST", "wal/00000000000000000001", "wal/00000000000000000017", "wal/00000000000000000033", "WATERMARK", "wal/WATERMARK",
	"wal/00000000000000000002", "wal/00000000000000000020", "wal/00000000000000000005.START", "wal/00000000000000000001.END", "wal/notes",
	"WATERMARK.new", "wal/WATERMARK.new", "MANIFEST.new", "wal/MANIFEST.new", "LOCK", "quarantine/x", "snapshots/x", "wal/00000000000000000900",
}

// goldenNames is how many of them the golden log has.
const goldenNames = 7

// An archive is a row of files, each of three bytes and what these say:
//
//	name     modulo len(archiveNames)
//	source   0x80: the bytes behind are the content; else the golden file of that
//	         number is, or, where there is none, nothing
//	length   of what is behind: the content, or edits of four bytes each
//
// An edit is an operation, a position (two bytes) modulo the size, and an argument.
const rawSource = 0x80

// unpack returns the files of an archive. Every input is one.
func unpack(golden map[string][]byte, input []byte) memory {
	dir := memory{}
	for len(input) >= 3 {
		name := archiveNames[int(input[0])%len(archiveNames)]
		source, length := input[1], min(int(input[2]), len(input)-3)
		rest := input[3 : 3+length]
		input = input[3+length:]
		if source&rawSource != 0 {
			dir[name] = rest
			continue
		}
		b := append([]byte{}, golden[archiveNames[int(source)%len(archiveNames)]]...)
		for ; len(rest) >= 4; rest = rest[4:] {
			b = edit(b, rest[0], int(binary.LittleEndian.Uint16(rest[1:])), rest[3])
		}
		dir[name] = b
	}
	return dir
}

func edit(b []byte, operation byte, at int, argument byte) []byte {
	at %= len(b) + 1
	end := min(len(b), at+int(argument))
	switch operation % 6 {
	case 0:
		if at < len(b) {
			b[at] ^= argument
		}
	case 1:
		clear(b[at:end])
	case 2:
		b = b[:at]
	case 3:
		b = slices.Delete(b, at, end)
	case 4:
		b = slices.Insert(b, at, make([]byte, argument)...)
	case 5:
		b = slices.Insert(b, at, slices.Clone(b[at:end])...)
	}
	return b
}

// packed is the archive of the golden log with edits of one of its files.
func packed(edited byte, edits ...byte) []byte {
	var archive []byte
	for name := range byte(goldenNames) {
		file := []byte{name, name, 0}
		if name == edited {
			file = append([]byte{name, name, byte(len(edits))}, edits...)
		}
		archive = append(archive, file...)
	}
	return archive
}

// D3, D7: whatever is in a directory, reading it changes nothing, opening it does
// not panic, and what one opening found the next one finds again, with what was
// written in between.
func FuzzDirectory(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "log")
	require.NoError(f, os.CopyFS(dir, os.DirFS(goldenDir)))
	s, err := migrationlog.Open(dir, nil) // it gets its watermarks
	require.NoError(f, err)
	require.NoError(f, s.Close())
	golden := files(f, dir)
	f.Add([]byte{})
	f.Add(packed(0xFF))                                          // the log as it is
	f.Add(packed(0, 0, 20, 0, 1))                                // a bit of the manifest
	f.Add(packed(1, 2, 0, 0, 0))                                 // its copy is empty
	f.Add(packed(2, 0, 200, 0, 4))                               // a bit in the first segment
	f.Add(packed(3, 1, 100, 0, 255))                             // zeros in the second
	f.Add(packed(4, 2, 200, 0, 0))                               // the third is cut
	f.Add(packed(4, 4, 200, 0, 50, 0, 0, 1, 7))                  // bytes put in, and a bit
	f.Add(packed(2, 5, 1, 0, 250, 3, 90, 0, 40))                 // bytes doubled, and taken out
	f.Add(append(packed(0xFF), 9, rawSource, 1, 'x'))            // a stray that tidwall/wal would obey
	f.Add(append(packed(0xFF), 7, 3, 0, 19, 2, 0))               // segments under other names
	f.Add(append(packed(0xFF), 19, rawSource, 0))                // a name that no frame has reached
	f.Add(packed(5, 0, 3, 0, 1))                                 // a bit of the watermark
	f.Add(packed(6, 2, 0, 0, 0))                                 // its copy is empty
	f.Add([]byte{2, 2, 0, 3, 3, 0})                              // no manifest
	f.Add([]byte{0, 0, 0, 1, 1, 0})                              // no segment
	f.Add(append([]byte{0, 0, 0}, packed(2, 2, 0, 0, 0)[6:]...)) // an empty segment among others, one manifest
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 4096 {
			return
		}
		parent, err := os.MkdirTemp(fastDir(t), "fuzz-")
		require.NoError(t, err)
		defer os.RemoveAll(parent)
		dir := filepath.Join(parent, "log")
		before := unpack(golden, input)
		put(t, dir, before)
		readOnly(t, dir)
		require.Equal(t, map[string][]byte(before), files(t, dir))
		openTwice(t, dir)
	})
}

func fastDir(t testing.TB) string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return t.TempDir()
}

// put writes the files into the directory.
func put(t testing.TB, dir string, content memory) {
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for name, b := range content {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
}

// readOnly reads the log as far as it is one.
func readOnly(t *testing.T, dir string) {
	reader, err := replay.Open(dir)
	if err != nil {
		require.True(t, isOneOf(err, segment.ErrNotALog, segment.ErrManifestLost, segment.ErrNewerFormat), "%v", err)
		return
	}
	last := uint64(0)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		if r.Damage == nil {
			require.Greater(t, r.Seq, last)
			last = r.Seq
		}
	}
}

// openTwice opens the log for writing, writes, and opens it again.
func openTwice(t *testing.T, dir string) {
	s, err := migrationlog.Open(dir, nil)
	if err != nil {
		require.True(t, isOneOf(err, segment.ErrManifestLost, segment.ErrNewerFormat, migrationlog.ErrNeedsRepair), "%v", err)
		return
	}
	found := bodies(t, dir)
	report := s.Report()
	c, err := checkpoint.New(checkpoint.NewMigrationID(), 0, checkpoint.CatchUp{VShardID: 7}, 1)
	require.NoError(t, err)
	receipt, err := s.Upsert(c)
	require.NoError(t, err)
	require.NotContains(t, found, receipt.Seq)
	require.Greater(t, receipt.Seq, report.LastSeq)
	require.NoError(t, s.Close())
	found[receipt.Seq] = body(checkpoint.Upserted{Checkpoint: c})

	s, err = migrationlog.Open(dir, nil)
	require.NoError(t, err)
	got, ok := s.Get(c.MigrationID)
	require.True(t, ok)
	require.Equal(t, c, got)
	require.Equal(t, joined(report.Lost), joined(s.Report().Lost))
	require.Nil(t, s.Report().TornTail)
	require.Equal(t, found, bodies(t, dir))
	require.NoError(t, s.Close())
}

// joined are the ranges with neighbours made one: an opening may add evidence that
// makes two places of what was one, and the numbers stay the same.
func joined(ranges []replay.SeqRange) (joined []replay.SeqRange) {
	for _, r := range ranges {
		if n := len(joined); n > 0 && joined[n-1].Last+1 == r.First {
			joined[n-1].Last = r.Last
		} else {
			joined = append(joined, r)
		}
	}
	return joined
}
