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

// Scan reads a log from its first frame to its last and does not stop at damage.
//
// It finds frames by their own headers. tidwall/wal writes a uvarint with the frame's length before
// each frame. Scan checks this length but does not depend on it. A damaged length therefore loses
// no frame, and a damaged frame does not affect its neighbors.
type Scan struct {
	fsys  fs.FS
	dir   Directory
	log   uuid.UUID
	opts  ScanOptions
	yield func(Item, error) bool

	losses       Losses
	nextSeq      uint64 // the seq of the next frame in order
	limitSeq     uint64 // frames of the current segment have a lower seq than this, see limitSeq()
	frameCount   uint64 // number of intact frames in this segment
	maxHeaderSeq uint64 // highest seq in any intact header so far
	maxSealedSeq uint64 // maxHeaderSeq before the last segment was read
	tail         Tail

	tornThrough uint64 // DurableThrough in the header of a torn write

	parts     []part
	readCount int // number of segments that were read
	unread    int // number of segments that were skipped because of ScanOptions
}

// Scope selects the part of a log that a scan reads.
type Scope uint8

const (
	ScanAll  Scope = iota // all segments
	ScanTail              // the last segment only; its file name gives the seq of its first frame
)

// ScanOptions configures a scan. The zero value reads all segments and allows a writer to have the
// log open.
type ScanOptions struct {
	From      uint64 // skip segments that end before this seq
	CheckEnds bool   // skip a segment only if its first and last numbers match the segments before and after it
	// Only returns the numbers of the frames that are needed of a sealed segment, ascending, and the
	// number of its last frame. The scan then yields only these frames. It does not notice damage
	// elsewhere in the segment. If Only returns false, or if the segment does not have these frames
	// where they should be, the scan reads the whole segment. The caller has checked the segment's end.
	Only   func(name string) (seqs []uint64, lastSeq uint64, ok bool)
	Scope  Scope
	After  Position // if set, the scan continues there, and Tail is not valid
	Locked bool     // the caller holds the log's lock, so no other writer appends during the scan
}

// NewScan returns a scan of the log in fsys. The caller has read dir with ReadDirectory.
func NewScan(fsys fs.FS, dir Directory, opts ScanOptions) *Scan {
	return &Scan{fsys: fsys, dir: dir, log: dir.Manifest.UUID, opts: opts, losses: dir.Losses(), nextSeq: 1}
}

// Tail describes the end of the log. It is valid after an iteration over all Items has ended.
func (s *Scan) Tail() Tail { return s.tail }

// Losses returns the losses that Items has found so far.
func (s *Scan) Losses() *Losses { return &s.losses }

// Items yields frames and damage. The damage outside the segments comes first. Frames and the
// damage between them follow in the order of their numbers. Damage is an item, not an error. An
// error ends the sequence. It is an I/O error or ErrNewerFormat. Items holds one segment in memory.
// If Locked is not set, it holds up to two copies of the last segment, and the sequence ends with
// the last segment that existed at the start of the iteration. The sequence can be used once.
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
			d := Damage{Segment: WALDir, Reason: s.noSegments(), Severity: EndangersEvents}
			if n := s.losses.durableThrough; n > 0 { //mutant:no-segment-lost
				d.FirstSeq, d.LastSeq, d.Severity = 1, n, LosesEvents
				s.losses.AddLost(SeqRange{1, n})
			}
			yield(Item{Damage: &d}, nil)
			return
		}
		if s.opts.Scope == ScanTail {
			names = names[len(names)-1:]
			s.nextSeq, _ = ParseName(names[0])
		}
		if names, err = s.after(names); err == nil {
			s.parts, err = s.survey(names)
		}
		if err != nil {
			yield(Item{}, err)
			return
		}
		for i := range s.parts {
			if picked, ok := s.pick(s.parts[i]); !ok {
				return
			} else if picked {
				continue
			}
			if s.skips(i) {
				s.unread++
				s.nextSeq = max(s.nextSeq, s.parts[i+1].minSeq)
			} else if !s.scanPart(i) {
				return
			}
		}
		s.tail.NextSeq = s.nextSeq
		s.emitBeyondEnd(s.parts[len(s.parts)-1])
	}
}

// noSegments describes for people that the log has no segments.
func (s *Scan) noSegments() string {
	for _, d := range s.dir.Strays {
		if _, ok := ParseName(path.Base(d.Segment)); ok {
			return "no segment is a regular file"
		}
	}
	return "no segment files"
}

// emitBeyondEnd yields a finding if the name of the last segment is beyond the end of the log. A
// writer refuses such a log, because tidwall/wal would continue after that name.
func (s *Scan) emitBeyondEnd(last part) {
	if last.nameSeq <= s.nextSeq {
		return
	}
	s.yield(Item{Damage: &Damage{Segment: path.Join(WALDir, last.name), Reason: BeyondEnd(s.nextSeq), Severity: EndangersEvents}}, nil)
}

