package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"time"

	"github.com/google/uuid"
)

// Frame is a whole frame: header and body are as they were written.
type Frame struct {
	Header
	Body    []byte // shares memory with its whole segment: copy it to keep it
	Segment string // file name
	Offset  int64  // of the frame's header in the segment
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

func (d Damage) String() string {
	at := fmt.Sprintf("%s at byte %d, %d bytes: %s", d.Segment, d.Offset, d.Length, d.Reason)
	switch {
	case d.Torn:
		return "torn tail: " + at
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
	Bytes   int64  // where the last entry, whole or damaged, ends in that segment
	Beyond  int64  // what follows there: a torn write, or zeros of unused space
	Torn    bool   // Beyond is not all zeros
	Dirty   bool   // there is damage before Bytes
}

// Scan reads a log from its first frame to its last, past any damage.
//
// Frames are found by their own headers. What tidwall/wal puts between them (a
// uvarint with the frame's length) is compared and not relied on, so that a
// damaged length costs nothing and a damaged frame only itself.
type Scan struct {
	fsys  fs.FS
	log   uuid.UUID
	from  uint64
	yield func(Item, error) bool

	expect uint64 // the seq that comes next
	tail   Tail
}

// NewScan returns a scan of the log in fsys whose UUID is log. Segments that
// end before the frame with number from are passed over unread; 0 is all.
func NewScan(fsys fs.FS, log uuid.UUID, from uint64) *Scan {
	return &Scan{fsys: fsys, log: log, from: from, expect: 1}
}

// Tail is where the log ends, once Items has been read to its end.
func (s *Scan) Tail() Tail { return s.tail }

// Items yields frames and damage in the order of their numbers. Damage is an
// item; an error is a failure to read, and ends the sequence. A segment is held
// in memory while it is read. The sequence may be used once, also beside a live
// writer: it then ends with the segments that were there when it began.
func (s *Scan) Items() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		s.yield = yield
		names, err := Names(s.fsys)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(Item{}, err)
			return
		}
		if len(names) == 0 {
			yield(Item{Damage: &Damage{Segment: WALDir, Reason: "not one segment is there"}}, nil)
			return
		}
		for i, name := range names {
			first, _ := ParseName(name)
			end, last := uint64(maxSeq+1), i+1 == len(names)
			if !last {
				end, _ = ParseName(names[i+1])
			}
			if end <= s.from {
				s.expect = end
				continue
			}
			if !s.segment(name, first, end, last) {
				return
			}
		}
		s.tail.NextSeq = s.expect
	}
}

// segment reads one segment, whose frames are numbered from first to below end.
func (s *Scan) segment(name string, first, end uint64, last bool) bool {
	if s.expect < first && !s.lose(Damage{Segment: name, Reason: "the segments before this one are missing"}, first) {
		return false
	}
	s.tail = Tail{Segment: name}
	data, err := s.read(name)
	if err != nil {
		return s.fail(err)
	}
	pos, ok := s.frames(name, data, 0, end)
	if !ok {
		return false
	}
	if !last {
		return s.endSegment(name, data, pos, end)
	}
	for !allZero(data[pos:]) { // it may be a write in progress: read again until it rests
		time.Sleep(restTime)
		again, err := s.read(name)
		if err != nil {
			return s.fail(err)
		}
		if bytes.Equal(again, data) {
			break
		}
		if len(again) < pos {
			return s.fail(fmt.Errorf("segment %s became shorter while it was read: a repair is under way, try again", name))
		}
		data = again
		if pos, ok = s.frames(name, data, pos, end); !ok {
			return false
		}
	}
	return s.endLog(name, data, pos)
}

// restTime is how long a tail has to stay the same to be taken for torn. A
// write in progress takes microseconds to become visible.
const restTime = 2 * time.Millisecond

// frames yields the whole frames from pos on, with the damage between them,
// and returns the position behind the last.
func (s *Scan) frames(name string, data []byte, pos int, end uint64) (int, bool) {
	for {
		f, start, found := s.find(data, pos, end)
		if !found {
			return pos, true
		}
		if start > pos || f.Seq > s.expect {
			s.tail.Dirty = true
			d := Damage{Segment: name, Offset: int64(pos), Length: int64(start - pos), Reason: s.reason(data[pos:start], f.Seq)}
			if !s.lose(d, f.Seq) {
				return pos, false
			}
		}
		f.Segment = name
		s.expect = f.Seq + 1
		pos = int(f.Offset + f.Length())
		if !s.yield(Item{Frame: f}, nil) {
			return pos, false
		}
	}
}

