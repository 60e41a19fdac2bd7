package segment_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

var testLog = uuid.MustParse("6f1d9f9e-40c1-4d5e-9a39-6f0b6a1c2d3e")

// entry returns a frame as tidwall/wal stores it, that is, after its length.
func entry(h segment.Header, body string) []byte {
	frame := segment.AppendFrame(nil, &testLog, h, segment.NewBody([]byte(body)))
	return append(binary.AppendUvarint(nil, uint64(len(frame))), frame...)
}

// entries returns frames with consecutive numbers. Each body has a different length.
func entries(first, last uint64) (b []byte) {
	for seq := first; seq <= last; seq++ {
		b = append(b, entry(segment.Header{Seq: seq, DurableThrough: seq - 1}, fmt.Sprintf("body of %0*d", seq, seq))...)
	}
	return b
}

// logOf returns a log directory with these segments. The keys are their first seqs.
func logOf(segments map[uint64][]byte) fstest.MapFS {
	manifest := segment.Manifest{UUID: testLog, Created: time.Unix(1795399697, 0).UTC()}.Encode()
	fsys := fstest.MapFS{
		segment.ManifestName:     {Data: manifest},
		segment.ManifestCopyName: {Data: manifest},
	}
	for first, b := range segments {
		fsys["wal/"+segment.Name(first)] = &fstest.MapFile{Data: b}
	}
	return fsys
}

func dirOf(log uuid.UUID) segment.Directory {
	return segment.Directory{Manifest: segment.Manifest{UUID: log}}
}

// found is the result of a scan in a comparable form.
type found struct {
	seqs   []uint64 // of intact frames
	damage []segment.Damage
	tail   segment.Tail
	inLast bool // the last segment has an intact frame
}

func scan(t testing.TB, fsys fstest.MapFS) (f found) {
	s := segment.NewScan(fsys, dirOf(testLog), segment.ScanOptions{})
	last := ""
	for item, err := range s.Items() {
		require.NoError(t, err)
		if item.Damage != nil {
			f.damage = append(f.damage, *item.Damage)
			continue
		}
		f.seqs = append(f.seqs, item.Frame.Seq)
		last = item.Frame.Segment
	}
	f.tail = s.Tail()
	f.inLast = last == f.tail.Segment
	return f
}

func seqs(ranges ...uint64) (all []uint64) {
	for i := 0; i < len(ranges); i += 2 {
		for seq := ranges[i]; seq <= ranges[i+1]; seq++ {
			all = append(all, seq)
		}
	}
	return all
}

// D2, D5: if any single bit of a log of two segments is flipped, at most the frame with that bit is
// lost. The report has its number, and nothing counts as torn.
func TestD2_EveryBitOfEverySegment(t *testing.T) {
	segments := map[uint64][]byte{1: entries(1, 4), 5: entries(5, 8)}
	flips, lostFlips := 0, 0
	for first, b := range segments {
		owner := make([]uint64, 0, len(b)) // which frame a byte belongs to
		for seq := first; len(owner) < len(b); seq++ {
			owner = append(owner, slices.Repeat([]uint64{seq}, len(entries(seq, seq)))...)
		}
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			got := scan(t, logOf(segments))
			b[bit/8] ^= 1 << (bit % 8)
			flips++

			require.Len(t, got.damage, 1, "segment %d bit %d", first, bit)
			require.False(t, got.damage[0].Torn)
			require.EqualValues(t, 9, got.tail.NextSeq)
			want := seqs(1, 8)
			if got.damage[0].Lost() > 0 {
				lostFlips++
				require.Equal(t, owner[bit/8], got.damage[0].FirstSeq, "segment %d bit %d", first, bit)
				require.EqualValues(t, 1, got.damage[0].Lost())
				want = slices.DeleteFunc(want, func(seq uint64) bool { return seq == owner[bit/8] })
			}
			require.Equal(t, want, got.seqs, "segment %d bit %d", first, bit)
		}
	}
	t.Logf("%d bits flipped, %d of them lost a frame", flips, lostFlips)
}

// D2: if a log is cut at any byte, all frames before the cut are found, and the rest of the next
// frame is a torn write.
func TestD2_EveryCut(t *testing.T) {
	whole := entries(1, 6)
	for size := range len(whole) + 1 {
		got := scan(t, logOf(map[uint64][]byte{1: whole[:size]}))
		n := uint64(0)
		for len(entries(1, n+1)) <= size && n < 6 {
			n++
		}
		require.Equal(t, seqs(1, n), got.seqs, "cut at %d", size)
		require.Equal(t, n+1, got.tail.NextSeq)
		onBoundary := len(entries(1, n)) == size
		require.Equal(t, !onBoundary, len(got.damage) == 1 && got.damage[0].Torn, "cut at %d", size)
		require.Equal(t, onBoundary, len(got.damage) == 0, "cut at %d", size)
		require.EqualValues(t, len(entries(1, n)), got.tail.Bytes)
	}
}

