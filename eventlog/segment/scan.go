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

	losses       Losses
	nextSeq      uint64 // the seq that comes next
	limitSeq     uint64 // the first seq of the segments after this one; no frame of theirs is expected here
	frameCount   uint64 // of whole frames in this segment
	maxHeaderSeq uint64 // the highest seq that any sound header names so far
	maxSealedSeq uint64 // that of the segments before the last
	tail         Tail

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
	return &Scan{fsys: fsys, dir: dir, log: dir.Manifest.UUID, opts: opts, losses: dir.Losses(), nextSeq: 1}
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
			if n := s.losses.durableThrough; n > 0 { //mutant:no-segment-lost
				d.FirstSeq, d.LastSeq = 1, n
				s.losses.AddLost(SeqRange{1, n})
			}
			yield(Item{Damage: &d}, nil)
			return
		}
		if s.opts.Scope == ScanTail {
			names = names[len(names)-1:]
			s.nextSeq, _ = ParseName(names[0])
		}
		parts, err := s.survey(names)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for i, p := range parts {
			last := i+1 == len(parts)
			if !last && parts[i+1].headSeq != 0 && parts[i+1].headSeq <= s.opts.From {
				s.nextSeq = max(s.nextSeq, parts[i+1].minSeq)
				continue
			}
			s.tail, s.frameCount, s.limitSeq = Tail{Segment: p.name}, 0, limitSeq(parts[i:])
			if last && !s.scanLast(p) || !last && !s.scanSealed(p, parts[i+1].minSeq) {
				return
			}
		}
		s.tail.NextSeq = s.nextSeq
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
	name    string
	nameSeq uint64 // that it is named by
	minSeq  uint64 // at most the number of its first frame
	headSeq uint64 // the first number that a sound header in it names, if its name agrees; else 0
}

// limitSeq is the number at which the frames of the parts after the first begin. A
// frame with a higher one is not in its place before them, and must not hide
// them.
func limitSeq(parts []part) uint64 {
	limit := uint64(math.MaxUint64)
	for _, later := range parts[1:] {
		if later.headSeq != 0 {
			limit = min(limit, later.headSeq)
		}
	}
	return limit
}

