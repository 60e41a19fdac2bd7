package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"path"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Scan reads a log from its first frame to its last, past any damage.
//
// Frames are found by their own headers. What tidwall/wal puts between them (a
// uvarint with the frame's length) is compared and not relied on, so that a
// damaged length costs nothing and a damaged frame only itself.
type Scan struct {
	fsys  fs.FS
	dir   Directory
	log   uuid.UUID
	opts  ScanOptions
	yield func(Item, error) bool

	losses Losses
	expect uint64 // the seq that comes next
	end    uint64 // the first seq of the segments after this one; no frame of theirs is expected here
	count  uint64 // of whole frames in this segment
	named  uint64 // the highest seq that any sound header names so far
	sealed uint64 // that of the segments before the last
	tail   Tail

	tornThrough uint64 // durable through, in the header of a torn write
}

// Scope is the part of a log that a scan reads.
type Scope bool

const (
	ScanAll  Scope = false
	ScanTail Scope = true // the last segment only; its name gives the number of its first frame
)

// ScanOptions are the choices of who scans. The zero value reads all of a log
// that a writer may have open.
type ScanOptions struct {
	From   uint64 // segments that end before the frame with this number are passed over unread
	Scope  Scope
	Locked bool // no writer has the log open: its end is no write in progress
}

// NewScan returns a scan of the log in fsys, whose directory holds dir.
func NewScan(fsys fs.FS, dir Directory, opts ScanOptions) *Scan {
	return &Scan{fsys: fsys, dir: dir, log: dir.Manifest.UUID, opts: opts, losses: dir.Losses(), expect: 1}
}

// Tail is where the log ends, once Items has been read to its end.
func (s *Scan) Tail() Tail { return s.tail }

// Losses are those of the frames that Items has come by.
func (s *Scan) Losses() *Losses { return &s.losses }

// Items yields frames and damage in the order of their numbers, after the damage
// outside the segments. Damage is an item. An error ends the sequence: it is a failure to
// read, or ErrNewerFormat. A segment is held in memory while it is read. The sequence
// may be used once, also beside a live writer: it then ends with the segments
// that were there when it began.
func (s *Scan) Items() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		s.yield = yield
		for _, d := range slices.Concat(s.dir.Damage, s.dir.Strays) {
			if !yield(Item{Damage: &d}, nil) {
				return
			}
		}
		names, err := s.names()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(Item{}, err)
			return
		}
		if len(names) == 0 {
			d := Damage{Segment: WALDir, Reason: "not one segment is there"}
			if n := s.losses.through; n > 0 { //mutant:no-segment-lost
				d.FirstSeq, d.LastSeq = 1, n
				s.losses.AddLost(SeqRange{1, n})
			}
			yield(Item{Damage: &d}, nil)
			return
		}
		if s.opts.Scope == ScanTail {
			names = names[len(names)-1:]
			s.expect, _ = ParseName(names[0])
		}
		parts, err := s.survey(names)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for i, p := range parts {
			last := i+1 == len(parts)
			if !last && parts[i+1].named != 0 && parts[i+1].named <= s.opts.From {
				s.expect = max(s.expect, parts[i+1].first)
				continue
			}
			s.tail, s.count, s.end = Tail{Segment: p.name}, 0, end(parts[i:])
			if last && !s.lastSegment(p) || !last && !s.sealedSegment(p, parts[i+1].first) {
				return
			}
		}
		s.tail.NextSeq = s.expect
	}
}

// names returns the names of the segments. A directory that is read in pieces while a writer goes
// on may show a segment, and not the one before it, which was made in the same time. So
// beside a writer it is read a second time, for those up to the last that the first
// reading had: all of them were there when that ended.
func (s *Scan) names() ([]string, error) {
	names, err := Names(s.fsys)
	if err != nil || len(names) == 0 || s.opts.Locked { //mutant:names-read-twice
		return names, err
	}
	last := names[len(names)-1]
	names, err = Names(s.fsys)
	return slices.DeleteFunc(names, func(name string) bool { return name > last }), err
}