// D2, D5: if a write into zeroed space is cut, the device has written each sector completely or not
// at all. The entry is torn only if a complete sector of it is missing. Otherwise it is damaged.
func TestD2_EveryCutOfUnusedSpace(t *testing.T) {
	synctest.Test(t, everyCutOfUnusedSpace) // the scan waits until the tail stops changing
}

func everyCutOfUnusedSpace(t *testing.T) {
	const frames, sector = 60, 512
	whole := entries(1, frames)
	torn := 0
	for size := range len(whole) + 1 {
		data := make([]byte, len(whole)+4*sector)
		copy(data, whole[:size])
		got := scan(t, logOf(map[uint64][]byte{1: data}))
		n := uint64(frames) // number of intact frames
		for n > 0 && !bytes.HasPrefix(data, entries(1, n)) {
			n--
		}
		start, end := len(entries(1, n)), len(entries(1, min(n+1, frames)))
		written := len(bytes.TrimRight(data, "\x00"))
		require.Equal(t, seqs(1, n), got.seqs, "cut at %d", size)
		arrived := min((written+sector-1)/sector*sector, len(whole))
		switch {
		case written <= start:
			require.Empty(t, got.damage, "cut at %d", size)
		case arrived < end && !bytes.Equal(data[:arrived], whole[:arrived]): // within a sector: does not happen on a real device
			require.Len(t, got.damage, 1)
		case arrived < end:
			require.Len(t, got.damage, 1)
			require.True(t, got.damage[0].Torn, "cut at %d", size)
			require.EqualValues(t, start, got.damage[0].Offset)
			require.Zero(t, (got.damage[0].Offset+got.damage[0].Length)%sector)
			require.EqualValues(t, len(data)-start, got.tail.Beyond)
			require.Equal(t, n+1, got.tail.NextSeq)
			torn++
		default:
			require.Len(t, got.damage, 1)
			require.False(t, got.damage[0].Torn, "cut at %d", size)
			require.Equal(t, n+2, got.tail.NextSeq, "its number is not reused")
		}
	}
	require.Greater(t, torn, 10)
	t.Logf("%d cuts, %d of them torn", len(whole)+1, torn)
}

// growing is a log whose last segment is being written. Each time the segment is opened, it
// contains more of the final bytes.
type growing struct {
	fstest.MapFS
	whole []byte
	step  int
	shown int
	hole  [2]int // range that the first two reads of the complete segment show as zeros
	reads int
}

func (g *growing) Open(name string) (fs.File, error) {
	if name == "wal/"+segment.Name(1) {
		g.shown = min(g.shown+g.step, len(g.whole))
		data := bytes.Clone(g.whole[:g.shown])
		if g.shown == len(g.whole) && g.reads < 2 {
			g.reads++ // the read by survey, and the first full read
			clear(data[g.hole[0]:g.hole[1]])
		}
		g.MapFS[name] = &fstest.MapFile{Data: data}
	}
	return g.MapFS.Open(name)
}

func (g *growing) ReadFile(name string) ([]byte, error) {
	f, err := g.Open(name)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// D10: a write in progress is not mistaken for a torn write. The tail is reread until it stops
// changing.
func TestD10_TailThatIsBeingWritten(t *testing.T) {
	whole := entries(1, 6)
	frame := len(entries(1, 1))
	for _, g := range []*growing{
		{step: 7}, {step: 30}, {step: 55},
		{step: 1 << 20, hole: [2]int{2 * frame, 4 * frame}}, // these pages were copied before the write
		{step: 1 << 20, hole: [2]int{2*frame + 9, 3*frame + 9}},
		{step: 1 << 20, hole: [2]int{0, frame}},
	} {
		g.MapFS, g.whole = logOf(map[uint64][]byte{1: nil}), append(whole, make([]byte, 100)...)
		var got []uint64
		for item, err := range segment.NewScan(g, dirOf(testLog), segment.ScanOptions{}).Items() {
			require.NoError(t, err)
			require.Nil(t, item.Damage)
			got = append(got, item.Frame.Seq)
		}
		require.Equal(t, seqs(1, uint64(len(got))), got)
		require.NotEmpty(t, got)
	}
}

// listing is a log whose first directory listing lacks two segments: one from the middle, as if it
// was created during the listing, and the last one. Later listings are complete.
type listing struct {
	fstest.MapFS
	reads *int
}

func (l listing) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := l.MapFS.ReadDir(name)
	if *l.reads++; name == segment.WALDir && *l.reads == 1 {
		entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == segment.Name(5) || e.Name() == segment.Name(13) })
	}
	return entries, err
}

