package eventlog

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

func segmentSizes(t testing.TB, dir string) (sizes map[string]int64) {
	sizes = map[string]int64{}
	list, err := segment.Names(os.DirFS(dir))
	require.NoError(t, err)
	for _, name := range list {
		info, err := os.Stat(filepath.Join(dir, segment.WALDir, name))
		require.NoError(t, err)
		sizes[name] = info.Size()
	}
	return sizes
}

// The log appends to a segment until it is full, and the last entry may exceed the limit. The next
// segment is named after its first frame. A full segment has no zeros after its entries.
func TestRotation(t *testing.T) {
	entry := int64(bodyBytes)
	for name, tc := range map[string]struct {
		segmentBytes int
		batches      []int // the number of entries in each batch
		want         map[string]int64
	}{
		"one entry fills it": {1, []int{1, 1, 1}, map[string]int64{segment.Name(1): entry, segment.Name(2): entry, segment.Name(3): entry}},
		"not full":           {3*bodyBytes + 1, []int{1, 1, 1}, map[string]int64{segment.Name(1): 3 * entry}},
		"just full":          {3 * bodyBytes, []int{1, 1, 1}, map[string]int64{segment.Name(1): 3 * entry}},
		"full":               {3 * bodyBytes, []int{1, 1, 1, 1}, map[string]int64{segment.Name(1): 3 * entry, segment.Name(4): entry}},
		"beyond":             {3*bodyBytes - 1, []int{1, 1, 1, 1}, map[string]int64{segment.Name(1): 3 * entry, segment.Name(4): entry}},
		"a batch over several": {3*bodyBytes - 1, []int{2, 8}, map[string]int64{
			segment.Name(1): 3 * entry, segment.Name(4): 3 * entry, segment.Name(7): 3 * entry, segment.Name(10): entry,
		}},
		"a batch that continues after a full segment": {3 * bodyBytes, []int{4}, map[string]int64{segment.Name(1): 3 * entry, segment.Name(4): entry}},
		"a batch that ends with the segment":          {3 * bodyBytes, []int{3, 3}, map[string]int64{segment.Name(1): 3 * entry, segment.Name(4): 3 * entry}},
		"the usual size":                              {0, []int{100, 100}, map[string]int64{segment.Name(1): 200 * entry}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(memDir(t), "log")
			log := openLog(t, dir, Options{SegmentSize: tc.segmentBytes})
			total := uint64(0)
			for _, n := range tc.batches {
				bodies := make([][]byte, n)
				for i := range bodies {
					bodies[i] = body
				}
				require.NoError(t, write(log, bodies...))
				total += uint64(n)
				require.Equal(t, total+1, log.NextSeq())
				require.Equal(t, total, log.DurableThrough())
				require.Equal(t, total, log.Last().Seq)
				list, err := segment.Names(os.DirFS(dir))
				require.NoError(t, err)
				require.Equal(t, segment.Name(log.Last().Segment), list[len(list)-1])
			}
			require.NoError(t, log.Close())
			require.Equal(t, tc.want, segmentSizes(t, dir))
			r := begin(t, dir, Options{})
			frames, damage := items(t, r)
			require.Empty(t, damage)
			require.EqualValues(t, total, len(frames))
			for i, f := range frames {
				require.EqualValues(t, i+1, f.Seq)
				require.Equal(t, body, f.Body)
			}
			require.Equal(t, log.Last(), frames[total-1].ID())
			require.NoError(t, r.Abandon())
		})
	}
}

