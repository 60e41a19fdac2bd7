package segment_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// aboutMax lists numbers near MaxSeq. The value is true if the number is at most MaxSeq.
var aboutMax = map[uint64]bool{segment.MaxSeq - 1: true, segment.MaxSeq: true, segment.MaxSeq + 1: false, ^uint64(0): false}

// MaxSeq limits all numbers on the device. A higher number is rejected. Any other number reads back
// as it was written.
func TestMaxSeq(t *testing.T) {
	for seq, within := range aboutMax {
		first, ok := segment.ParseName(segment.Name(seq))
		require.Equal(t, within, ok, "the name of segment %d", seq)
		if ok {
			require.Equal(t, seq, first)
		}

		line := segment.AppendWatermark(nil, testLog, seq)
		got, damage, err := segment.ReadWatermark(fstest.MapFS{segment.WatermarkName: {Data: line}, segment.WatermarkCopyName: {Data: line}}, testLog)
		require.NoError(t, err)
		require.Equal(t, within, len(damage) == 0, "watermark %d: %v", seq, damage)
		if within {
			require.Equal(t, seq, got)
		} else {
			require.Contains(t, damage[0].Reason, fmt.Sprintf("the watermark is %d, above the highest possible number %d", seq, segment.MaxSeq))
		}

		m := segment.Manifest{UUID: testLog, Created: time.Unix(1795399697, 0).UTC(), Revision: 2, Skipped: []segment.SeqRange{{First: 5, Last: seq}}}
		decoded, err := segment.DecodeManifest(m.Encode())
		require.Equal(t, within, err == nil, "skipped up to %d: %v", seq, err)
		if within {
			require.Equal(t, m, decoded)
		}

		snapshot := segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: seq, Segment: 1}, Body: []byte("rows")}
		fsys := fstest.MapFS{segment.SnapshotDir + "/" + snapshot.Name(): {Data: snapshot.Encode(testLog)}}
		found, _ := segment.ReadSnapshots(fsys, testLog, true)
		require.Equal(t, within, len(found) == 1, "snapshot %d", seq)

		got = 0
		fsys = logOf(map[uint64][]byte{9: entry(segment.Header{Seq: seq}, "body")})
		for item, err := range segment.NewScan(fsys, dirOf(testLog), segment.ScanOptions{Locked: true}).Items() {
			require.NoError(t, err)
			if item.Damage == nil {
				got = item.Frame.Seq
			}
		}
		require.Equal(t, within, got == seq, "frame %d", seq)
	}
}

// A manifest with an empty or invalid skipped range is rejected.
func TestDecodeManifest_SkippedIsARange(t *testing.T) {
	m := segment.Manifest{UUID: testLog, Revision: 2}
	for r, ok := range map[segment.SeqRange]bool{{First: 1, Last: 1}: true, {First: 0, Last: 3}: false, {First: 3, Last: 2}: false, {}: false} {
		m.Skipped = []segment.SeqRange{r}
		_, err := segment.DecodeManifest(m.Encode())
		require.Equal(t, ok, err == nil, "%v", r)
	}
}

// No frame can follow the one with number MaxSeq. Bytes after it lose no frame, and the next number
// is MaxSeq+1.
func TestScan_AfterMaxSeq(t *testing.T) {
	last := slices.Concat(entries(1, 1), entry(segment.Header{Seq: segment.MaxSeq - 1}, "a"), entry(segment.Header{Seq: segment.MaxSeq}, "b"))
	for name, behind := range map[string][]byte{
		"nothing":          nil,
		"garbage":          []byte("garbage"),
		"more garbage":     slices.Concat(entry(segment.Header{Seq: segment.MaxSeq + 1}, "c"), entry(segment.Header{Seq: segment.MaxSeq + 2}, "d")),
		"copies of frames": slices.Concat(entries(1, 1), entries(1, 1)),
	} {
		s := segment.NewScan(logOf(map[uint64][]byte{1: slices.Concat(last, behind)}), dirOf(testLog), segment.ScanOptions{Locked: true})
		var frames []uint64
		lost := uint64(0)
		for item, err := range s.Items() {
			require.NoError(t, err)
			if item.Damage == nil {
				frames = append(frames, item.Frame.Seq)
				continue
			}
			require.LessOrEqual(t, item.Damage.LastSeq, segment.MaxSeq, name)
			lost += item.Damage.Lost()
		}
		require.Equal(t, []uint64{1, segment.MaxSeq - 1, segment.MaxSeq}, frames, name)
		require.Equal(t, segment.MaxSeq-3, lost, name)
		require.Equal(t, segment.MaxSeq+1, s.Tail().NextSeq, name)
	}
}