// D5, D10: a segment that is created while the directory is read does not count as missing.
func TestD10_SegmentsThatAreBeingMade(t *testing.T) {
	fsys := listing{logOf(map[uint64][]byte{1: entries(1, 4), 5: entries(5, 8), 9: entries(9, 12), 13: entries(13, 14)}), new(int)}
	var got []uint64
	for item, err := range segment.NewScan(fsys, dirOf(testLog), segment.ScanOptions{}).Items() {
		require.NoError(t, err)
		require.Nil(t, item.Damage)
		got = append(got, item.Frame.Seq)
	}
	require.Equal(t, seqs(1, 12), got)
}

// With From, a scan starts with the segment that contains that seq.
func TestScan_From(t *testing.T) {
	fsys := logOf(map[uint64][]byte{1: entries(1, 4), 5: entries(5, 8), 9: entries(9, 10)})
	fsys["wal/"+segment.Name(1)].Data[10] ^= 1 // this segment is not read
	for from, want := range map[uint64][]uint64{5: seqs(5, 10), 8: seqs(5, 10), 9: seqs(9, 10), 99: seqs(9, 10)} {
		var got []uint64
		for item, err := range segment.NewScan(fsys, dirOf(testLog), segment.ScanOptions{From: from}).Items() {
			require.NoError(t, err)
			require.Nil(t, item.Damage)
			got = append(got, item.Frame.Seq)
		}
		require.Equal(t, want, got, "from %d", from)
	}
}

// D2: if a segment begins with a misplaced earlier frame, a scan with From does not skip the
// segment before it.
func TestD2_FromPastAHeadOutOfPlace(t *testing.T) {
	third := entries(9, 12)
	copy(third, entries(3, 3))
	fsys := logOf(map[uint64][]byte{1: entries(1, 4), 5: entries(5, 8), 9: third})
	var got []uint64
	for item, err := range segment.NewScan(fsys, dirOf(testLog), segment.ScanOptions{From: 5}).Items() {
		require.NoError(t, err)
		if item.Damage == nil {
			got = append(got, item.Frame.Seq)
		}
	}
	require.Equal(t, seqs(5, 8, 10, 12), got)
}

// D3, D7: for any bytes in two segments, the scan ends, its frames are in order, no number is used
// twice, and Tail accounts for every byte of the last segment.
func FuzzScan(f *testing.F) {
	f.Add(entries(1, 3), entries(4, 6))
	f.Add(entries(1, 3)[:50], append(entries(4, 6), 0, 0, 0))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		got := scan(t, logOf(map[uint64][]byte{1: a, 4: b}))
		require.True(t, slices.IsSorted(got.seqs))
		next := uint64(1)
		for _, seq := range got.seqs {
			require.GreaterOrEqual(t, seq, next)
			next = seq + 1
		}
		require.GreaterOrEqual(t, got.tail.NextSeq, next)
		if !got.inLast { // otherwise the last segment was renamed, and Open refuses to write to the log
			require.GreaterOrEqual(t, got.tail.NextSeq, uint64(4))
		}
		require.EqualValues(t, len(b), got.tail.Bytes+got.tail.Beyond)
	})
}

// A frame reads back as it was written. With another log's UUID it is damage.
func FuzzFrame(f *testing.F) {
	f.Add(uint64(1), uint64(0), uint64(0), []byte("body"))
	f.Fuzz(func(t *testing.T, seq, prev, durable uint64, body []byte) {
		if seq == 0 || seq > segment.MaxSeq || len(body) > segment.MaxBodyBytes {
			return
		}
		h := segment.Header{Seq: seq, PrevSeq: prev % seq, DurableThrough: durable % seq}
		frame := segment.AppendFrame(nil, &testLog, h, segment.NewBody(body))
		b := append(binary.AppendUvarint(nil, uint64(len(frame))), frame...)
		fsys := logOf(map[uint64][]byte{seq: b})
		var got []segment.Frame
		for item, err := range segment.NewScan(fsys, dirOf(testLog), segment.ScanOptions{From: seq}).Items() {
			require.NoError(t, err)
			if item.Damage == nil {
				got = append(got, item.Frame)
			}
		}
		require.Len(t, got, 1)
		require.Equal(t, h, got[0].Header)
		require.True(t, slices.Equal(body, got[0].Body))
		for item, err := range segment.NewScan(fsys, dirOf(uuid.UUID{1}), segment.ScanOptions{From: seq}).Items() {
			require.NoError(t, err)
			require.NotNil(t, item.Damage)
		}
	})
}