// The space after the last entry is preallocated in steps of 256 KiB up to the limit of the
// segment. Only an entry may exceed the limit. Closing the log cuts the unused space off.
func TestPreallocation(t *testing.T) {
	const step = 256 << 10
	large := make([]byte, segment.MaxBodyBytes)
	entry := int64(segment.NewBody(large).FrameBytes() + 3)
	for name, tc := range map[string]struct {
		segmentBytes int
		entries      int
		want         int64
	}{
		"nothing yet":                         {0, 0, 0},
		"one entry":                           {0, 1, step},
		"as many as fit into a step":          {0, 3, step},
		"one more":                            {0, 4, 2 * step},
		"a segment that is less than a step":  {100_000, 1, 100_000},
		"an entry that exceeds it":            {100_000, 2, 2 * entry},
		"a segment that is less than entries": {1, 1, entry},
	} {
		dir := filepath.Join(memDir(t), "log")
		log := openLog(t, dir, Options{SegmentSize: tc.segmentBytes})
		for range tc.entries {
			require.NoError(t, write(log, large))
		}
		require.Equal(t, map[string]int64{segment.Name(1): tc.want}, segmentSizes(t, dir), name)
		b := read(t, segmentPath(dir, 1))
		require.Empty(t, bytes.TrimLeft(b[int64(tc.entries)*entry:], "\x00"), name)
		require.NoError(t, log.Close())
		require.Equal(t, map[string]int64{segment.Name(1): int64(tc.entries) * entry}, segmentSizes(t, dir), name)
	}
}

// The remaining space of a segment is its limit less its entries. Preallocated space does not
// count.
func TestRemainingSpace(t *testing.T) {
	log := beginLog(t, filepath.Join(memDir(t), "log"), Options{SegmentSize: 2*bodyBytes + 1})
	for _, want := range []int{2*bodyBytes + 1, bodyBytes + 1, 1, 1 - bodyBytes, bodyBytes + 1} {
		require.EqualValues(t, want, log.tail.remaining())
		require.NoError(t, write(log, body))
	}
	list, err := segment.Names(os.DirFS(log.dir))
	require.NoError(t, err)
	require.Equal(t, []string{segment.Name(1), segment.Name(4)}, list)
}

// A reopened log continues in its last segment if that is at most a sixteenth full. Otherwise it
// starts a new one.
func TestReopening_ReusesSegment(t *testing.T) {
	for name, tc := range map[string]struct {
		segmentBytes int
		want         []string
	}{
		"a sixteenth":           {16 * bodyBytes, []string{segment.Name(1)}},
		"a byte more":           {16*bodyBytes - 1, []string{segment.Name(1), segment.Name(2)}},
		"full":                  {bodyBytes, []string{segment.Name(1), segment.Name(2)}},
		"fuller than the limit": {1, []string{segment.Name(1), segment.Name(2)}},
		"of the usual size":     {0, []string{segment.Name(1)}},
	} {
		opts := Options{SegmentSize: tc.segmentBytes}
		dir := closedLog(t, 1, opts)
		log := openLog(t, dir, opts)
		require.NoError(t, write(log, body))
		require.NoError(t, log.Close())
		list, err := segment.Names(os.DirFS(dir))
		require.NoError(t, err)
		require.Equal(t, tc.want, list, name)
	}
	dir := closedLog(t, 0, Options{SegmentSize: 1})
	for range 3 {
		require.NoError(t, openLog(t, dir, Options{SegmentSize: 1}).Close())
	}
	require.Equal(t, map[string]int64{segment.Name(1): 0}, segmentSizes(t, dir), "a log does not replace an empty segment")
}

// If the file of the next segment is already there, the write fails, and so does every later one.
// The file does not change.
func TestRotation_NameTaken(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := beginLog(t, dir, Options{SegmentSize: 1})
	require.NoError(t, write(log, body))
	put(t, []byte("another's"), segmentPath(dir, 2))
	require.ErrorIs(t, write(log, body), ErrFailed)
	require.ErrorIs(t, write(log, body), ErrFailed)
	require.Equal(t, "another's", string(read(t, segmentPath(dir, 2))))
	require.ErrorIs(t, log.Close(), ErrFailed)
	require.Equal(t, "another's", string(read(t, segmentPath(dir, 2))))
}

// A body that is too large for a frame fails the log before anything is written.
func TestWrite_TooLarge(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := beginLog(t, dir, Options{})
	require.NoError(t, write(log, make([]byte, segment.MaxBodyBytes)), "the largest")
	before := tree(t, dir)
	require.ErrorIs(t, write(log, make([]byte, segment.MaxBodyBytes+1)), ErrFailed)
	require.Equal(t, before, tree(t, dir))
	require.EqualValues(t, 2, log.NextSeq())
}