// BeyondEnd describes for people that a segment's number is higher than the log's next number.
func BeyondEnd(nextSeq uint64) string {
	return fmt.Sprintf("its name is beyond the end of the log, which continues with seq %d: rename the segment to the seq of its first frame", nextSeq)
}

// scanPart reads one segment. It returns false if the sequence has ended.
func (s *Scan) scanPart(i int) bool {
	p := &s.parts[i]
	p.entrySeq = s.nextSeq
	s.readCount++
	s.tail, s.frameCount, s.limitSeq = Tail{Segment: p.name}, 0, limitSeq(s.parts[i:])
	if i+1 == len(s.parts) {
		return s.scanLast(*p)
	}
	return s.scanSealed(*p, s.parts[i+1].minSeq)
}

// names returns the names of the segments. Reading a directory is not atomic. If a writer creates
// two segments meanwhile, the listing may have only the second. If the log is not locked, names
// therefore lists the directory twice. It returns the names of the second listing, but leaves out
// segments that are newer than all segments of the first listing. All returned segments existed
// before the second listing started.
func (s *Scan) names() ([]string, error) {
	names, err := Names(s.fsys)
	if err != nil || len(names) == 0 || s.opts.Locked { //mutant:names-read-twice
		return names, err
	}
	last := names[len(names)-1]
	names, err = Names(s.fsys)
	return slices.DeleteFunc(names, func(name string) bool { return name > last }), err
}

// part is a segment with the facts that survey found in its name and its first bytes.
type part struct {
	name    string
	nameSeq uint64   // the number in its file name
	minSeq  uint64   // lower bound of its first frame's seq
	headSeq uint64   // seq of the first intact header; 0 if there is none, or if that seq is below nameSeq
	only    []uint64 // the numbers of the needed frames, if lastSeq is not 0
	lastSeq uint64   // seq of the last frame if ScanOptions.Only has selected frames; otherwise 0

	start    int    // the scan reads it from this offset
	entrySeq uint64 // Scan.nextSeq when the scan began to read it
}

// limitSeq returns the lowest number of a frame in the segments after parts[0]. If parts[0] holds a
// frame with this number or a higher one, that frame is misplaced, and the scan does not yield it
// there. Otherwise the scan would skip the frames of the later segments that have lower numbers.
func limitSeq(parts []part) uint64 {
	limit := uint64(math.MaxUint64)
	for _, later := range parts[1:] {
		if later.headSeq != 0 {
			limit = min(limit, later.headSeq)
		}
	}
	return limit
}

