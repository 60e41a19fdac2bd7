package summary

import (
	"encoding/binary"
	"slices"

	"migrationlog/checkpoint"
)

// Frame is one frame of a segment.
type Frame struct {
	Migration    int              // index in Migrations
	Kind         checkpoint.Kind  // 0 if this version did not know the kind when the summary was built
	Phase        checkpoint.Phase // of a checkpoint, otherwise 0
	Retried      bool             // a checkpoint with an attempt above 0
	WallMS       uint64           // of the event, Unix milliseconds
	HeaderCRC32C uint32           // in the frame's header
}

// Frames has the frames of a segment. One of them can be read without the others.
//
// The section has the widths of a migration's index and of a time (1 byte each), and then these columns
// with an integer for each frame: a byte of the kind, the phase and whether the attempt is above 0; the
// index of the migration; the time since the earliest one of its block; and the header's CRC32C. A
// block has blockFrames frames. The earliest times of the blocks (8 bytes each) are before the times.
type Frames struct {
	firstSeq uint64
	codes    []byte
	indexes  column
	earliest column // of each block
	times    column
	crc32cs  []byte
}

// blockFrames is the number of frames in a block. Events of one block are close in time, so their
// times take 1 or 2 bytes instead of 3 or 4.
const blockFrames = 128

// A code has the phase in bits 0 to 2, Retried in bit 3, and the kind in bits 4 to 7.
const (
	codePhase   = 1<<3 - 1
	codeRetried = 1 << 3
	codeKind    = 4
	maxCodeKind = 1<<4 - 1
)

// Len returns the number of frames.
func (f Frames) Len() int { return len(f.codes) }

// At returns the frame with that sequence number. It returns false if the number is not in the
// segment.
func (f Frames) At(seq uint64) (Frame, bool) {
	if seq < f.firstSeq || seq-f.firstSeq >= uint64(len(f.codes)) {
		return Frame{}, false
	}
	i := int(seq - f.firstSeq)
	code := f.codes[i]
	return Frame{
		Migration: int(f.indexes.at(i)), WallMS: f.earliest.at(i/blockFrames) + f.times.at(i),
		Kind: checkpoint.Kind(code >> codeKind), Phase: checkpoint.Phase(code & codePhase), Retried: code&codeRetried != 0,
		HeaderCRC32C: binary.LittleEndian.Uint32(f.crc32cs[4*i:]),
	}, true
}

// MigrationAt returns the index in Migrations of the frame with that sequence number, which must be in
// the segment.
func (f Frames) MigrationAt(seq uint64) int { return int(f.indexes.at(int(seq - f.firstSeq))) }

// migrations returns the lowest number of migrations with which all indexes are valid.
func (f Frames) migrations() int {
	highest := 0
	for i := range f.codes {
		highest = max(highest, int(f.indexes.at(i)))
	}
	return highest + 1
}

func decodeFrames(b []byte, firstSeq, lastSeq uint64) (Frames, bool) {
	if lastSeq-firstSeq >= uint64(len(b)) {
		return Frames{}, false
	}
	n, c := int(lastSeq-firstSeq)+1, cursor{b: b}
	indexWidth, timeWidth := c.width(), c.width()
	f := Frames{firstSeq: firstSeq}
	f.codes = c.bytes(n)
	f.indexes = c.column(n, indexWidth)
	f.earliest = c.column((n+blockFrames-1)/blockFrames, 8)
	f.times = c.column(n, timeWidth)
	f.crc32cs = c.bytes(4 * n)
	return f, c.done()
}

// frame is a frame while the summary is built.
type frame struct {
	wallMS       uint64
	migration    uint32
	headerCRC32C uint32
	code         byte
}

func appendFrames(b []byte, frames []frame, migrations int) []byte {
	var earliest []uint64
	longest := uint64(0)
	for block := range slices.Chunk(frames, blockFrames) {
		first, last := block[0].wallMS, block[0].wallMS
		for _, f := range block {
			first, last = min(first, f.wallMS), max(last, f.wallMS)
		}
		earliest, longest = append(earliest, first), max(longest, last-first)
	}
	indexWidth, timeWidth := widthOf(uint64(migrations-1)), widthOf(longest)
	b = slices.Grow(b, 2+8*len(earliest)+len(frames)*(1+indexWidth+timeWidth+4))
	b = append(b, byte(indexWidth), byte(timeWidth))
	for _, f := range frames {
		b = append(b, f.code)
	}
	for _, f := range frames {
		b = appendUint(b, uint64(f.migration), indexWidth)
	}
	for _, ms := range earliest {
		b = binary.LittleEndian.AppendUint64(b, ms)
	}
	for i, f := range frames {
		b = appendUint(b, f.wallMS-earliest[i/blockFrames], timeWidth)
	}
	for _, f := range frames {
		b = binary.LittleEndian.AppendUint32(b, f.headerCRC32C)
	}
	return b
}
