package segment

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Frame is an intact frame. The checksums of its header and body match.
type Frame struct {
	Header
	Body    []byte // shares memory with the segment: copy it to keep it longer than the segment
	Segment string // file name
	Offset  int64  // offset of the header in the segment

	segmentSeq   uint64 // the number in the segment's file name
	headerCRC32C uint32
}

// newFrame returns the intact frame whose header is at that offset of its segment.
func newFrame(h Header, frame []byte, offset int) Frame {
	return Frame{Header: h, Body: frame[HeaderBytes:], Offset: int64(offset), headerCRC32C: binary.LittleEndian.Uint32(frame[headerCRCOffset:])}
}

// ID returns the frame's identity.
func (f Frame) ID() FrameID {
	return FrameID{Seq: f.Seq, Segment: f.segmentSeq, HeaderCRC32C: f.headerCRC32C}
}

// Length returns the frame's size in bytes, including its header.
func (f Frame) Length() int64 { return HeaderBytes + int64(len(f.Body)) }

// Damage is a finding, which may be harmless: a range of bytes in a segment that belongs to no
// intact frame, or a gap without bytes, or a damaged or stray file.
type Damage struct {
	FirstSeq uint64 `json:"first_seq"` // first lost frame, or 0 if none is lost
	LastSeq  uint64 `json:"last_seq"`  // last lost frame, inclusive
	Segment  string `json:"segment"`   // file name of the segment; path of the file if it is not a segment
	Offset   int64  `json:"offset"`    // start of the damaged bytes
	Length   int64  `json:"length"`    // number of damaged bytes; 0 if frames are just missing
	Reason   string `json:"reason"`
	// Severity is the effect on the events of the log.
	Severity Severity `json:"severity"`
	// AfterMS and BeforeMS are the wall clocks, in Unix milliseconds, of the last intact event
	// before the damage and of the first one after it. 0 means that there is no such event or that
	// the events were not decoded. Only package replay decodes events. Clocks may go backwards: the
	// order of events comes from their numbers.
	AfterMS  uint64 `json:"after_ms,omitempty"`
	BeforeMS uint64 `json:"before_ms,omitempty"`
	// DurableThrough is the highest Header.DurableThrough of the intact headers in the bytes.
	DurableThrough uint64 `json:"-"`
	// Torn is true if the bytes are a torn write at the end of the log. FirstSeq is then the number
	// of the first incomplete frame.
	Torn bool `json:"torn,omitempty"`
}

// Lost returns the number of lost frames. It is 0 for a torn tail, because the write of that frame
// never completed.
func (d Damage) Lost() uint64 {
	if d.Torn || d.FirstSeq == 0 {
		return 0
	}
	return d.LastSeq - d.FirstSeq + 1
}

// InSegment reports whether the damage is in a segment or replaces one. Otherwise it is in another
// file, or in the directory.
func (d Damage) InSegment() bool {
	_, ok := ParseName(d.Segment)
	return ok
}

func (d Damage) String() string {
	text := strings.Trim(strconv.Quote(d.Segment), `"`) // a stray file may have any name
	if d.InSegment() {
		text += fmt.Sprintf(" at byte %d", d.Offset)
	}
	switch {
	case d.Length == 1:
		text += ", 1 byte"
	case d.Length > 1:
		text += fmt.Sprintf(", %d bytes", d.Length)
	}
	text += ": " + d.Reason
	switch {
	case d.Torn:
		text = "torn tail: " + text
	case d.Lost() > 1:
		text += fmt.Sprintf("; lost seq %d to %d", d.FirstSeq, d.LastSeq)
	case d.Lost() == 1:
		text += fmt.Sprintf("; lost seq %d", d.FirstSeq)
	case d.InSegment():
		text += "; no frame lost"
	}
	return text + d.times()
}

// times returns the wall clocks of the events before and after the damage, if they are known.
func (d Damage) times() string {
	switch {
	case d.AfterMS > d.BeforeMS && d.BeforeMS != 0: // a clock went back, or a repair continued the log
		return fmt.Sprintf("; after %s; the next event has an earlier clock, %s", clockText(d.AfterMS), clockText(d.BeforeMS))
	case d.AfterMS != 0 && d.BeforeMS != 0:
		after, before := clockText(d.AfterMS), clockText(d.BeforeMS)
		if date, _, _ := strings.Cut(before, " "); strings.HasPrefix(after, date) {
			after, before = strings.TrimSuffix(after, " UTC"), strings.TrimPrefix(before, date+" ")
		}
		return fmt.Sprintf("; between %s and %s", after, before)
	case d.AfterMS != 0:
		return "; after " + clockText(d.AfterMS)
	case d.BeforeMS != 0:
		return "; before " + clockText(d.BeforeMS)
	}
	return ""
}

// clockText formats a wall clock. After the year 9999 it returns the number of milliseconds.
func clockText(ms uint64) string {
	const year10000 = 253402300800000
	if ms >= year10000 {
		return fmt.Sprintf("%d ms", ms)
	}
	return time.UnixMilli(int64(ms)).UTC().Format("2006-01-02 15:04:05.000 UTC")
}

// Item is a frame, or damage if Damage is not nil.
type Item struct {
	Frame  Frame
	Damage *Damage
}

// Tail describes the end of a log.
type Tail struct {
	Segment string // file name of the last segment; "" if there are no segments
	NextSeq uint64 // the next free number
	Durable int64  // the segment was on the device up to this offset, according to the watermark
	Bytes   int64  // offset of the end of the last entry, intact or damaged
	Beyond  int64  // number of bytes after that: a torn write or zeros of unused space, or both
	Torn    int64  // number of bytes of Beyond that are a torn write
	Dirty   bool   // not a run of consecutive intact frames up to Bytes: do not append
}
