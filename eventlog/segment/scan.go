package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
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
	named  uint64 // the highest seq that any sound header names
	sealed uint64 // that of the segments before the last
	tail   Tail
}

// ScanOptions are the choices of who scans. The zero value reads all of a log
// that a writer may have open.
type ScanOptions struct {
	From   uint64 // segments that end before the frame with this number are passed over unread
	Locked bool   // no writer has the log open: its end is no write in progress
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
// outside the segments. Damage is an item; an error is a failure to read, and
// ends the sequence. A segment is held in memory while it is read. The sequence
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
		names, err := Names(s.fsys)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(Item{}, err)
			return
		}
		if len(names) == 0 {
			d := Damage{Segment: WALDir, Reason: "not one segment is there"}
			if n := s.losses.through; n > 0 {
				d.FirstSeq, d.LastSeq = 1, n
				s.losses.Lose(SeqRange{1, n})
			}
			yield(Item{Damage: &d}, nil)
			return
		}
		parts, err := s.survey(names)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for i, p := range parts {
			last := i+1 == len(parts)
			if !last && parts[i+1].named != 0 && parts[i+1].named <= s.opts.From {
				s.expect = parts[i+1].first
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

// part is a segment and what is known of it before it is read.
type part struct {
	name  string
	first uint64 // at most the number of its first frame
	named uint64 // the first number that a sound header in it names, if its name agrees; else 0
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
		named := s.named
		first, _ := ParseName(name)
		parts[i] = part{name: name, first: first}
		head, err := s.head(name)
		if err != nil {
			return nil, err
		}
		if _, h, _, ok := s.nextHeader(head, 0); ok && h.Seq >= first {
			parts[i].named = h.Seq
		} else if ok {
			parts[i].first = h.Seq
		} else if first > maxClaimed {
			parts[i].first = 0
		}
		if i+1 == len(names) {
			s.named = named // its end may be a torn write, which names none for good
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
	if _, _, _, ok := s.nextHeader(head[:n], 0); err != nil || ok {
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
	for at := 0; ; at++ { // a sound header says what was there even if its body does not
		var h Header
		if at, h, _, ok = s.nextHeader(rest, at); !ok {
			break
		}
		if h.Seq < s.end {
			next = max(next, h.Seq+1)
		}
	}
	if allZero(rest) && s.expect >= next {
		return true
	}
	return s.lose(p.name, pos, rest, max(next, s.expect))
}

// lastSegment reads the segment that no other follows. What is no whole frame at
// its end may be a write in progress, so it is read again until it rests.
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
		rests := data != nil && bytes.Equal(again, data)
		data = again
		var ok bool
		if pos, ok = s.frames(p, data, pos); !ok {
			return false
		}
		if rests || s.opts.Locked || allZero(data[pos:]) {
			return s.endLog(p, data, pos)
		}
		time.Sleep(restTime)
	}
}

// restTime is how long a tail has to stay the same to be taken for torn. A
// write in progress takes microseconds to become visible.
const restTime = 2 * time.Millisecond

// frames yields the whole frames of a segment from pos on, in the order of their
// numbers, with the damage between them, and returns the position behind the last.
func (s *Scan) frames(p part, data []byte, pos int) (int, bool) {
	if s.expect < p.first && !s.lose(p.name, 0, nil, p.first) {
		return pos, false
	}
	behind := pos
	for _, f := range s.inOrder(s.find(data, pos)) {
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
		f.Segment = p.name
		s.expect = f.Seq + 1
		s.count++
		if f.Seq <= s.dir.Watermark && !s.tail.Dirty {
			s.tail.Durable = int64(f.end())
		}
		s.losses.Durable(f.DurableThrough)
		if !s.yield(Item{Frame: f.Frame}, nil) {
			return behind, false
		}
	}
	return behind, true
}

// placed is a whole frame and where it lies.
type placed struct {
	Frame
	before int // where the frame before it in the file ends
	start  int // where its entry starts: at its length prefix, if that is sound
}

func (p placed) end() int { return int(p.Offset + p.Length()) }

// find returns the whole frames at or after pos whose numbers are still to come, in
// the order of the file.
func (s *Scan) find(data []byte, pos int) (found []placed) {
	before := pos
	for at := pos; ; {
		h, bodyBytes, ok := Header{}, 0, false
		if at, h, bodyBytes, ok = s.nextHeader(data, at); !ok {
			return found
		}
		if h.Seq < s.expect || h.Seq >= s.end || !isWhole(data[at:], bodyBytes) {
			at++
			continue
		}
		f := placed{before: before, start: at}
		f.Frame = Frame{Header: h, Body: data[at+HeaderBytes : at+HeaderBytes+bodyBytes], Offset: int64(at)}
		if prefix := binary.AppendUvarint(nil, uint64(f.Length())); bytes.HasSuffix(data[before:at], prefix) {
			f.start -= len(prefix)
		}
		found = append(found, f)
		at = f.end()
		before = at
	}
}

// inOrder returns the frames in the order of their numbers. They lie in it, unless
// the device has put some into the place of others: then none hides another, and
// of two that are the same the one in its place is taken.
func (s *Scan) inOrder(found []placed) []placed {
	ascending := true
	for i := range found[min(1, len(found)):] {
		ascending = ascending && found[i].Seq < found[i+1].Seq
	}
	if ascending {
		return found
	}
	s.tail.Dirty = true
	follows := func(i int) bool { return i > 0 && found[i-1].Seq+1 == found[i].Seq }
	chosen := map[uint64]int{}
	for i, f := range found {
		if first, again := chosen[f.Seq]; !again || follows(i) && !follows(first) {
			chosen[f.Seq] = i
		}
	}
	var ordered []placed
	for i, f := range found {
		if chosen[f.Seq] != i { // its bytes belong to no frame
			if i+1 < len(found) {
				found[i+1].before = found[i].before
			}
			continue
		}
		ordered = append(ordered, found[i])
	}
	slices.SortFunc(ordered, func(a, b placed) int { return cmp.Compare(a.Seq, b.Seq) })
	return ordered
}

// nextHeader returns the next header at or after at that can be believed.
func (s *Scan) nextHeader(data []byte, at int) (int, Header, int, bool) {
	for ; at < len(data); at++ {
		skip := bytes.Index(data[at:], magic[:])
		if skip < 0 {
			break
		}
		at += skip
		if h, bodyBytes, ok := parseHeader(data[at:], s.log); ok {
			s.named = max(s.named, h.Seq)
			return at, h, bodyBytes, true
		}
	}
	return 0, Header{}, 0, false
}

// highestIn is the highest number that a header among the bytes names.
func (s *Scan) highestIn(b []byte) (seq uint64) {
	for at := 0; ; at++ {
		var h Header
		var ok bool
		if at, h, _, ok = s.nextHeader(b, at); !ok {
			return seq
		}
		seq = max(seq, h.Seq)
	}
}

// endLog reports what is left of the last segment. Zeros are space not used yet;
// the strict beginning of an entry is a write that was cut short. All else was
// written and is damaged. Where nothing tells how many frames it held, it is
// taken for one, so that its number is not given again; and for no fewer than the
// watermark says were there.
func (s *Scan) endLog(p part, data []byte, pos int) bool {
	end, next := pos, s.expect
	for !allZero(data[end:]) {
		if seq, torn := s.torn(data[end:], next); torn && seq > s.losses.through {
			next, s.tail.Torn = seq, true
			break
		}
		h, n := s.entry(data[end:])
		if n == 0 {
			n = len(data) - end
		}
		at, _, _, ok := s.nextHeader(data[:end+n], end+maxPrefixBytes+1)
		switch {
		case h.Seq == 0 && ok: // a header among the bytes will say what they were
			n = at - end
		case h.Seq == 0:
			next++
		case h.Seq >= next:
			next = h.Seq + 1
		default: // a copy of an earlier frame, in the place of one
			next++
		}
		end += n
	}
	named := s.named
	if s.tail.Torn { // it names itself
		named = max(s.sealed, s.highestIn(data[:end]))
	}
	if named >= next { // by a frame out of its place: it is not free
		next = named + 1
	}
	if next <= s.losses.through { // there were more
		next, end = s.losses.through+1, len(data)
	}
	first, _ := ParseName(p.name)
	s.tail.Dirty = s.tail.Dirty || end > pos || first+s.count != next
	if s.count == 0 && first <= maxClaimed {
		next = max(next, first) // no frame speaks against the name
	}
	if s.tail.Dirty && next == first {
		next = first + 1 // the name is taken
	}
	s.tail.Bytes, s.tail.Beyond = int64(end), int64(len(data)-end)
	if (end > pos || next > s.expect) && !s.lose(p.name, pos, data[pos:end], next) {
		return false
	}
	if !s.tail.Torn {
		return true
	}
	return s.yield(Item{Damage: &Damage{
		Segment: p.name, Offset: s.tail.Bytes, Length: s.tail.Beyond, FirstSeq: s.expect, LastSeq: s.expect,
		Torn: true, Reason: "the last write is not whole",
	}}, nil)
}

// torn reports whether b is what is left when the writing of an entry is cut
// short: its beginning, sound as far as it goes, and not its end. It returns the
// number that the frame had, at least next.
func (s *Scan) torn(b []byte, next uint64) (seq uint64, torn bool) {
	length, k := binary.Uvarint(b)
	if k == 0 { // not even the prefix is whole
		return next, len(b) < maxPrefixBytes
	}
	if k < 0 || length < HeaderBytes || length > HeaderBytes+MaxBodyBytes || uint64(len(b)-k) >= length {
		return 0, false
	}
	frame := b[k:]
	if len(frame) < HeaderBytes {
		n := min(len(frame), len(magic))
		return next, bytes.Equal(frame[:n], magic[:n])
	}
	h, bodyBytes, ok := parseHeader(frame, s.log)
	return h.Seq, ok && h.Seq >= next && uint64(HeaderBytes+bodyBytes) == length
}

// entry reads the damaged entry at the start of b: its header, if that can be
// believed, and its length with the prefix, 0 where b does not hold it to its
// end. A sound header is believed before the prefix is.
func (s *Scan) entry(b []byte) (h Header, n int) {
	for k := 0; k <= maxPrefixBytes && k < len(b); k++ {
		if h, bodyBytes, ok := parseHeader(b[k:], s.log); ok {
			if n = k + HeaderBytes + bodyBytes; n > len(b) {
				n = 0
			}
			return h, n
		}
	}
	length, k := binary.Uvarint(b)
	if k <= 0 || length < HeaderBytes || length > HeaderBytes+MaxBodyBytes || uint64(len(b)-k) < length {
		return Header{}, 0
	}
	return Header{}, k + int(length)
}

// maxPrefixBytes is the length of the longest prefix, a uvarint of HeaderBytes+MaxBodyBytes.
const maxPrefixBytes = 3

// lose yields damage: these bytes at pos stand where the frames before next
// should be.
func (s *Scan) lose(name string, pos int, b []byte, next uint64) bool {
	d := &Damage{Segment: name, Offset: int64(pos), Length: int64(len(b)), Reason: s.reason(b, next)}
	for at := 0; ; at++ {
		var h Header
		var ok bool
		if at, h, _, ok = s.nextHeader(b, at); !ok {
			break
		}
		d.DurableThrough = max(d.DurableThrough, h.DurableThrough)
	}
	s.losses.Durable(d.DurableThrough)
	if s.expect < next {
		d.FirstSeq, d.LastSeq = s.expect, next-1
		s.expect = next
		s.losses.Lose(SeqRange{d.FirstSeq, d.LastSeq})
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
		h, _, ok := parseHeader(b[k:], s.log)
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
