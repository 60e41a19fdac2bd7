package segment_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// damageCase is a log and the expected result of its scan.
type damageCase struct {
	segments map[uint64][]byte // by first seq
	seqs     []uint64          // of the intact frames
	damage   []segment.Damage
	nextSeq  uint64
}

// D2, D5: only frames that overlap the damage are lost, and the report has their numbers.
func TestD2_Damage(t *testing.T) {
	for _, table := range []map[string]damageCase{
		undamagedLogs(), damagedInPlace(), damagedBySize(), damagedAtTheEnd(), misplacedFrames(), damagedSegments(),
	} {
		for name, tc := range table {
			t.Run(name, func(t *testing.T) {
				got := scan(t, logOf(tc.segments))
				require.Equal(t, tc.seqs, got.seqs)
				require.Equal(t, tc.damage, got.damage)
				require.Equal(t, tc.nextSeq, got.tail.NextSeq)
			})
		}
	}
}

// startOf returns the offset of an entry in entries(1, …).
func startOf(seq uint64) int { return len(entries(1, seq-1)) }

// with returns a copy of b to which change was applied.
func with(b []byte, change func([]byte)) []byte {
	b = slices.Clone(b)
	change(b)
	return b
}

// undamagedLogs returns logs without damage. Some of them lack their last frames or segments.
func undamagedLogs() map[string]damageCase {
	one := entries(1, 5)
	return map[string]damageCase{
		"clean":           {map[uint64][]byte{1: one, 6: entries(6, 8), 9: {}}, seqs(1, 8), nil, 9},
		"one empty":       {map[uint64][]byte{1: {}}, nil, nil, 1},
		"unused space":    {map[uint64][]byte{1: append(slices.Clone(one), make([]byte, 4096)...)}, seqs(1, 5), nil, 6},
		"cut on boundary": {map[uint64][]byte{1: entries(1, 3)}, seqs(1, 3), nil, 4},
		"empty segment with too low a name": {
			map[uint64][]byte{1: one, 3: {}}, seqs(1, 5), nil, 6,
		},
	}
}

// damagedInPlace returns logs in which some bytes were overwritten.
func damagedInPlace() map[string]damageCase {
	one, name1, at := entries(1, 5), segment.Name(1), startOf
	return map[string]damageCase{
		"length prefix": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(3)] ^= 0x40 })}, seqs(1, 5),
			[]segment.Damage{{Segment: name1, Offset: int64(at(3)), Length: 1, Reason: "damaged length prefix or stray bytes", Severity: segment.EndangersEvents}}, 6,
		},
		"body": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(3)-1] ^= 1 })}, seqs(1, 1, 3, 5),
			[]segment.Damage{{FirstSeq: 2, LastSeq: 2, Segment: name1, Offset: int64(at(2)), Length: int64(at(3) - at(2)), DurableThrough: 1, Reason: "body does not match its CRC32C"}}, 6,
		},
		"header": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(2)+20] ^= 1 })}, seqs(1, 1, 3, 5),
			[]segment.Damage{{FirstSeq: 2, LastSeq: 2, Segment: name1, Offset: int64(at(2)), Length: int64(at(3) - at(2)), Reason: "header does not match its CRC32C"}}, 6,
		},
		"two adjacent headers": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(2)+20] ^= 1; b[at(3)+20] ^= 1 })}, seqs(1, 1, 4, 5),
			[]segment.Damage{{FirstSeq: 2, LastSeq: 3, Segment: name1, Offset: int64(at(2)), Length: int64(at(4) - at(2)), Reason: "header does not match its CRC32C"}}, 6,
		},
		"last frame's body": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[len(b)-1] ^= 1 })}, seqs(1, 4),
			[]segment.Damage{{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: int64(at(6) - at(5)), DurableThrough: 4, Reason: "body does not match its CRC32C"}}, 6,
		},
		"last frame's header": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(5)+3] ^= 1 })}, seqs(1, 4),
			[]segment.Damage{{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: int64(at(6) - at(5)), Reason: "header does not match its CRC32C"}}, 6,
		},
		"last frame's prefix and header": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(5)] ^= 0x40; b[at(5)+20] ^= 1 })}, seqs(1, 4),
			[]segment.Damage{{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: int64(at(6) - at(5)), Reason: "header does not match its CRC32C"}}, 6,
		},
		"last frame's header damaged, and its length prefix too small": {
			map[uint64][]byte{1: with(entries(1, 1), func(b []byte) { b[0]--; b[20] ^= 1 })}, nil,
			[]segment.Damage{{FirstSeq: 1, LastSeq: 1, Segment: name1, Length: int64(len(entries(1, 1))), Reason: "header does not match its CRC32C"}}, 2,
		},
		"zeros in the middle": {
			map[uint64][]byte{1: with(one, func(b []byte) { clear(b[at(2):at(4)]) })}, seqs(1, 1, 4, 5),
			[]segment.Damage{{FirstSeq: 2, LastSeq: 3, Segment: name1, Offset: int64(at(2)), Length: int64(at(4) - at(2)), Reason: "overwritten with zeros"}}, 6,
		},
		"intact header after a damaged one": {
			map[uint64][]byte{1: with(one, func(b []byte) { copy(b[at(4):], "overwritten"); b[len(b)-1] ^= 1 })}, seqs(1, 3),
			[]segment.Damage{{FirstSeq: 4, LastSeq: 5, Segment: name1, Offset: int64(at(4)), Length: int64(at(6) - at(4)), DurableThrough: 4, Reason: "header does not match its CRC32C"}}, 6,
		},
		"length prefix extends over two more frames": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(3)] = byte(at(5) - at(3) - 1); b[at(3)+20] ^= 1; b[at(5)-1] ^= 1; b[at(6)-1] ^= 1 })}, seqs(1, 2),
			[]segment.Damage{{FirstSeq: 3, LastSeq: 5, Segment: name1, Offset: int64(at(3)), Length: int64(at(6) - at(3)), DurableThrough: 4, Reason: "header does not match its CRC32C"}}, 6,
		},
		"length prefix extends into an intact header": {
			map[uint64][]byte{1: with(one, func(b []byte) { b[at(4)] = byte(len(b) - at(4) - 3); b[at(4)+20] ^= 1; b[len(b)-1] ^= 1 })}, seqs(1, 3),
			[]segment.Damage{{FirstSeq: 4, LastSeq: 5, Segment: name1, Offset: int64(at(4)), Length: int64(at(6) - at(4)), DurableThrough: 4, Reason: "header does not match its CRC32C"}}, 6,
		},
	}
}