// survey reads the first bytes of each segment.
func (s *Scan) survey(names []string) ([]part, error) {
	parts := make([]part, len(names))
	for i, name := range names {
		first, _ := ParseName(name)
		parts[i] = part{name: name, nameSeq: first, minSeq: first}
		if s.opts.Only != nil && i+1 < len(names) {
			if only, last, ok := s.opts.Only(name); ok {
				parts[i].headSeq, parts[i].only, parts[i].lastSeq = first, only, last
				continue
			}
		}
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
	if s.opts.After != (Position{}) {
		parts[0].start, s.nextSeq = int(s.opts.After.Offset), s.opts.After.NextSeq
	}
	return parts, nil
}

// head reads the first header of a segment. If that header is not intact, head reads enough bytes
// to contain the second frame's header, even if the first frame has the maximum length.
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

// scanSealed reads a segment that is not the last one. The parameter next is a lower bound of the
// number of the next segment's first frame.
func (s *Scan) scanSealed(p part, next uint64) bool {
	data, err := s.read(p.name)
	if err != nil {
		return s.fail(err)
	}
	if len(data) < p.start {
		return s.fail(shorterError(p.name))
	}
	pos, ok := s.emitAll(p, data, p.start)
	if !ok {
		return false
	}
	rest := data[pos:]
	for _, h := range intactHeaders(rest, &s.log) { // the frame existed even if its body is damaged
		if h.Seq < s.limitSeq {
			next = max(next, h.Seq+1)
		}
	}
	if allZero(rest) && s.nextSeq >= next { //mutant:sealed-segment-whole
		return true
	}
	return s.emitDamage(p.name, pos, rest, max(next, s.nextSeq), s.endReason(p, pos, rest, next))
}

// scanLast reads the last segment. If the log is not locked, a writer may be appending to it.
// scanLast then rereads the segment until the bytes after the last intact frame stop changing.
//
// A read is not atomic. If the writer appends during a read, the read can return zeros for the
// first bytes of a write, but the new bytes after them. These can contain whole frames. Bytes
// before an intact frame therefore count as damage only if a second read also finds no intact frame
// at their start.
func (s *Scan) scanLast(p part) bool {
	s.maxSealedSeq = s.maxHeaderSeq
	var data []byte
	pos := p.start
	for {
		current, err := s.read(p.name)
		if err != nil {
			return s.fail(err)
		}
		if len(current) < pos {
			return s.fail(shorterError(p.name))
		}
		stable := data != nil && bytes.Equal(current, data) //mutant:tail-rests
		before, ok := pos, false
		if pos, ok = s.emitConsecutive(p, current, pos); !ok {
			return false
		}
		if s.opts.Locked || data != nil && pos == before { // this read found no frame there either
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

func shorterError(name string) error {
	return fmt.Errorf("segment %s became shorter during the scan: a repair is running, try again", name)
}

// rereadDelay is the time between two reads of a file that a writer may be changing. If both reads
// return the same bytes, no write is in progress, because a write becomes visible within
// microseconds.
const rereadDelay = 2 * time.Millisecond

// emitConsecutive yields frames from pos on and stops at the first one that is damaged or not the
// next in order. It returns the offset after the last yielded frame. The result ok is false if the
// consumer stopped the sequence.
func (s *Scan) emitConsecutive(p part, data []byte, pos int) (end int, ok bool) {
	if s.nextSeq < p.minSeq { // only before the first segment that is read
		reason := fmt.Sprintf("frames missing: segment %s is missing", Name(s.nextSeq))
		if !s.emitDamage(p.name, 0, nil, p.minSeq, reason) {
			return pos, false
		}
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

// emitAll yields all intact frames from pos on in the order of their numbers, and the damage
// between them. It returns the offset after the last frame. The result ok is false if the consumer
// stopped the sequence, or if a frame of a newer version ended it with ErrNewerFormat.
func (s *Scan) emitAll(p part, data []byte, pos int) (end int, ok bool) {
	end, ok = s.emitConsecutive(p, data, pos)
	if !ok {
		return end, false
	}
	found, newer := s.findFrames(p, data, end)
	for _, f := range s.inOrder(found) {
		missingPrefix := int64(f.start) == f.Offset
		if f.prevEnd < f.start || f.Seq > s.nextSeq || missingPrefix {
			s.tail.Dirty = true
			between := data[f.prevEnd:f.start]
			if !s.emitDamage(p.name, f.prevEnd, between, f.Seq, s.reason(between, f.Seq)) {
				return end, false
			}
		}
		// If the frame is in the file before a frame with a lower number, it is misplaced. Its
		// bytes are then reported as damage, and the frame is yielded too.
		if f.start < end && !s.yield(Item{Damage: &Damage{
			Segment: p.name, Offset: int64(f.start), Length: int64(f.end() - f.start), Reason: misplaced(f.Seq),
			Severity: EndangersEvents,
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

// emitFrame yields the next frame in order.
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

// emitDamage yields the bytes b at pos as damage. The frames from number s.nextSeq to next-1 are
// missing there and count as lost. The reason describes the damage for people.
func (s *Scan) emitDamage(name string, pos int, b []byte, next uint64, reason string) bool {
	d := &Damage{Segment: name, Offset: int64(pos), Length: int64(len(b)), Reason: reason, Severity: EndangersEvents}
	for _, h := range intactHeaders(b, &s.log) {
		d.DurableThrough = max(d.DurableThrough, h.DurableThrough)
	}
	s.losses.RaiseDurable(d.DurableThrough)
	if s.nextSeq < next {
		d.FirstSeq, d.LastSeq, d.Severity = s.nextSeq, next-1, LosesEvents
		s.nextSeq = next
		s.losses.AddLost(SeqRange{d.FirstSeq, d.LastSeq})
	}
	return s.yield(Item{Damage: d}, nil)
}

// reason describes the fault of the bytes b for people. The parameter next is the same as that of
// emitDamage.
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
			return misplaced(h.Seq)
		}
	}
	if next <= s.nextSeq {
		return "damaged length prefix or stray bytes"
	}
	return "header does not match its CRC32C"
}

// endReason is like reason, for the bytes b from pos, after the last intact frame, to the end of
// the segment.
func (s *Scan) endReason(p part, pos int, b []byte, next uint64) string {
	_, incomplete := s.tornEntry(b, s.nextSeq)
	var reason string
	switch {
	case next <= s.nextSeq:
		return s.reason(b, next)
	case len(b) == 0 && pos == 0:
		return "cut short: the segment is empty"
	case len(b) == 0 && s.nextSeq == p.nameSeq:
		return "misplaced frames: the file has no frame of this segment"
	case len(b) == 0:
		return fmt.Sprintf("frames missing: segment %s is missing, or this one was cut short between two frames", Name(s.nextSeq))
	case incomplete:
		reason = "cut short: the segment ends within a frame"
	default:
		reason = s.reason(b, next)
	}
	if next-s.nextSeq > uint64(len(b)/HeaderBytes+1) { // more frames than the bytes could hold
		reason += fmt.Sprintf(", and a segment after this one may be missing (its name is at least %s and at most %s)", Name(s.nextSeq+1), Name(next-1))
	}
	return reason
}

func misplaced(seq uint64) string { return fmt.Sprintf("misplaced frame, seq %d", seq) }

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
