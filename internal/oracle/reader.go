package oracle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// ErrNoLog is returned by Read if a directory has no valid manifest or no segment.
var ErrNoLog = errors.New("the directory has no valid manifest or no segment")

// Log is the content of the files of a log.
type Log struct {
	UUID         uuid.UUID
	Skipped      []Range // the skipped numbers in the manifest
	Watermark    uint64  // the lower of the valid watermarks; 0 if there is none
	Durable      uint64  // durable-through: the highest number that any file proves to be durable
	Reached      uint64  // the highest number that the log is known to have reached
	Events       []Event // the intact frames, in order
	Lost         []Range
	Acknowledged []Range    // the lost numbers that had been acknowledged
	Snapshots    []Snapshot // the valid snapshots, in the order of their numbers

	TailSegment uint64 // the number in the name of the last segment
	TailEnd     int    // the offset after its last intact frame
	TailClean   bool   // only zeros follow that frame, and no number after it is lost

	// InPlace is the log without misplaced headers: headers in a segment before the last whose
	// numbers belong to a later segment. It is nil if there are none. An opening that begins with a
	// snapshot after those headers does not read them.
	InPlace *Log

	expect uint64 // the next number
}

// Read reads the log in a directory. No writer may change the directory meanwhile.
func Read(dir string) (*Log, error) {
	l := &Log{expect: 1}
	if err := l.readManifests(dir); err != nil {
		return nil, err
	}
	l.Watermark = math.MaxUint64
	for _, name := range []string{"WATERMARK", "wal/WATERMARK"} {
		if n, ok := l.readWatermark(filepath.Join(dir, name)); ok {
			l.Watermark = min(l.Watermark, n)
		}
	}
	if l.Watermark == math.MaxUint64 {
		l.Watermark = 0
	}
	l.Durable = l.Watermark
	if err := l.readSnapshots(filepath.Join(dir, "snapshots")); err != nil {
		return nil, err
	}
	segments, err := l.readSegments(filepath.Join(dir, "wal"))
	if err != nil {
		return nil, err
	}
	inPlace := *l
	l.walk(segments)
	l.report()
	if onlyInPlace(segments) {
		inPlace.walk(segments)
		inPlace.report()
		l.InPlace = &inPlace
	}
	return l, nil
}

// onlyInPlace removes the misplaced headers from the segments: those with numbers that belong to a
// later segment. It reports whether there were any.
func onlyInPlace(segments []segment) (found bool) {
	for i, s := range segments {
		n := len(s.headers)
		segments[i].headers = slices.DeleteFunc(s.headers, func(h header) bool { return h.seq >= s.limit })
		found = found || len(segments[i].headers) < n
	}
	return found
}

// report sets Acknowledged to the lost numbers that had been acknowledged.
func (l *Log) report() {
	l.Lost, l.Acknowledged = Merge(l.Lost), nil
	for _, r := range l.Lost {
		if r.First <= l.Durable {
			l.Acknowledged = append(l.Acknowledged, Range{r.First, min(r.Last, l.Durable)})
		}
	}
	for _, skipped := range l.Skipped {
		l.Acknowledged = Without(l.Acknowledged, skipped)
	}
}

func (l *Log) readManifests(dir string) error {
	revision, found := uint64(0), false
	for _, name := range []string{"MANIFEST", "wal/MANIFEST"} {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		at := max(bytes.LastIndex(b, []byte("crc32c ")), 0)
		if len(b) == 0 || string(b[at:]) != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:at], castagnoli)) {
			continue
		}
		var id uuid.UUID
		var rev uint64
		var skipped []Range
		for line := range strings.Lines(string(b[:at])) {
			words := strings.Fields(line)
			switch {
			case len(words) == 2 && words[0] == "uuid":
				id, _ = uuid.Parse(words[1])
			case len(words) == 2 && words[0] == "revision":
				rev, _ = strconv.ParseUint(words[1], 10, 64)
			case len(words) == 4 && words[0] == "skipped":
				first, _ := strconv.ParseUint(words[1], 10, 64)
				last, _ := strconv.ParseUint(words[3], 10, 64)
				skipped = append(skipped, Range{first, last})
			}
		}
		if !found || rev > revision {
			l.UUID, l.Skipped, revision, found = id, skipped, rev, true
		}
	}
	if !found {
		return ErrNoLog
	}
	return nil
}

