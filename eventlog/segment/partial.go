package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"

	"github.com/google/uuid"
)

// Position is a place between two frames of a log. The zero value is no position.
type Position struct {
	Segment string // file name
	Offset  int64  // end of the frame before the position
	NextSeq uint64 // the number that follows that frame's number
}

// after returns the names without the segments before opts.After.
func (s *Scan) after(names []string) ([]string, error) {
	if s.opts.After == (Position{}) {
		return names, nil
	}
	at := slices.Index(names, s.opts.After.Segment)
	if at < 0 {
		return nil, fmt.Errorf("segment %s: %w", s.opts.After.Segment, fs.ErrNotExist)
	}
	return names[at:], nil
}

// Unread returns the number of segments that were not read completely so far because of the
// ScanOptions.
func (s *Scan) Unread() int { return s.unread }

// Read returns the number of segments that were read completely so far, and the number of all
// segments of the log.
func (s *Scan) Read() (read, all int) { return s.readCount, len(s.parts) }

// skips reports whether the segment is skipped because of ScanOptions.From. The last segment is
// never skipped.
func (s *Scan) skips(i int) bool {
	if i+1 == len(s.parts) {
		return false
	}
	next := s.parts[i+1]
	return next.headSeq != 0 && next.headSeq <= s.opts.From && (!s.opts.CheckEnds || s.continues(i))
}

// pick yields the frames that ScanOptions.Only has selected. It returns picked = false if the whole
// segment must be read, and ok = false if the consumer stopped the sequence.
func (s *Scan) pick(p part) (picked, ok bool) {
	if p.lastSeq == 0 || p.nameSeq != s.nextSeq {
		return false, true
	}
	frames, found := s.framesOf(p)
	if !found {
		return false, true
	}
	for _, f := range frames {
		f.Segment, f.segmentSeq = p.name, p.nameSeq
		if !s.yield(Item{Frame: f}, nil) {
			return true, false
		}
	}
	s.unread++
	s.nextSeq = p.lastSeq + 1
	return true, true
}

// pickedBytes is the number of bytes that framesOf reads at once. It is more than an entry has.
const pickedBytes = 256 << 10

// framesOf returns the selected frames of a segment. It follows the length prefixes of the entries
// before them, and verifies only the selected frames. It returns false if one of them is not intact
// or has another number.
func (s *Scan) framesOf(p part) (frames []Frame, ok bool) {
	if len(p.only) == 0 {
		return nil, true
	}
	f, err := s.fsys.Open(path.Join(WALDir, p.name))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	var b []byte
	offset, seq := int64(0), p.nameSeq // of the entry at the start of b
	for _, wanted := range p.only {
		for found := false; !found; seq++ {
			end, k := firstEntry(b)
			if end == 0 {
				if b, err = readAt(f, offset, pickedBytes); err != nil {
					return nil, false
				}
				if end, k = firstEntry(b); end == 0 {
					return nil, false
				}
			}
			if found = seq == wanted; found {
				h, frame := intactEntry(b[:end], &s.log)
				if frame == nil || h.Seq != wanted { //mutant:picked-frame
					return nil, false
				}
				frames = append(frames, newFrame(h, frame, int(offset)+k))
			}
			b, offset = b[end:], offset+int64(end)
		}
	}
	return frames, true
}

// firstEntry returns the end of the entry at the start of b, and the length of its prefix, or 0 if b
// does not have the whole entry. It does not verify the entry.
func firstEntry(b []byte) (end, prefix int) {
	length, k := binary.Uvarint(b)
	if k <= 0 || length > uint64(len(b)-k) {
		return 0, 0
	}
	return k + int(length), k
}

// continues reports whether the segment looks complete: its name and first header have the next
// number, its last frame ends at the end of the file, and the next segment starts with the number
// after that frame. If continues cannot read the end of the segment, it returns false. The segment
// is then read, which returns the error.
func (s *Scan) continues(i int) bool {
	p, next := s.parts[i], s.parts[i+1]
	if p.nameSeq != s.nextSeq || p.headSeq != p.nameSeq || next.headSeq != next.nameSeq {
		return false
	}
	end, err := s.end(p.name)
	if err != nil {
		return false
	}
	var lastSeq uint64
	frameEnd := 0
	for at, h := range intactHeaders(end, &s.log) {
		_, bodyBytes, _ := parseHeader(end[at:], &s.log)
		lastSeq, frameEnd = h.Seq, at+HeaderBytes+bodyBytes
	}
	return lastSeq+1 == next.nameSeq && frameEnd == len(end)
}

// end reads the last bytes of a segment. They contain the header of its last frame if no unused
// space follows the frame.
func (s *Scan) end(name string) ([]byte, error) {
	f, err := s.fsys.Open(path.Join(WALDir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	length := min(info.Size(), HeaderBytes+MaxBodyBytes)
	return readAt(f, info.Size()-length, int(length))
}

// Again yields the items of one segment again. The segment must not be the last one. Call Again
// only after Items has yielded all items.
func (s *Scan) Again(name string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		i := slices.IndexFunc(s.parts, func(p part) bool { return p.name == name })
		again := *s
		again.yield, again.nextSeq, again.losses = yield, s.parts[i].entrySeq, Losses{}
		again.scanPart(i)
	}
}

// Place is where an intact frame is in the log, with the data that identifies the frame.
type Place struct {
	Segment        string // file name
	Offset, Length int64  // of the frame in the segment
	Seq            uint64
	HeaderCRC32C   uint32
}

// Position returns the position after the frame.
func (p Place) Position() Position {
	return Position{Segment: p.Segment, Offset: p.Offset + p.Length, NextSeq: p.Seq + 1}
}

// checkedBytes is the number of bytes after a frame in which Check looks for a later frame. The next
// frame may be overwritten with zeros up to the end of a page.
const checkedBytes = 4 << 10

// Check reads the frame's header. It reports whether the log still has the frame at this place, and
// whether anything follows: bytes other than unused space, or a later segment.
func (p Place) Check(fsys fs.FS, log uuid.UUID) (present, followed bool, err error) {
	f, err := fsys.Open(path.Join(WALDir, p.Segment))
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	header, err := readAt(f, p.Offset, HeaderBytes)
	if err != nil {
		return false, false, err
	}
	h, bodyBytes, ok := parseHeader(header, &log)
	if !ok || h.Seq != p.Seq || HeaderBytes+int64(bodyBytes) != p.Length || binary.LittleEndian.Uint32(header[headerCRCOffset:]) != p.HeaderCRC32C {
		return false, false, nil
	}
	after, err := readAt(f, p.Offset+p.Length, checkedBytes)
	if err != nil || !allZero(after) {
		return true, true, err
	}
	names, err := Names(fsys)
	return true, len(names) > 0 && names[len(names)-1] > p.Segment, err
}

// readAt reads the bytes at an offset of a file, fewer at the file's end.
func readAt(f fs.File, offset int64, length int) ([]byte, error) {
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, fmt.Errorf("%w: the file system cannot read at an offset", fs.ErrInvalid)
	}
	b := make([]byte, length)
	n, err := at.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}
