package segment_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// With CheckEnds, a scan with From does not skip a segment whose ends do not continue its neighbors. It
// reports the frames that are missing there.
func TestScan_CheckEnds(t *testing.T) {
	for text, tc := range map[string]struct {
		segments map[uint64][]byte
		unread   int
		lost     []segment.SeqRange
	}{
		"intact":                       {map[uint64][]byte{1: entries(1, 4), 5: entries(5, 8), 9: entries(9, 10)}, 2, nil},
		"the first segment is missing": {map[uint64][]byte{5: entries(5, 8), 9: entries(9, 10)}, 0, []segment.SeqRange{{First: 1, Last: 4}}},
		"a segment is missing":         {map[uint64][]byte{1: entries(1, 4), 9: entries(9, 10)}, 0, []segment.SeqRange{{First: 5, Last: 8}}},
		"a segment lost its end":       {map[uint64][]byte{1: entries(1, 4), 5: entries(5, 7), 9: entries(9, 10)}, 1, []segment.SeqRange{{First: 8, Last: 8}}},
		"a segment lost its start":     {map[uint64][]byte{1: entries(1, 4), 5: entries(6, 8), 9: entries(9, 10)}, 0, []segment.SeqRange{{First: 5, Last: 5}}},
		"bytes follow the last frame":  {map[uint64][]byte{1: entries(1, 4), 5: append(entries(5, 8), 'x'), 9: entries(9, 10)}, 1, []segment.SeqRange{{}}},
		"the ends are intact":          {map[uint64][]byte{1: append(entries(1, 1), entries(4, 4)...), 5: entries(5, 8), 9: entries(9, 10)}, 2, nil},
	} {
		s := segment.NewScan(logOf(tc.segments), dirOf(testLog), segment.ScanOptions{From: 9, CheckEnds: true})
		var lost []segment.SeqRange
		for item, err := range s.Items() {
			require.NoError(t, err)
			if item.Damage != nil {
				lost = append(lost, segment.SeqRange{First: item.Damage.FirstSeq, Last: item.Damage.LastSeq})
			}
		}
		require.Equal(t, tc.lost, lost, text)
		require.Equal(t, tc.unread, s.Unread(), text)
	}
}

// A scan with After yields the frames after that position, also of later segments. It returns an error
// if the segment is missing or shorter.
func TestScan_After(t *testing.T) {
	fsys := logOf(map[uint64][]byte{1: entries(1, 4), 5: entries(5, 8), 9: entries(9, 10)})
	after := segment.Position{Segment: segment.Name(5), Offset: int64(len(entries(5, 6))), NextSeq: 7}
	read := func() (got []uint64, err error) {
		for item, err := range segment.NewScan(fsys, dirOf(testLog), segment.ScanOptions{After: after}).Items() {
			if err != nil {
				return got, err
			}
			require.Nil(t, item.Damage)
			got = append(got, item.Frame.Seq)
		}
		return got, nil
	}
	got, err := read()
	require.NoError(t, err)
	require.Equal(t, seqs(7, 10), got)
	fsys["wal/"+segment.Name(5)].Data = entries(5, 5)
	_, err = read()
	require.ErrorContains(t, err, "became shorter")
	delete(fsys, "wal/"+segment.Name(5))
	_, err = read()
	require.ErrorContains(t, err, segment.Name(5))
}