func (l *Log) readWatermark(file string) (uint64, bool) {
	b, err := os.ReadFile(file)
	if err != nil || len(b) != 30 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:20]), 10, 64)
	return n, err == nil && n <= maxSeq && string(b[20:]) == fmt.Sprintf(" %08x\n", mixedCRC(b[:20], l.UUID))
}

// segment is a segment file.
type segment struct {
	number  uint64 // the number in its name
	data    []byte
	headers []header // the valid headers
	limit   uint64   // frames from this number on belong to a later segment
}

// first returns the lowest number of a frame that the segment may have had.
func (s segment) first() uint64 {
	switch {
	case len(s.headers) > 0:
		return min(s.number, s.headers[0].seq)
	case s.number > maxSeq/2: // no frame confirms this name, so ignore it
		return 0
	}
	return s.number
}

func segmentNumber(name string) (uint64, bool) {
	n, err := strconv.ParseUint(name, 10, 64)
	return n, len(name) == 20 && err == nil && n > 0 && n <= maxSeq
}

func (l *Log) readSegments(wal string) (segments []segment, err error) {
	entries, err := os.ReadDir(wal) // sorted by name, which is also the order of the numbers
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		n, ok := segmentNumber(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(wal, e.Name()))
		if err != nil {
			return nil, err
		}
		segments = append(segments, segment{number: n, data: data, headers: l.findHeaders(data)})
	}
	if len(segments) == 0 {
		return nil, ErrNoLog
	}
	limit := uint64(math.MaxUint64)
	for i := len(segments) - 1; i >= 0; i-- {
		s := &segments[i]
		s.limit = limit
		if len(s.headers) > 0 && s.headers[0].seq >= s.number {
			limit = min(limit, s.headers[0].seq)
		}
	}
	return segments, nil
}

// findHeaders returns the valid headers in a segment, except those inside the body of an intact
// frame.
func (l *Log) findHeaders(data []byte) (headers []header) {
	for at := 0; at < len(data); at++ {
		next := bytes.IndexByte(data[at:], 0xF7)
		if next < 0 {
			break
		}
		at += next
		h, ok := parseHeader(data, at, l.UUID)
		if !ok {
			continue
		}
		headers = append(headers, h)
		if h.intact {
			at = h.end() - 1
		}
	}
	return headers
}

// lose records that the numbers from l.expect up to next-1 are lost, if there are any.
func (l *Log) lose(next uint64) {
	if l.expect < next {
		l.Lost = append(l.Lost, Range{l.expect, next - 1})
		l.expect = next
	}
}

// walk reads the segments in order and collects the events and the lost numbers.
func (l *Log) walk(segments []segment) {
	last := len(segments) - 1
	for i, s := range segments {
		if i < last {
			for _, h := range s.headers {
				l.Durable = max(l.Durable, h.durable)
			}
		}
		l.lose(s.first())
		end := l.takeFrames(s)
		next := uint64(0)
		for _, h := range s.headers {
			if h.seq < s.limit && i < last {
				next = max(next, h.seq+1)
			}
		}
		l.lose(next)
		if i == last {
			l.TailSegment, l.TailEnd = s.number, end
			l.finish(segments, end)
		}
	}
}

// takeFrames adds the events of the intact frames of a segment, except the frames with numbers that
// belong to another segment. It returns the offset after the last frame that it adds.
func (l *Log) takeFrames(s segment) (end int) {
	taken := map[uint64]bool{}
	var found []Event
	for i, h := range s.headers {
		if !h.intact || h.seq < l.expect || h.seq >= s.limit {
			continue
		}
		e := Event{
			Seq: h.seq, Prev: h.prev, Durable: h.durable, HeaderCRC: h.headerCRC, Segment: s.number,
			Offset: h.at, Length: headerBytes + h.body, Body: s.data[h.at+headerBytes : h.end()],
		}
		end = max(end, h.end())
		if taken[e.Seq] { // if two frames have the same number, keep the one that follows its predecessor
			at := slices.IndexFunc(found, func(other Event) bool { return other.Seq == e.Seq })
			if i > 0 && s.headers[i-1].seq+1 == e.Seq {
				found[at] = e
			}
			continue
		}
		taken[e.Seq] = true
		found = append(found, e)
	}
	slices.SortFunc(found, func(a, b Event) int { return int(int64(a.Seq - b.Seq)) })
	for _, e := range found {
		l.lose(e.Seq)
		l.expect = e.Seq + 1
		if e.decodeBody() {
			l.Events = append(l.Events, e)
		} else {
			l.Lost = append(l.Lost, Range{e.Seq, e.Seq})
		}
	}
	return end
}