// damagedBySize returns logs with inserted or removed bytes between intact frames.
func damagedBySize() map[string]damageCase {
	one, name1, at := entries(1, 5), segment.Name(1), startOf
	return map[string]damageCase{
		"bytes inserted": {
			map[uint64][]byte{1: slices.Insert(slices.Clone(one), at(3), []byte("stray")...)}, seqs(1, 5),
			[]segment.Damage{{Segment: name1, Offset: int64(at(3)), Length: 5, Reason: "damaged length prefix or stray bytes", Severity: segment.EndangersEvents}}, 6,
		},
		"frame removed": {
			map[uint64][]byte{1: slices.Delete(slices.Clone(one), at(3), at(4))}, seqs(1, 2, 4, 5),
			[]segment.Damage{{FirstSeq: 3, LastSeq: 3, Segment: name1, Offset: int64(at(3)), Reason: "frames missing"}}, 6,
		},
		"length prefix removed": {
			map[uint64][]byte{1: slices.Delete(slices.Clone(one), at(4), at(4)+1)}, seqs(1, 5),
			[]segment.Damage{{Segment: name1, Offset: int64(at(4)), Reason: "length prefix missing", Severity: segment.EndangersEvents}}, 6,
		},
	}
}

// damagedAtTheEnd returns logs that end with a torn write or with bytes that their writer did not
// write.
func damagedAtTheEnd() map[string]damageCase {
	one, name1, at := entries(1, 5), segment.Name(1), startOf
	foreign := segment.AppendFrame(nil, &uuid.UUID{9}, segment.Header{Seq: 6}, segment.NewBody([]byte("of another log")))
	return map[string]damageCase{
		"torn": {
			map[uint64][]byte{1: one[:at(6)-3]}, seqs(1, 4),
			[]segment.Damage{{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: int64(at(6) - at(5) - 3), DurableThrough: 4, Torn: true, Reason: "the last write is not whole", Severity: segment.Harmless}}, 5,
		},
		"damage, then torn": {
			map[uint64][]byte{1: with(one[:at(6)-3], func(b []byte) { b[at(4)+20] ^= 1 })}, seqs(1, 3),
			[]segment.Damage{
				{FirstSeq: 4, LastSeq: 4, Segment: name1, Offset: int64(at(4)), Length: int64(at(5) - at(4)), Reason: "header does not match its CRC32C"},
				{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: int64(at(6) - at(5) - 3), DurableThrough: 4, Torn: true, Reason: "the last write is not whole", Severity: segment.Harmless},
			}, 5,
		},
		"intact header after a damaged one, body cut": {
			map[uint64][]byte{1: with(one[:at(6)-3], func(b []byte) { clear(b[at(4) : at(4)+45]) })}, seqs(1, 3),
			[]segment.Damage{{FirstSeq: 4, LastSeq: 5, Segment: name1, Offset: int64(at(4)), Length: int64(at(6) - 3 - at(4)), DurableThrough: 4, Reason: "header does not match its CRC32C"}}, 6,
		},
		"garbage at the end": {
			map[uint64][]byte{1: append(slices.Clone(one), "not an entry"...)}, seqs(1, 5),
			[]segment.Damage{{FirstSeq: 6, LastSeq: 6, Segment: name1, Offset: int64(at(6)), Length: 12, Reason: "header does not match its CRC32C"}}, 7,
		},
		"frame of another log": {
			map[uint64][]byte{1: append(append(slices.Clone(one), byte(len(foreign))), foreign...)}, seqs(1, 5),
			[]segment.Damage{{FirstSeq: 6, LastSeq: 6, Segment: name1, Offset: int64(at(6)), Length: int64(len(foreign) + 1), Reason: "header does not match its CRC32C"}}, 7,
		},
		"copy of an earlier frame at the end": {
			map[uint64][]byte{1: append(slices.Clone(one), entries(2, 2)...)}, seqs(1, 5),
			[]segment.Damage{{FirstSeq: 6, LastSeq: 6, Segment: name1, Offset: int64(at(6)), Length: int64(len(entries(2, 2))), DurableThrough: 1, Reason: "misplaced frame, seq 2"}}, 7,
		},
	}
}

