package segment_test

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

const versionOffset = 3 // offset of the format version in a frame

// inVersion returns the entry with that format version. The header's CRC32C covers the version.
func inVersion(entry []byte, version byte) []byte {
	b := slices.Clone(entry)
	_, prefix := binary.Uvarint(b)
	frame := b[prefix:]
	frame[versionOffset] = version
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Checksum(frame[:36], table), table, testLog[:])
	binary.LittleEndian.PutUint32(frame[36:], crc)
	return b
}

// scanAll returns the numbers of the frames that a scan yields, its damage, and its error.
func scanAll(fsys fstest.MapFS, opts segment.ScanOptions) (seqs []uint64, damage []segment.Damage, err error) {
	for item, err := range segment.NewScan(fsys, dirOf(testLog), opts).Items() {
		switch {
		case err != nil:
			return seqs, damage, err
		case item.Damage != nil:
			damage = append(damage, *item.Damage)
		default:
			seqs = append(seqs, item.Frame.Seq)
		}
	}
	return seqs, damage, nil
}

// D2: if a bit in a frame's version byte is flipped, only that frame is lost. The log does not
// count as one of a newer version.
func TestD2_EveryBitOfEveryVersionByte(t *testing.T) {
	segments := map[uint64][]byte{1: entries(1, 4), 5: entries(5, 8)}
	for seq := uint64(1); seq <= 8; seq++ {
		first := (seq-1)/4*4 + 1
		at := len(entries(first, seq-1)) + 1 + versionOffset // after a prefix of one byte
		for bit := range 8 {
			segments[first][at] ^= 1 << bit
			got, damage, err := scanAll(logOf(segments), segment.ScanOptions{Locked: true})
			segments[first][at] ^= 1 << bit
			require.NoError(t, err, "seq %d bit %d", seq, bit)
			require.Equal(t, slices.Concat(seqs(1, seq-1), seqs(seq+1, 8)), got, "bit %d", bit)
			require.Len(t, damage, 1)
			require.Equal(t, seq, damage[0].FirstSeq)
			require.EqualValues(t, 1, damage[0].Lost())
		}
	}
}

// A frame of a newer version ends the scan with ErrNewerFormat, wherever it is and whatever is
// around it. The frames before it are yielded.
func TestScan_NewerFormat(t *testing.T) {
	newer := func(seq uint64) []byte { return inVersion(entries(seq, seq), 2) }
	flipped := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	inside := flipped(entry(segment.Header{Seq: 3}, "a damaged body with a newer frame in it: "+string(newer(3))+" and more"))
	for name, tc := range map[string]struct {
		segments map[uint64][]byte
		seqs     []uint64
	}{
		"the only frame":              {map[uint64][]byte{1: newer(1)}, nil},
		"the first":                   {map[uint64][]byte{1: slices.Concat(newer(1), entries(2, 5))}, nil},
		"a middle one":                {map[uint64][]byte{1: slices.Concat(entries(1, 2), newer(3), entries(4, 5))}, seqs(1, 2)},
		"the last":                    {map[uint64][]byte{1: slices.Concat(entries(1, 4), newer(5))}, seqs(1, 4)},
		"the last, and unused space":  {map[uint64][]byte{1: slices.Concat(entries(1, 4), newer(5), make([]byte, 999))}, seqs(1, 4)},
		"the last, cut":               {map[uint64][]byte{1: slices.Concat(entries(1, 4), newer(5)[:1+segment.HeaderBytes])}, seqs(1, 4)},
		"the first of the next":       {map[uint64][]byte{1: entries(1, 4), 5: newer(5)}, seqs(1, 4)},
		"the first of a sealed one":   {map[uint64][]byte{1: entries(1, 4), 5: newer(5), 6: entries(6, 7)}, seqs(1, 4)},
		"the last of a sealed one":    {map[uint64][]byte{1: slices.Concat(entries(1, 3), newer(4)), 5: entries(5, 6)}, seqs(1, 3)},
		"misplaced":                   {map[uint64][]byte{1: entries(1, 4), 5: slices.Concat(entries(5, 6), newer(2))}, seqs(1, 6)},
		"after damage":                {map[uint64][]byte{1: slices.Concat(entries(1, 2), flipped(entries(3, 3)), newer(4))}, seqs(1, 2)},
		"before damage":               {map[uint64][]byte{1: slices.Concat(entries(1, 2), newer(3), flipped(entries(4, 4)))}, seqs(1, 2)},
		"among stray bytes":           {map[uint64][]byte{1: slices.Concat(entries(1, 2), []byte("stray"), newer(3), []byte("stray"))}, seqs(1, 2)},
		"in the body of a lost frame": {map[uint64][]byte{1: slices.Concat(entries(1, 2), inside)}, seqs(1, 2)},
		"after damage and frames":     {map[uint64][]byte{1: slices.Concat(entries(1, 1), flipped(entries(2, 2)), entries(3, 4), newer(5))}, slices.Concat(seqs(1, 1), seqs(3, 4))},
		"of a version far ahead":      {map[uint64][]byte{1: slices.Concat(entries(1, 1), inVersion(entries(2, 2), 255))}, seqs(1, 1)},
	} {
		for _, locked := range []bool{true, false} {
			got, _, err := scanAll(logOf(tc.segments), segment.ScanOptions{Locked: locked})
			require.ErrorIs(t, err, segment.ErrNewerFormat, name)
			require.Equal(t, tc.seqs, got, name)
		}
	}
	fsys := logOf(map[uint64][]byte{1: slices.Concat(entries(1, 2), newer(3))})
	_, _, err := scanAll(fsys, segment.ScanOptions{Scope: segment.ScanTail})
	require.ErrorContains(t, err, "segment 00000000000000000001, byte 102: the frame with seq 3 has format version 2, but this program reads only version 1")
	next, intact := segment.Walk(fsys["wal/"+segment.Name(1)].Data, testLog, 1, func(segment.Header, []byte) {})
	require.False(t, intact)
	require.EqualValues(t, 3, next)
}

