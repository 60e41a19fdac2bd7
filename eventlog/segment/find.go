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

// placed is a whole frame and where it lies.
type placed struct {
	Frame
	prevEnd int // where the frame before it in the file ends
	start   int // where its entry starts: at its length prefix, if that is sound
}

func (p placed) end() int { return int(p.Offset + p.Length()) }

// findFrames returns the whole frames at or after pos whose numbers are still to come, in
// the order of the file. At a frame of a newer version it stops, and returns ErrNewerFormat with
// the frames before that one.
func (s *Scan) findFrames(p part, data []byte, pos int) (found []placed, newer error) {
	prevEnd := pos
	for at := range magicOffsets(data[pos:]) {
		if at += pos; at < prevEnd { // in the body of one
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
		} // else its length is damaged, and costs nothing
		found = append(found, f)
		prevEnd = f.end()
	}
	return found, nil
}

// newerFrameError returns an ErrNewerFormat for the frame at the start of b, which lies at that
// offset. The seq is at the same offset in every version.
func newerFrameError(p part, offset int, b []byte, version byte) error {
	return fmt.Errorf("%w: segment %s, byte %d: the frame with seq %d has format version %d, but this program reads only version %d: use a newer program",
		ErrNewerFormat, p.name, offset, binary.LittleEndian.Uint64(b[8:]), version, FormatVersion)
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
		if first, seen := chosen[f.Seq]; !seen || follows(i) && !follows(first) {
			chosen[f.Seq] = i
		}
	}
	var ordered []placed
	for i, f := range found {
		if chosen[f.Seq] != i { // its bytes belong to no frame
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

// magicOffsets yields the offsets at which the magic is.
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

// intactHeaders yields the sound headers among the bytes, and where they begin.
func intactHeaders(b []byte, log *uuid.UUID) iter.Seq2[int, Header] {
	return func(yield func(int, Header) bool) {
		for at := range magicOffsets(b) {
			if h, _, ok := parseHeader(b[at:], log); ok && !yield(at, h) {
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
