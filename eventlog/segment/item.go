package segment

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Frame is a whole frame: header and body are as they were written.
type Frame struct {
	Header
	Body    []byte // shares memory with its whole segment: copy it to keep it
	Segment string // file name
	Offset  int64  // of the frame's header in the segment

	segmentSeq   uint64 // the number that the segment is named by
	headerCRC32C uint32
}

// newFrame returns a whole frame, which lies at that offset.
func newFrame(h Header, frame []byte, offset int) Frame {
	return Frame{Header: h, Body: frame[HeaderBytes:], Offset: int64(offset), headerCRC32C: binary.LittleEndian.Uint32(frame[36:])}
}

// ID is the frame's.
func (f Frame) ID() FrameID {
	return FrameID{Seq: f.Seq, Segment: f.segmentSeq, HeaderCRC32C: f.headerCRC32C}
}

// Length is the frame's size in bytes, header and body.
func (f Frame) Length() int64 { return HeaderBytes + int64(len(f.Body)) }

// Damage is a place in a log where frames should be and are not whole.
type Damage struct {
	FirstSeq uint64 `json:"first_seq"` // the frames lost, inclusive; 0 and 0 when none is
	LastSeq  uint64 `json:"last_seq"`
	Segment  string `json:"segment"` // file name; for damage outside the segments, that file's path
	Offset   int64  `json:"offset"`  // the bytes that belong to no whole frame
	Length   int64  `json:"length"`  // may be 0, where frames are missing
	Reason   string `json:"reason"`
	// DurableThrough is the highest that a sound header among the bytes says: see
	// Header.
	DurableThrough uint64 `json:"-"`
	// Torn says that this is the last write, cut short. FirstSeq is the number that
	// its first frame not whole would have had.
	Torn bool `json:"torn,omitempty"`
}

// Lost is the number of frames that the damage cost. A torn tail costs none:
// it never was a frame.
func (d Damage) Lost() uint64 {
	if d.Torn || d.FirstSeq == 0 {
		return 0
	}
	return d.LastSeq - d.FirstSeq + 1
}

// OfSnapshot reports whether it is a snapshot that is damaged: the log is as good
// without it.
func (d Damage) OfSnapshot() bool { return strings.HasPrefix(d.Segment, SnapshotDir) }

func (d Damage) String() string {
	name := strings.Trim(strconv.Quote(d.Segment), `"`) // a stray file may have any name
	at := fmt.Sprintf("%s at byte %d, %d bytes: %s", name, d.Offset, d.Length, d.Reason)
	switch {
	case d.Torn:
		return "torn tail: " + at
	case d.Lost() == 0 && len(name) != nameDigits: // another file
		return at
	case d.Lost() == 0:
		return at + "; no frame lost"
	case d.Lost() == 1:
		return fmt.Sprintf("%s; lost seq %d", at, d.FirstSeq)
	}
	return fmt.Sprintf("%s; lost seq %d to %d", at, d.FirstSeq, d.LastSeq)
}

// Item is one thing found in a log: a frame, or, where Damage is set, damage.
type Item struct {
	Frame  Frame
	Damage *Damage
}

// Tail says where a log ends.
type Tail struct {
	Segment string // the last segment's file name; "" in a log without segments
	NextSeq uint64 // the number that no frame has had yet
	Durable int64  // up to where the watermark says that the segment was on the device
	Bytes   int64  // where the last entry, whole or damaged, ends
	Beyond  int64  // what follows there: a torn write, or zeros of unused space
	Torn    int64  // how much of that is a torn write; the zeros after it are space not used yet
	Dirty   bool   // up to Bytes it is not, from its name to NextSeq, one whole frame after another
}