// misplacedFrames returns logs in which the device wrote intact frames to wrong places.
func misplacedFrames() map[string]damageCase {
	one, name1, name6, name9, at := entries(1, 5), segment.Name(1), segment.Name(6), segment.Name(9), startOf
	return map[string]damageCase{
		"two frames swapped": {
			map[uint64][]byte{1: slices.Concat(entries(1, 1), entries(4, 4), entries(3, 3), entries(2, 2), entries(5, 5))}, seqs(1, 5),
			[]segment.Damage{
				{Segment: name1, Offset: int64(len(entries(1, 1)) + len(entries(4, 4))), Length: int64(len(entries(3, 3))), Reason: "misplaced frame, seq 3", Severity: segment.EndangersEvents},
				{Segment: name1, Offset: int64(len(entries(1, 1))), Length: int64(len(entries(4, 4))), Reason: "misplaced frame, seq 4", Severity: segment.EndangersEvents},
			}, 6,
		},
		"frames swapped, and the one between them damaged": {
			map[uint64][]byte{1: slices.Concat(entries(1, 1), entries(4, 4), with(entries(3, 3), func(b []byte) { b[len(b)-1] ^= 1 }), entries(2, 2), entries(5, 5))},
			seqs(1, 2, 4, 5),
			[]segment.Damage{
				{Segment: name1, Offset: int64(len(entries(1, 1)) + len(entries(4, 4))), Length: int64(len(entries(3, 3))), DurableThrough: 2, Reason: "misplaced frame, seq 3", Severity: segment.EndangersEvents},
				{FirstSeq: 3, LastSeq: 3, Segment: name1, Offset: int64(len(entries(1, 1))), Reason: "frames missing"},
				{Segment: name1, Offset: int64(len(entries(1, 1))), Length: int64(len(entries(4, 4))), Reason: "misplaced frame, seq 4", Severity: segment.EndangersEvents},
			}, 6,
		},
		"copy of a later frame over an earlier one": {
			map[uint64][]byte{1: with(one, func(b []byte) { copy(b[at(2):], slices.Clone(b[at(5):at(6)])) })}, seqs(1, 1, 4, 5),
			[]segment.Damage{{FirstSeq: 2, LastSeq: 3, Segment: name1, Offset: int64(at(2)), Length: int64(at(4) - at(2)), DurableThrough: 4, Reason: "misplaced frame, seq 5"}}, 6,
		},
		"last segment contains only copies": {
			map[uint64][]byte{1: one, 6: entries(2, 3)}, seqs(1, 5),
			[]segment.Damage{{FirstSeq: 6, LastSeq: 7, Segment: name6, Length: int64(len(entries(2, 3))), DurableThrough: 2, Reason: "misplaced frame, seq 2"}}, 8,
		},
		"last segment begins with a copy": {
			map[uint64][]byte{1: one, 6: entries(6, 8), 9: append(entries(2, 2), entries(9, 9)[:20]...)}, seqs(1, 8),
			[]segment.Damage{
				{FirstSeq: 9, LastSeq: 9, Segment: name9, Length: int64(len(entries(2, 2))), DurableThrough: 1, Reason: "misplaced frame, seq 2"},
				{FirstSeq: 10, LastSeq: 10, Segment: name9, Offset: int64(len(entries(2, 2))), Length: 20, Torn: true, Reason: "the last write is not whole", Severity: segment.Harmless},
			}, 10,
		},
		"renamed to a lower number": {
			map[uint64][]byte{1: one, 6: entries(6, 8), 4: entries(9, 9)}, seqs(1, 8),
			[]segment.Damage{
				{Segment: segment.Name(4), Length: int64(len(entries(9, 9))), DurableThrough: 8, Reason: "misplaced frame, seq 9", Severity: segment.EndangersEvents},
				{FirstSeq: 9, LastSeq: 9, Segment: name6, Offset: int64(len(entries(6, 8))), Reason: missing(9)},
			}, 10,
		},
	}
}

