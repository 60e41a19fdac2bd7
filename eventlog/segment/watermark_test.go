package segment_test

import (
	"bytes"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// D5: if one watermark file has a flipped bit or is cut, the other one's number is used, and the
// damage report has the file's name.
func TestD5_WatermarkEveryBitAndCut(t *testing.T) {
	whole := segment.AppendWatermark(nil, testLog, 42)
	read := func(name string, b []byte) (uint64, []segment.Damage) {
		fsys := fstest.MapFS{segment.WatermarkName: {Data: whole}, segment.WatermarkCopyName: {Data: whole}}
		fsys[name] = &fstest.MapFile{Data: b}
		seq, damage, err := segment.ReadWatermark(fsys, testLog)
		require.NoError(t, err)
		return seq, damage
	}
	for _, name := range segment.WatermarkNames {
		seq, damage := read(name, whole)
		require.EqualValues(t, 42, seq)
		require.Empty(t, damage)
		seq, damage = read(name, segment.AppendWatermark(nil, testLog, 41))
		require.EqualValues(t, 41, seq, "the lower number is used")
		require.Empty(t, damage)

		bad := [][]byte{append(bytes.Clone(whole), 0), make([]byte, len(whole)), segment.AppendWatermark(nil, uuid.UUID{9}, 7)}
		for bit := range len(whole) * 8 {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			bad = append(bad, b)
		}
		for size := range len(whole) {
			bad = append(bad, whole[:size])
		}
		for _, b := range bad {
			seq, damage := read(name, b)
			require.EqualValues(t, 42, seq, "%q", b)
			require.Len(t, damage, 1, "%q", b)
			require.Equal(t, name, damage[0].Segment)
		}
	}
	seq, damage, err := segment.ReadWatermark(fstest.MapFS{}, testLog)
	require.NoError(t, err)
	require.Zero(t, seq)
	require.Len(t, damage, 2)
	require.Equal(t, "missing; it is unknown whether frames are missing at the end of the log", damage[0].Reason)
}

// D3, D5: missing frames up to the watermark are lost, whatever bytes are in their place.
func TestD3_ShorterThanTheWatermark(t *testing.T) {
	one := entries(1, 5)
	at := func(seq uint64) int { return len(entries(1, seq-1)) }
	for name, tc := range map[string]struct {
		segments    map[uint64][]byte
		first, last uint64 // lost
		torn        bool
	}{
		"all there":        {map[uint64][]byte{1: entries(1, 6)}, 0, 0, false},
		"more":             {map[uint64][]byte{1: entries(1, 8)}, 0, 0, false},
		"torn after it":    {map[uint64][]byte{1: entries(1, 7)[:len(entries(1, 7))-1]}, 0, 0, true},
		"on a boundary":    {map[uint64][]byte{1: one[:at(4)]}, 4, 6, false},
		"within a frame":   {map[uint64][]byte{1: one[:at(4)+20]}, 4, 6, false},
		"within its last":  {map[uint64][]byte{1: entries(1, 6)[:len(entries(1, 6))-1]}, 6, 6, false},
		"zeros":            {map[uint64][]byte{1: append(bytes.Clone(one[:at(4)]), make([]byte, 99)...)}, 4, 6, false},
		"garbage":          {map[uint64][]byte{1: append(bytes.Clone(one[:at(4)]), "garbage"...)}, 4, 6, false},
		"nothing":          {map[uint64][]byte{1: nil}, 1, 6, false},
		"no tail segment":  {map[uint64][]byte{1: entries(1, 3)}, 4, 6, false},
		"an empty one":     {map[uint64][]byte{1: entries(1, 3), 4: nil}, 4, 6, false},
		"an empty one far": {map[uint64][]byte{1: entries(1, 3), 5: nil}, 4, 6, false},
	} {
		fsys := logOf(tc.segments)
		dir := dirOf(testLog)
		dir.Watermark = 6
		s := segment.NewScan(fsys, dir, segment.ScanOptions{Locked: true})
		var lost []segment.SeqRange
		for item, err := range s.Items() {
			require.NoError(t, err)
			if d := item.Damage; d != nil && d.Lost() > 0 {
				lost = append(lost, segment.SeqRange{First: d.FirstSeq, Last: d.LastSeq})
			}
		}
		require.Equal(t, tc.torn, s.Tail().Torn > 0, name)
		require.EqualValues(t, len(fsys["wal/"+s.Tail().Segment].Data), s.Tail().Bytes+s.Tail().Beyond, name)
		if tc.first == 0 {
			require.Empty(t, lost, name)
			continue
		}
		require.EqualValues(t, 7, s.Tail().NextSeq, name)
		require.True(t, s.Tail().Dirty, name)
		require.Equal(t, tc.first, lost[0].First, name)
		require.EqualValues(t, 6, lost[len(lost)-1].Last, name)
		require.EqualValues(t, 6, s.Losses().Acknowledged()[len(lost)-1].Last, name)
		require.Empty(t, s.Losses().UnknownIfAcknowledged(), name)
	}
}

// D5: lost numbers up to the watermark count as acknowledged, except the numbers that Open skipped.
// Above the watermark it is unknown. Those numbers are reported only once.
func TestD5_Losses(t *testing.T) {
	type ranges = []segment.SeqRange
	dir := segment.Directory{Watermark: 20, Manifest: segment.Manifest{Skipped: ranges{{5, 6}, {9, 9}, {30, 31}}}}
	for _, tc := range []struct {
		lost                  segment.SeqRange
		acknowledged, unknown ranges
	}{
		{segment.SeqRange{1, 2}, ranges{{1, 2}}, nil},
		{segment.SeqRange{5, 6}, nil, nil},
		{segment.SeqRange{4, 10}, ranges{{4, 4}, {7, 8}, {10, 10}}, nil},
		{segment.SeqRange{6, 7}, ranges{{7, 7}}, nil},
		{segment.SeqRange{19, 22}, ranges{{19, 20}}, ranges{{21, 22}}},
		{segment.SeqRange{29, 31}, nil, ranges{{29, 29}}},
		{segment.SeqRange{40, 41}, nil, ranges{{40, 41}}},
	} {
		l := dir.Losses()
		l.AddLost(tc.lost)
		require.Equal(t, tc.acknowledged, l.Acknowledged(), "%v", tc.lost)
		require.Equal(t, tc.unknown, l.UnknownIfAcknowledged(), "%v", tc.lost)
		l.RaiseDurable(41)
		require.Empty(t, l.UnknownIfAcknowledged(), "%v", tc.lost)
	}
	m := segment.Manifest{UUID: testLog, Created: time.Unix(1795399697, 0).UTC(), Revision: 3, Skipped: ranges{{5, 6}}}
	m = m.Skip(ranges{{9, 12}, {7, 8}, {20, 20}})
	require.Equal(t, ranges{{5, 12}, {20, 20}}, m.Skipped)
	got, err := segment.DecodeManifest(m.Encode())
	require.NoError(t, err)
	require.Equal(t, m, got)

	for first := uint64(100); first < 100_000; first += 2 {
		m.Skipped = append(m.Skipped, segment.SeqRange{First: first, Last: first})
	}
	last := segment.SeqRange{First: 200_000, Last: 200_000}
	m = m.Skip(ranges{last})
	require.Less(t, len(m.Encode()), 1<<20, "it can be read again")
	require.EqualValues(t, 5, m.Skipped[0].First)
	require.Equal(t, last, m.Skipped[len(m.Skipped)-1])
}

// D5, D7: if the two manifests have different revisions, the newer one is used. This is no damage,
// because Open may have been interrupted between the two writes.
func TestD7_ManifestOfTwoRevisions(t *testing.T) {
	older := segment.Manifest{UUID: testLog, Created: time.Unix(1795399697, 0).UTC(), Revision: 1}
	newer := older.Skip([]segment.SeqRange{{First: 2, Last: 3}})
	for _, pair := range [][2]segment.Manifest{{older, newer}, {newer, older}} {
		fsys := logOf(map[uint64][]byte{1: entries(1, 1)})
		fsys[segment.ManifestName] = &fstest.MapFile{Data: pair[0].Encode()}
		fsys[segment.ManifestCopyName] = &fstest.MapFile{Data: pair[1].Encode()}
		m, damage, err := segment.ReadManifest(fsys)
		require.NoError(t, err)
		require.Empty(t, damage)
		require.Equal(t, newer, m)
	}
}