// find returns the next whole frame at or after pos whose number is due, and
// where its entry starts: at its length prefix, if that is sound.
func (s *Scan) find(data []byte, pos int, end uint64) (f Frame, start int, found bool) {
	for at := pos; ; at++ {
		skip := bytes.Index(data[at:], magic[:])
		if skip < 0 {
			return Frame{}, 0, false
		}
		at += skip
		h, bodyBytes, ok := parseHeader(data[at:], s.log)
		if !ok || h.Seq < s.expect || h.Seq >= end ||
			len(data)-at < HeaderBytes+bodyBytes || !bodyIntact(data[at:], bodyBytes) {
			continue
		}
		f = Frame{Header: h, Body: data[at+HeaderBytes : at+HeaderBytes+bodyBytes], Offset: int64(at)}
		start = at
		if prefix := binary.AppendUvarint(nil, uint64(f.Length())); bytes.HasSuffix(data[pos:at], prefix) {
			start -= len(prefix)
		}
		return f, start, true
	}
}

// endSegment reports what is left of a segment that another follows, which
// begins with the number end.
func (s *Scan) endSegment(name string, data []byte, pos int, end uint64) bool {
	rest := data[pos:]
	if allZero(rest) && s.expect == end {
		return true
	}
	return s.lose(Damage{Segment: name, Offset: int64(pos), Length: int64(len(rest)), Reason: s.reason(rest, end)}, end)
}

// endLog reports what is left of the last segment. Entries that are there in
// their full length were written whole and are damaged; what is shorter than it
// says was torn in the writing; zeros are space not used yet.
func (s *Scan) endLog(name string, data []byte, pos int) bool {
	entries, rest := pos, s.expect
	for n := s.entry(data[entries:]); n > 0; n = s.entry(data[entries:]) {
		entries += n
		rest++
	}
	s.tail.Bytes = int64(entries)
	s.tail.Beyond = int64(len(data) - entries)
	s.tail.Torn = !allZero(data[entries:])
	if entries > pos {
		s.tail.Dirty = true
		d := Damage{Segment: name, Offset: int64(pos), Length: int64(entries - pos), Reason: s.reason(data[pos:entries], rest)}
		if !s.lose(d, rest) {
			return false
		}
	}
	if !s.tail.Torn {
		return true
	}
	return s.yield(Item{Damage: &Damage{
		Segment: name, Offset: s.tail.Bytes, Length: s.tail.Beyond, FirstSeq: s.expect, LastSeq: s.expect,
		Torn: true, Reason: "the last write is not whole",
	}}, nil)
}

// entry returns the length of the damaged entry at the start of b, with its
// prefix, or 0 where b holds no entry in its full length. A sound header is
// believed before the prefix is.
func (s *Scan) entry(b []byte) int {
	for k := 1; k <= maxPrefixBytes && k < len(b); k++ {
		if _, bodyBytes, ok := parseHeader(b[k:], s.log); ok {
			if n := k + HeaderBytes + bodyBytes; n <= len(b) {
				return n
			}
			return 0
		}
	}
	length, k := binary.Uvarint(b)
	if k <= 0 || length < HeaderBytes || length > HeaderBytes+MaxBodyBytes || uint64(len(b)-k) < length {
		return 0
	}
	return k + int(length)
}

// maxPrefixBytes is the length of the longest prefix, a uvarint of HeaderBytes+MaxBodyBytes.
const maxPrefixBytes = 3

// reason says what is wrong with the bytes that stand where the frames from
// s.expect to before next should be.
func (s *Scan) reason(b []byte, next uint64) string {
	if len(b) == 0 {
		return "frames missing"
	}
	if allZero(b) {
		return "overwritten with zeros"
	}
	for k := 0; k <= maxPrefixBytes && k < len(b); k++ {
		h, _, ok := parseHeader(b[k:], s.log)
		switch {
		case ok && h.Seq >= s.expect && h.Seq < next:
			return "body does not match its CRC32C"
		case ok:
			return fmt.Sprintf("a frame out of its place, seq %d", h.Seq)
		}
	}
	if next == s.expect {
		return "damaged length prefix or stray bytes"
	}
	return "header does not match its CRC32C"
}

// lose yields damage that ends where the frame numbered next begins.
func (s *Scan) lose(d Damage, next uint64) bool {
	if s.expect < next {
		d.FirstSeq, d.LastSeq = s.expect, next-1
	}
	s.expect = next
	return s.yield(Item{Damage: &d}, nil)
}

func (s *Scan) read(name string) ([]byte, error) {
	return fs.ReadFile(s.fsys, path.Join(WALDir, name))
}

func (s *Scan) fail(err error) bool {
	s.yield(Item{}, err)
	return false
}

func allZero(b []byte) bool {
	return len(bytes.TrimLeft(b, "\x00")) == 0
}