// damagedSegments returns logs in which a segment is cut, empty, missing, or duplicated.
func damagedSegments() map[string]damageCase {
	one, name1, name6, name9, at := entries(1, 5), segment.Name(1), segment.Name(6), segment.Name(9), startOf
	return map[string]damageCase{
		"sealed segment cut": {
			map[uint64][]byte{1: one[:at(5)+2], 6: entries(6, 8)}, seqs(1, 4, 6, 8),
			[]segment.Damage{{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: 2, Reason: "cut short: the segment ends within a frame"}}, 9,
		},
		"sealed segment cut within a body": {
			map[uint64][]byte{1: one[:at(6)-1], 6: entries(6, 8)}, seqs(1, 4, 6, 8),
			[]segment.Damage{{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: int64(at(6) - 1 - at(5)), DurableThrough: 4, Reason: "cut short: the segment ends within a frame"}}, 9,
		},
		"sealed segment cut within a length prefix": {
			map[uint64][]byte{1: append(entries(1, 4), 0x80), 6: entries(6, 8)}, seqs(1, 4, 6, 8),
			[]segment.Damage{{FirstSeq: 5, LastSeq: 5, Segment: name1, Offset: int64(at(5)), Length: 1, Reason: "cut short: the segment ends within a frame"}}, 9,
		},
		"sealed segment empty": {
			map[uint64][]byte{1: one, 6: {}, 9: entries(9, 9)}, seqs(1, 5, 9, 9),
			[]segment.Damage{{FirstSeq: 6, LastSeq: 8, Segment: name6, Reason: "cut short: the segment is empty"}}, 10,
		},
		"last frame damaged, and the next segment missing": {
			map[uint64][]byte{1: one[:len(one)-1], 9: entries(9, 9)}, seqs(1, 4, 9, 9),
			[]segment.Damage{{
				FirstSeq: 5, LastSeq: 8, Segment: name1, Offset: int64(at(5)), Length: int64(len(one) - 1 - at(5)), DurableThrough: 4,
				Reason: "cut short: the segment ends within a frame, and a segment after this one may be missing (its name is at least 00000000000000000006 and at most 00000000000000000008)",
			}}, 10,
		},
		"middle segment missing": {
			map[uint64][]byte{1: one, 9: entries(9, 9)}, seqs(1, 5, 9, 9),
			[]segment.Damage{{FirstSeq: 6, LastSeq: 8, Segment: name1, Offset: int64(at(6)), Reason: missing(6)}}, 10,
		},
		"first segment missing": {
			map[uint64][]byte{9: entries(9, 9)}, seqs(9, 9),
			[]segment.Damage{{FirstSeq: 1, LastSeq: 8, Segment: name9, Reason: "frames missing: segment 00000000000000000001 is missing"}}, 10,
		},
		"segment duplicated": {
			map[uint64][]byte{1: one, 6: one, 9: entries(9, 9)}, seqs(1, 5, 9, 9),
			[]segment.Damage{{FirstSeq: 6, LastSeq: 8, Segment: name6, Length: int64(len(one)), DurableThrough: 4, Reason: "misplaced frame, seq 1"}}, 10,
		},
		"last segment renamed to a higher number": {
			map[uint64][]byte{1: one, 9: entries(6, 7)}, seqs(1, 7),
			[]segment.Damage{{Segment: "wal/" + name9, Reason: beyondEnd(8), Severity: segment.EndangersEvents}}, 8,
		},
		"only segment renamed to a higher number": {
			map[uint64][]byte{100: one}, seqs(1, 5),
			[]segment.Damage{{Segment: "wal/" + segment.Name(100), Reason: beyondEnd(6), Severity: segment.EndangersEvents}}, 6,
		},
		"no segment": {nil, nil, []segment.Damage{{Segment: "wal", Reason: "no segment files", Severity: segment.EndangersEvents}}, 0},
	}
}

// missing is the reason if the frames from first on are missing after the last frame of a segment.
func missing(first uint64) string {
	return "frames missing: segment " + segment.Name(first) + " is missing, or this one was cut short between two frames"
}

// beyondEnd is the reason if the last segment has a higher name than next, the next free number.
func beyondEnd(next uint64) string {
	return fmt.Sprintf("its name is beyond the end of the log, which continues with seq %d: rename the segment to the seq of its first frame", next)
}