// part is a segment and what is known of it before it is read.
type part struct {
	name   string
	number uint64 // that it is named by
	first  uint64 // at most the number of its first frame
	named  uint64 // the first number that a sound header in it names, if its name agrees; else 0
}

// end is the number at which the frames of the parts after the first begin. A
// frame with a higher one is not in its place before them, and must not hide
// them.
func end(parts []part) uint64 {
	end := uint64(math.MaxUint64)
	for _, later := range parts[1:] {
		if later.named != 0 {
			end = min(end, later.named)
		}
	}
	return end
}

// survey looks at the head of each segment.
func (s *Scan) survey(names []string) ([]part, error) {
	parts := make([]part, len(names))
	for i, name := range names {
		first, _ := ParseName(name)
		parts[i] = part{name: name, number: first, first: first}
		head, err := s.head(name)
		if err != nil {
			return nil, err
		}
		switch _, h, ok := firstHeader(head, &s.log); {
		case ok && h.Seq >= first:
			parts[i].named = h.Seq
		case ok:
			parts[i].first = h.Seq
		case first > maxBareName:
			parts[i].first = 0
		}
	}
	return parts, nil
}

// head reads the start of a segment, as far as a header may lie from it.
func (s *Scan) head(name string) ([]byte, error) {
	f, err := s.fsys.Open(path.Join(WALDir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, maxPrefixBytes+HeaderBytes)
	n, err := io.ReadFull(f, head)
	if _, _, ok := firstHeader(head[:n], &s.log); err != nil || ok {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		return head[:n], err
	}
	more, err := io.ReadAll(io.LimitReader(f, maxPrefixBytes+HeaderBytes+MaxBodyBytes))
	return append(head, more...), err
}

// sealedSegment reads a segment that another follows, whose frames begin with
// next or later.
func (s *Scan) sealedSegment(p part, next uint64) bool {
	data, err := s.read(p.name)
	if err != nil {
		return s.fail(err)
	}
	pos, ok := s.frames(p, data, 0)
	if !ok {
		return false
	}
	rest := data[pos:]
	for _, h := range headers(rest, &s.log) { // a sound header says what was there even if its body does not
		if h.Seq < s.end {
			next = max(next, h.Seq+1)
		}
	}
	if allZero(rest) && s.expect >= next { //mutant:sealed-segment-whole
		return true
	}
	return s.lose(p.name, pos, rest, max(next, s.expect))
}

// lastSegment reads the segment that no other follows. A writer that has it open may be
// writing: what is no whole frame at its end is read again until it rests. A read takes its
// parts one after another, so that it may have the end of a write behind space that was not
// used yet when that was read: what is no whole frame before others is damage if it is
// so in the next read.
func (s *Scan) lastSegment(p part) bool {
	s.sealed = s.named
	var data []byte
	pos := 0
	for {
		again, err := s.read(p.name)
		if err != nil {
			return s.fail(err)
		}
		if len(again) < pos {
			return s.fail(fmt.Errorf("segment %s became shorter while it was read: a repair is under way, try again", p.name))
		}
		rests := data != nil && bytes.Equal(again, data) //mutant:tail-rests
		before, ok := pos, false
		if pos, ok = s.soundFrames(p, again, pos); !ok {
			return false
		}
		if s.opts.Locked || data != nil && pos == before {
			if pos, ok = s.frames(p, again, pos); !ok {
				return false
			}
		}
		data = again
		if rests || s.opts.Locked || allZero(data[pos:]) {
			return s.endLog(p, data, pos)
		}
		time.Sleep(restTime)
	}
}

// restTime is how long a tail has to stay the same to be taken for torn. A
// write in progress takes microseconds to become visible.
const restTime = 2 * time.Millisecond

// soundFrames yields the frames of a segment from pos on as far as it is as it was
// written, and returns the position behind them.
func (s *Scan) soundFrames(p part, data []byte, pos int) (int, bool) {
	if s.expect < p.first && !s.lose(p.name, 0, nil, p.first) {
		return pos, false
	}
	for {
		h, frame := wholeEntry(data[pos:], &s.log)
		if frame == nil || h.Seq != s.expect || h.Seq >= s.end { //mutant:plain-frame-order
			return pos, true
		}
		at := pos + prefixBytes(len(frame))
		if !s.pass(p, newFrame(h, frame, at)) {
			return pos, false
		}
		pos = at + len(frame)
	}
}

// frames yields the whole frames of a segment from pos on, in the order of their
// numbers, with the damage between them, and returns the position behind the last. A frame of a
// newer version ends the scan with ErrNewerFormat.
func (s *Scan) frames(p part, data []byte, pos int) (int, bool) {
	behind, ok := s.soundFrames(p, data, pos)
	if !ok {
		return behind, false
	}
	found, newer := s.find(p, data, behind)
	for _, f := range s.inOrder(found) {
		if f.before < f.start || f.Seq > s.expect || int64(f.start) == f.Offset { // the last: it has no prefix
			s.tail.Dirty = true
			if !s.lose(p.name, f.before, data[f.before:f.start], f.Seq) {
				return behind, false
			}
		}
		if f.start < behind && !s.yield(Item{Damage: &Damage{
			Segment: p.name, Offset: int64(f.start), Length: int64(f.end() - f.start), Reason: outOfPlace(f.Seq),
		}}, nil) {
			return behind, false
		}
		behind = max(behind, f.end())
		if !s.pass(p, f.Frame) {
			return behind, false
		}
	}
	if newer != nil {
		return behind, s.fail(newer)
	}
	return behind, true
}

// pass yields the frame that comes next.
func (s *Scan) pass(p part, f Frame) bool {
	f.Segment, f.named = p.name, p.number
	s.named = max(s.named, f.Seq)
	s.expect = f.Seq + 1
	s.count++
	if f.Seq <= s.dir.Watermark && !s.tail.Dirty {
		s.tail.Durable = f.Offset + f.Length()
	}
	s.losses.RaiseDurable(f.DurableThrough)
	return s.yield(Item{Frame: f}, nil)
}

// lose yields damage: these bytes at pos stand where the frames before next
// should be.
func (s *Scan) lose(name string, pos int, b []byte, next uint64) bool {
	d := &Damage{Segment: name, Offset: int64(pos), Length: int64(len(b)), Reason: s.reason(b, next)}
	for _, h := range headers(b, &s.log) {
		d.DurableThrough = max(d.DurableThrough, h.DurableThrough)
	}
	s.losses.RaiseDurable(d.DurableThrough)
	if s.expect < next {
		d.FirstSeq, d.LastSeq = s.expect, next-1
		s.expect = next
		s.losses.AddLost(SeqRange{d.FirstSeq, d.LastSeq})
	}
	return s.yield(Item{Damage: d}, nil)
}

// reason says what is wrong with the bytes that stand where the frames from
// s.expect to before next should be.
func (s *Scan) reason(b []byte, next uint64) string {
	switch {
	case len(b) == 0 && next <= s.expect:
		return "length prefix missing"
	case len(b) == 0:
		return "frames missing"
	case allZero(b):
		return "overwritten with zeros"
	}
	for k := 0; k <= maxPrefixBytes && k < len(b); k++ {
		h, _, ok := parseHeader(b[k:], &s.log)
		switch {
		case ok && h.Seq >= s.expect && h.Seq < next:
			return "body does not match its CRC32C"
		case ok:
			return outOfPlace(h.Seq)
		}
	}
	if next <= s.expect {
		return "damaged length prefix or stray bytes"
	}
	return "header does not match its CRC32C"
}

func outOfPlace(seq uint64) string { return fmt.Sprintf("a frame out of its place, seq %d", seq) }

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