// A frame is of a newer version only if its version is above FormatVersion and its header's CRC32C
// matches. Otherwise the frame is damaged. A newer frame of another log also counts as damage.
func TestScan_VersionsThatAreNotNewer(t *testing.T) {
	foreign := inVersion(entries(3, 3), 2)
	copy(foreign[37:], "\x01\x02\x03\x04")
	for name, third := range map[string][]byte{
		"version 0":            inVersion(entries(3, 3), 0),
		"2 with another CRC32": foreign,
	} {
		fsys := logOf(map[uint64][]byte{1: slices.Concat(entries(1, 2), third, entries(4, 5))})
		got, damage, err := scanAll(fsys, segment.ScanOptions{Locked: true})
		require.NoError(t, err, name)
		require.Equal(t, []uint64{1, 2, 4, 5}, got, name)
		require.Len(t, damage, 1, name)
		require.EqualValues(t, 3, damage[0].FirstSeq, name)
	}
	whole := entry(segment.Header{Seq: 3}, string(inVersion(entries(3, 3), 2)))
	got, damage, err := scanAll(logOf(map[uint64][]byte{1: slices.Concat(entries(1, 2), []byte{1}, whole)}), segment.ScanOptions{Locked: true})
	require.NoError(t, err, "the body of an intact frame is not searched")
	require.Equal(t, seqs(1, 3), got)
	require.Len(t, damage, 1, "the stray byte before it")
}

// If a newer program is writing to the log, a reader yields the frames before the first newer one,
// and no damage.
func TestScan_BesideANewerWriter(t *testing.T) {
	whole := slices.Concat(entries(1, 3), inVersion(entries(4, 4), 2), make([]byte, 100))
	for _, step := range []int{7, 30, 1 << 20} {
		g := &growing{MapFS: logOf(map[uint64][]byte{1: nil}), whole: whole, step: step}
		var got []uint64
		var failure error
		for item, err := range segment.NewScan(g, dirOf(testLog), segment.ScanOptions{}).Items() {
			if failure = err; err == nil {
				require.Nil(t, item.Damage, "step %d", step)
				got = append(got, item.Frame.Seq)
			}
		}
		require.ErrorIs(t, failure, segment.ErrNewerFormat, "step %d", step)
		require.Equal(t, seqs(1, 3), got, "step %d", step)
	}
}
