package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
)

// placed is an intact frame with its position in the segment.
type placed struct {
	Frame
	prevEnd int // end of the previous frame in the file
	start   int // start of its entry: the length prefix if that is intact, otherwise the header
}

func (p placed) end() int { return int(p.Offset + p.Length()) }

// findFrames returns the intact frames at or after pos in the order of the file. It leaves out
// frames with a number below s.nextSeq or not below s.limitSeq. If it finds a frame of a newer
// version, it returns the frames before that one and ErrNewerFormat.
func (s *Scan) findFrames(p part, data []byte, pos int) (found []placed, newer error) {
	prevEnd := pos
	for at := range magicOffsets(data[pos:]) {
		if at += pos; at < prevEnd { // within the body of the previous frame
			continue
		}
		if version := newerVersion(data[at:], &s.log); version != 0 {
			return found, newerFrameError(p, at, data[at:], version)
		}
		h, bodyBytes, ok := parseHeader(data[at:], &s.log)
		if !ok {
			continue
		}
		s.maxHeaderSeq = max(s.maxHeaderSeq, h.Seq)
		if h.Seq < s.nextSeq || h.Seq >= s.limitSeq || !isBodyIntact(data[at:], bodyBytes) {
			continue
		}
		f := placed{prevEnd: prevEnd, start: at}
		f.Frame = newFrame(h, data[at:at+HeaderBytes+bodyBytes], at)
		//mutant:length-prefix
		if prefix := binary.AppendUvarint(nil, uint64(f.Length())); bytes.HasSuffix(data[prevEnd:at], prefix) {
			f.start -= len(prefix)
		} // otherwise the length prefix is damaged, but no frame is lost
		found = append(found, f)
		prevEnd = f.end()
	}
	return found, nil
}

// newerFrameError returns an ErrNewerFormat for the frame at the start of b. Its offset is relative
// to the segment. The seq has the same position in the headers of all versions.
func newerFrameError(p part, offset int, b []byte, version byte) error {
	return fmt.Errorf("%w: segment %s, byte %d: the frame with seq %d has format version %d, but this program reads only version %d: use a newer program",
		ErrNewerFormat, p.name, offset, binary.LittleEndian.Uint64(b[8:]), version, FormatVersion)
}

// inOrder returns the frames in the order of their numbers. Normally they already are in this
// order. If the device misplaced writes, inOrder sorts them. If two frames have the same number,
// inOrder keeps the first one that directly follows its predecessor, or the first one if none does.
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
		if first, seen := chosen[f.Seq]; !seen || follows(i) && !follows(first) {
			chosen[f.Seq] = i
		}
	}
	var ordered []placed
	for i, f := range found {
		if chosen[f.Seq] != i { // the bytes of the other copy count as damage
			if i+1 < len(found) {
				found[i+1].prevEnd = found[i].prevEnd
			}
			continue
		}
		ordered = append(ordered, found[i])
	}
	//mutant:frames-sorted
	slices.SortFunc(ordered, func(a, b placed) int { return cmp.Compare(a.Seq, b.Seq) })
	return ordered
}

// magicOffsets yields the offsets of the magic in b.
func magicOffsets(b []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at := 0; at < len(b); at++ {
			skip := bytes.Index(b[at:], magic[:])
			if skip < 0 {
				return
			}
			if at += skip; !yield(at) {
				return
			}
		}
	}
}

// intactHeaders yields the intact headers in b with their offsets.
func intactHeaders(b []byte, log *uuid.UUID) iter.Seq2[int, Header] {
	return func(yield func(int, Header) bool) {
		for at := range magicOffsets(b) {
			if h, _, ok := parseHeader(b[at:], log); ok && !yield(at, h) {
				return
			}
		}
	}
}

// IntactHeaders yields the identity of each frame with an intact header in the content of a segment.
// The bodies of these frames may be damaged. The argument segment is the number in the segment's
// file name.
func IntactHeaders(data []byte, log uuid.UUID, segment uint64) iter.Seq[FrameID] {
	return func(yield func(FrameID) bool) {
		for at := range intactHeaders(data, &log) {
			if !yield(FrameIDOf(data[at:], segment)) {
				return
			}
		}
	}
}

func firstHeader(b []byte, log *uuid.UUID) (at int, h Header, ok bool) {
	for at, h := range intactHeaders(b, log) {
		return at, h, true
	}
	return 0, Header{}, false
}
