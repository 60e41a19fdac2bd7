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

// goldenDir has a log whose bytes never change, so that an input of the fuzzer always produces the
// same files.
const goldenDir = "../../../testdata/golden/v1/clean/log"

// archiveNames are the names of the files that an archive may have.
var archiveNames = []string{
	"MANIFEST", "wal/MANIFEST", "wal/00000000000000000001", "wal/00000000000000000017", "wal/00000000000000000033", "WATERMARK", "wal/WATERMARK",
	"wal/00000000000000000002", "wal/00000000000000000020", "wal/00000000000000000005.START", "wal/00000000000000000001.END", "wal/notes",
	"WATERMARK.new", "wal/WATERMARK.new", "MANIFEST.new", "wal/MANIFEST.new", "LOCK", "quarantine/x", "snapshots/x", "wal/00000000000000000900",
}

// goldenNames is the number of these files that the golden log has.
const goldenNames = 7

// An archive is a list of files. Each file is three bytes, followed by its data:
//
//	name     index of the file's name in archiveNames, modulo its length
//	source   with the bit 0x80: the data is the content of the file
//	         otherwise: the content is the golden file with this index, or empty if
//	         there is no such file, and the data has edits of it
//	length   length of the data
//
// An edit has four bytes: an operation, an offset (two bytes, modulo the size of the file), and an
// argument.
const rawSource = 0x80

// unpack returns the files of an archive. Every input is a valid archive.
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

// packed returns the archive of the golden log with edits of one of its files.
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

// D3, D7: reading a directory with any content changes nothing, and opening it does not panic. The
// second opening finds the same events as the first one, and the event that was written in between.
func FuzzDirectory(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "log")
	require.NoError(f, os.CopyFS(dir, os.DirFS(goldenDir)))
	s, err := migrationlog.Open(dir, nil) // creates the watermarks
	require.NoError(f, err)
	require.NoError(f, s.Close())
	golden := files(f, dir)
	f.Add([]byte{})
	f.Add(packed(0xFF))                                          // unchanged log
	f.Add(packed(0, 0, 20, 0, 1))                                // one bit of the manifest flipped
	f.Add(packed(1, 2, 0, 0, 0))                                 // the copy of the manifest empty
	f.Add(packed(2, 0, 200, 0, 4))                               // one bit of the first segment flipped
	f.Add(packed(3, 1, 100, 0, 255))                             // zeros in the second segment
	f.Add(packed(4, 2, 200, 0, 0))                               // the third segment cut
	f.Add(packed(4, 4, 200, 0, 50, 0, 0, 1, 7))                  // bytes inserted, and bits flipped
	f.Add(packed(2, 5, 1, 0, 250, 3, 90, 0, 40))                 // bytes duplicated, and bytes removed
	f.Add(append(packed(0xFF), 9, rawSource, 1, 'x'))            // a stray file that tidwall/wal would act on
	f.Add(append(packed(0xFF), 7, 3, 0, 19, 2, 0))               // segments with wrong names
	f.Add(append(packed(0xFF), 19, rawSource, 0))                // a segment named beyond the end of the log
	f.Add(packed(5, 0, 3, 0, 1))                                 // one bit of the watermark flipped
	f.Add(packed(6, 2, 0, 0, 0))                                 // the copy of the watermark empty
	f.Add([]byte{2, 2, 0, 3, 3, 0})                              // no manifest
	f.Add([]byte{0, 0, 0, 1, 1, 0})                              // no segment
	f.Add(append([]byte{0, 0, 0}, packed(2, 2, 0, 0, 0)[6:]...)) // the first segment empty, and only one manifest
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

// readOnly reads the log, if the directory has one.
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

// joined merges adjacent ranges. An opening may add evidence that splits one damaged range into
// two, while the lost numbers stay the same.
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