// survey looks at the head of each segment.
func (s *Scan) survey(names []string) ([]part, error) {
	parts := make([]part, len(names))
	for i, name := range names {
		first, _ := ParseName(name)
		parts[i] = part{name: name, nameSeq: first, minSeq: first}
		head, err := s.head(name)
		if err != nil {
			return nil, err
		}
		switch _, h, ok := firstHeader(head, &s.log); {
		case ok && h.Seq >= first:
			parts[i].headSeq = h.Seq
		case ok:
			parts[i].minSeq = h.Seq
		case first > maxBareName:
			parts[i].minSeq = 0
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

// scanSealed reads a segment that another follows, whose frames begin with
// next or later.
func (s *Scan) scanSealed(p part, next uint64) bool {
	data, err := s.read(p.name)
	if err != nil {
		return s.fail(err)
	}
	pos, ok := s.emitAll(p, data, 0)
	if !ok {
		return false
	}
	rest := data[pos:]
	for _, h := range intactHeaders(rest, &s.log) { // a sound header says what was there even if its body does not
		if h.Seq < s.limitSeq {
			next = max(next, h.Seq+1)
		}
	}
	if allZero(rest) && s.nextSeq >= next { //mutant:sealed-segment-whole
		return true
	}
	return s.emitDamage(p.name, pos, rest, max(next, s.nextSeq))
}

// scanLast reads the segment that no other follows. A writer that has it open may be
// writing: what is no whole frame at its end is read again until it rests. A read takes its
// parts one after another, so that it may have the end of a write behind space that was not
// used yet when that was read: what is no whole frame before others is damage if it is
// so in the next read.
func (s *Scan) scanLast(p part) bool {
	s.maxSealedSeq = s.maxHeaderSeq
	var data []byte
	pos := 0
	for {
		current, err := s.read(p.name)
		if err != nil {
			return s.fail(err)
		}
		if len(current) < pos {
			return s.fail(fmt.Errorf("segment %s became shorter while it was read: a repair is under way, try again", p.name))
		}
		stable := data != nil && bytes.Equal(current, data) //mutant:tail-rests
		before, ok := pos, false
		if pos, ok = s.emitConsecutive(p, current, pos); !ok {
			return false
		}
		if s.opts.Locked || data != nil && pos == before {
			if pos, ok = s.emitAll(p, current, pos); !ok {
				return false
			}
		}
		data = current
		if stable || s.opts.Locked || allZero(data[pos:]) {
			return s.emitTail(p, data, pos)
		}
		time.Sleep(rereadDelay)
	}
}

// rereadDelay is how long a tail has to stay the same to be taken for torn. A
// write in progress takes microseconds to become visible.
const rereadDelay = 2 * time.Millisecond

// emitConsecutive yields the frames of a segment from pos on as far as it is as it was
// written, and returns the position behind them.
func (s *Scan) emitConsecutive(p part, data []byte, pos int) (int, bool) {
	if s.nextSeq < p.minSeq && !s.emitDamage(p.name, 0, nil, p.minSeq) {
		return pos, false
	}
	for {
		h, frame := intactEntry(data[pos:], &s.log)
		if frame == nil || h.Seq != s.nextSeq || h.Seq >= s.limitSeq { //mutant:plain-frame-order
			return pos, true
		}
		at := pos + prefixBytes(len(frame))
		if !s.emitFrame(p, newFrame(h, frame, at)) {
			return pos, false
		}
		pos = at + len(frame)
	}
}

// emitAll yields the whole frames of a segment from pos on, in the order of their
// numbers, with the damage between them, and returns the position behind the last. A frame of a
// newer version ends the scan with ErrNewerFormat.
func (s *Scan) emitAll(p part, data []byte, pos int) (int, bool) {
	end, ok := s.emitConsecutive(p, data, pos)
	if !ok {
		return end, false
	}
	found, newer := s.findFrames(p, data, end)
	for _, f := range s.inOrder(found) {
		if f.prevEnd < f.start || f.Seq > s.nextSeq || int64(f.start) == f.Offset { // the last: it has no prefix
			s.tail.Dirty = true
			if !s.emitDamage(p.name, f.prevEnd, data[f.prevEnd:f.start], f.Seq) {
				return end, false
			}
		}
		if f.start < end && !s.yield(Item{Damage: &Damage{
			Segment: p.name, Offset: int64(f.start), Length: int64(f.end() - f.start), Reason: outOfPlace(f.Seq),
		}}, nil) {
			return end, false
		}
		end = max(end, f.end())
		if !s.emitFrame(p, f.Frame) {
			return end, false
		}
	}
	if newer != nil {
		return end, s.fail(newer)
	}
	return end, true
}

// pass yields the frame that comes next.
func (s *Scan) emitFrame(p part, f Frame) bool {
	f.Segment, f.segmentSeq = p.name, p.nameSeq
	s.maxHeaderSeq = max(s.maxHeaderSeq, f.Seq)
	s.nextSeq = f.Seq + 1
	s.frameCount++
	if f.Seq <= s.dir.Watermark && !s.tail.Dirty {
		s.tail.Durable = f.Offset + f.Length()
	}
	s.losses.RaiseDurable(f.DurableThrough)
	return s.yield(Item{Frame: f}, nil)
}

// lose yields damage: these bytes at pos stand where the frames before next
// should be.
func (s *Scan) emitDamage(name string, pos int, b []byte, next uint64) bool {
	d := &Damage{Segment: name, Offset: int64(pos), Length: int64(len(b)), Reason: s.reason(b, next)}
	for _, h := range intactHeaders(b, &s.log) {
		d.DurableThrough = max(d.DurableThrough, h.DurableThrough)
	}
	s.losses.RaiseDurable(d.DurableThrough)
	if s.nextSeq < next {
		d.FirstSeq, d.LastSeq = s.nextSeq, next-1
		s.nextSeq = next
		s.losses.AddLost(SeqRange{d.FirstSeq, d.LastSeq})
	}
	return s.yield(Item{Damage: d}, nil)
}

// reason says what is wrong with the bytes that stand where the frames from
// s.nextSeq to before next should be.
func (s *Scan) reason(b []byte, next uint64) string {
	switch {
	case len(b) == 0 && next <= s.nextSeq:
		return "length prefix missing"
	case len(b) == 0:
		return "frames missing"
	case allZero(b):
		return "overwritten with zeros"
	}
	for k := 0; k <= maxPrefixBytes && k < len(b); k++ {
		h, _, ok := parseHeader(b[k:], &s.log)
		switch {
		case ok && h.Seq >= s.nextSeq && h.Seq < next:
			return "body does not match its CRC32C"
		case ok:
			return outOfPlace(h.Seq)
		}
	}
	if next <= s.nextSeq {
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