// finish classifies the bytes after the last intact frame of the last segment. It also finds the
// highest number that the log has reached.
func (l *Log) finish(segments []segment, end int) {
	s := segments[len(segments)-1]
	expected := l.expect
	for _, h := range s.headers {
		l.Durable = max(l.Durable, h.durable)
	}
	torn, next := l.leftover(s.data, end)
	reached := max(l.Durable, next-1)
	for i, s := range segments {
		for _, h := range s.headers {
			if torn < 0 || i+1 < len(segments) || h.at < torn {
				reached = max(reached, h.seq)
			}
		}
	}
	l.lose(reached + 1)
	l.Reached = max(reached, l.expect-1)
	l.TailClean = l.expect == expected && allZero(s.data[end:])
}

// leftover returns the offset at which a torn write begins after pos, or -1 if there is none. It
// also returns the next number after the damaged entries before that offset.
func (l *Log) leftover(data []byte, pos int) (torn int, next uint64) {
	next = l.expect
	for !allZero(data[pos:]) {
		written := len(bytes.TrimRight(data, "\x00"))
		sectors := min(len(data), (written+511)/512*512)
		if seq, ok := l.tornEntry(data[pos:sectors], next); ok && seq > l.Durable {
			return pos, seq
		}
		seq, bytes := l.damagedEntry(data[pos:])
		next = max(next, seq) + 1
		pos += bytes
	}
	return -1, next
}

// tornEntry reports whether b is a proper prefix of an entry. It also returns the number of the
// entry's frame, which is next unless a complete header has a higher number.
func (l *Log) tornEntry(b []byte, next uint64) (seq uint64, torn bool) {
	length, prefix := binary.Uvarint(b)
	if prefix == 0 {
		return next, len(b) < maxPrefix
	}
	if prefix < 0 || length < headerBytes || length > headerBytes+maxBody || uint64(len(b)-prefix) >= length {
		return 0, false
	}
	if frame := b[prefix:]; len(frame) < headerBytes {
		return next, strings.HasPrefix("\xf7ML\x01", string(frame[:min(4, len(frame))]))
	}
	h, ok := parseHeader(b, prefix, l.UUID)
	return h.seq, ok && h.seq >= next && uint64(headerBytes+h.body) == length
}

// damagedEntry returns the number and the length of the damaged entry at the start of b. If the
// number is unknown, it is 0. If the entry has a valid header, the length comes from the header.
// Otherwise it comes from the length prefix, but the entry ends at the next valid header. If the
// length prefix is not valid either, the rest of b is one entry.
func (l *Log) damagedEntry(b []byte) (seq uint64, entryBytes int) {
	for prefix := range min(maxPrefix+1, len(b)) {
		if h, ok := parseHeader(b, prefix, l.UUID); ok {
			return h.seq, min(h.end(), len(b))
		}
	}
	length, prefix := binary.Uvarint(b)
	entryBytes = len(b)
	if prefix > 0 && length >= headerBytes && length <= headerBytes+maxBody && length <= uint64(len(b)-prefix) {
		entryBytes = prefix + int(length)
	}
	for _, h := range l.findHeaders(b[:entryBytes]) {
		if h.at > maxPrefix { // the header belongs to a later entry, so this one ends here
			return 0, h.at
		}
	}
	if len(b)-entryBytes < maxPrefix+4 { // a rest shorter than a prefix and a magic is not an entry
		entryBytes = len(b)
	}
	return 0, entryBytes
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
