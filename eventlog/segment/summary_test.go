package segment_test

import (
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// exampleSummary has sections of different lengths, one of them empty.
func exampleSummary() segment.Summary {
	return segment.Summary{
		SummaryHead: segment.SummaryHead{FirstSeq: 7, LastSeq: 9, SizeBytes: 300, LastOffset: 201, LastHeaderCRC32C: 0x12345678, NextHeaderCRC32C: 0x9abcdef0},
		Sections:    [segment.SummarySections][]byte{[]byte("totals"), []byte("filter"), nil, []byte("migrations"), []byte("frames")},
	}
}

// readSummary returns the whole summary in a file of that name, or false if it is not intact.
func readSummary(content []byte, name string, log uuid.UUID) (s segment.Summary, ok bool) {
	fsys := fstest.MapFS{segment.SummaryDir + "/" + name: {Data: content}}
	f, ok := segment.OpenSummary(fsys, name, log)
	if !ok {
		return s, false
	}
	s.SummaryHead = f.SummaryHead
	for i := range s.Sections {
		if s.Sections[i], ok = f.Section(i); !ok {
			return s, false
		}
	}
	return s, true
}

// A summary is read as it was written. Every flipped bit, every other length, another log and another
// name are noticed.
func TestSummary_EveryBitAndLength(t *testing.T) {
	log := uuid.UUID{1, 2, 3}
	want := exampleSummary()
	content := want.Encode(log)
	got, ok := readSummary(content, want.Name(), log)
	require.True(t, ok)
	require.Equal(t, want.SummaryHead, got.SummaryHead)
	for i := range want.Sections {
		require.Equal(t, string(want.Sections[i]), string(got.Sections[i]))
	}
	for bit := range 8 * len(content) {
		content[bit/8] ^= 1 << (bit % 8)
		_, ok := readSummary(content, want.Name(), log)
		require.False(t, ok, "bit %d", bit)
		content[bit/8] ^= 1 << (bit % 8)
	}
	for size := range len(content) {
		_, ok := readSummary(content[:size], want.Name(), log)
		require.False(t, ok, "%d bytes", size)
	}
	_, ok = readSummary(append(content, 0), want.Name(), log)
	require.False(t, ok, "a byte too many")
	_, ok = readSummary(content, want.Name(), uuid.UUID{1, 2, 4})
	require.False(t, ok, "another log")
	_, ok = readSummary(content, segment.Name(8), log)
	require.False(t, ok, "another segment")
}

// A damaged section does not keep a reader from the others.
func TestSummary_SectionsAreCheckedSeparately(t *testing.T) {
	log, s := uuid.UUID{1}, exampleSummary()
	s.Sections[segment.SummarySections-1] = make([]byte, 100_000) // beyond the first read
	content := s.Encode(log)
	content[len(content)-1] ^= 1
	fsys := fstest.MapFS{segment.SummaryDir + "/" + s.Name(): {Data: content}}
	f, ok := segment.OpenSummary(fsys, s.Name(), log)
	require.True(t, ok)
	_, ok = f.Section(segment.SummarySections - 1)
	require.False(t, ok)
	totals, ok := f.Section(0)
	require.True(t, ok)
	require.Equal(t, "totals", string(totals))
}

// A summary matches its segment as long as that has the same size and the same last frame.
func TestSummary_Matches(t *testing.T) {
	log := uuid.UUID{5}
	var data []byte
	var head segment.SummaryHead
	for seq := uint64(1); seq <= 3; seq++ {
		frame := segment.AppendFrame(nil, &log, segment.Header{Seq: seq}, segment.NewBody([]byte("body")))
		data = append(data, byte(len(frame)))
		head = segment.SummaryHead{
			FirstSeq: 1, LastSeq: seq, LastOffset: int64(len(data)), SizeBytes: int64(len(data) + len(frame)),
			LastHeaderCRC32C: segment.FrameIDOf(frame, 1).HeaderCRC32C,
		}
		data = append(data, frame...)
	}
	matches := func(data []byte) bool {
		ok, err := head.Matches(fstest.MapFS{segment.WALDir + "/" + segment.Name(1): {Data: data}}, log)
		require.NoError(t, err)
		return ok
	}
	require.True(t, matches(data))
	require.False(t, matches(data[:len(data)-1]))
	require.False(t, matches(append(data, 0)))
	for bit := range 8 * segment.HeaderBytes {
		data[head.LastOffset+int64(bit/8)] ^= 1 << (bit % 8)
		require.False(t, matches(data), "bit %d of the last header", bit)
		data[head.LastOffset+int64(bit/8)] ^= 1 << (bit % 8)
	}
	ok, err := head.Matches(fstest.MapFS{}, log)
	require.NoError(t, err)
	require.False(t, ok, "no segment")
	head.LastHeaderCRC32C++
	require.False(t, matches(data), "another frame with the same number")
}
