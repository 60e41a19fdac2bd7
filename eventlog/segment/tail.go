package segment

import (
	"bytes"
	"encoding/binary"
)

// emitTail reports what is left of the last segment behind its last whole frame, and
// decides where the log goes on: behind every number that may have been given, and
// in a new segment unless this one is, from its name on, one frame after another.
func (s *Scan) emitTail(p part, data []byte, pos int) bool {
	end, next := s.leftover(data, pos)
	maxSeq := s.maxHeaderSeq
	if s.tail.Torn > 0 { // it names itself
		maxSeq = s.maxSealedSeq
		for _, h := range intactHeaders(data[:end], &s.log) {
			maxSeq = max(maxSeq, h.Seq)
		}
	}
	//mutant:named-number-taken
	if maxSeq >= next { // by a frame out of its place: it is not free
		next = maxSeq + 1
	}
	//mutant:watermark-beyond-end
	if next <= s.losses.durableThrough { // there were more
		next, end = s.losses.durableThrough+1, len(data)
	}
	first, _ := ParseName(p.name)
	s.tail.Dirty = s.tail.Dirty || end > pos || first+s.frameCount != next
	if s.frameCount == 0 && first <= maxBareName {
		next = max(next, first) // no frame speaks against the name
	}
	if s.tail.Dirty && next == first {
		next = first + 1 // the name is taken
	}
	s.tail.Bytes, s.tail.Beyond = int64(end), int64(len(data)-end)
	if (end > pos || next > s.nextSeq) && !s.emitDamage(p.name, pos, data[pos:end], next) {
		return false
	}
	if s.tail.Torn == 0 {
		return true
	}
	return s.yield(Item{Damage: &Damage{
		Segment: p.name, Offset: s.tail.Bytes, Length: s.tail.Torn, FirstSeq: s.nextSeq, LastSeq: s.nextSeq,
		Torn: true, DurableThrough: s.tornThrough, Reason: "the last write is not whole",
	}}, nil)
}

// leftover returns where the entries end that were written behind pos, and the
// number that comes next. Zeros are space not used yet; the strict beginning of an
// entry, with nothing or with sectors of zeros behind it, is a write that was cut
// short. All else was written and is damaged. Where
// nothing tells how many frames it held, it is taken for one, so that its number is
// not given again.
func (s *Scan) leftover(data []byte, pos int) (end int, next uint64) {
	end, next = pos, s.nextSeq
	written := writtenEnd(data) //mutant:written-sectors
	for !allZero(data[end:]) {  //mutant:unused-space
		//mutant:torn-tail-found
		if h, torn := s.tornEntry(data[end:written], next); torn && h.Seq > s.losses.durableThrough {
			s.tail.Torn = int64(written - end)
			s.tornThrough = h.DurableThrough
			s.losses.RaiseDurable(h.DurableThrough)
			return end, h.Seq
		}
		h, n := s.damagedEntry(data[end:])
		if n == 0 {
			n = len(data) - end
		}
		minLength := min(n, maxPrefixBytes+1)
		at, _, found := firstHeader(data[end+minLength:end+n], &s.log)
		switch {
		case h.Seq == 0 && found: // that will say what these bytes were
			n = minLength + at
		case h.Seq >= next:
			next = h.Seq + 1
		default: // also a copy of an earlier frame, in the place of one
			next = min(next+1, MaxSeq+1) // no frame has a number above MaxSeq
		}
		// Where the length alone says where the entry ends, and leaves less than tells an
		// entry's beginning, that is the entry's end: its length is damaged too.
		if end += n; h.Seq == 0 && len(data)-end < maxPrefixBytes+len(magicAndVersion) {
			end = len(data)
		}
	}
	return end, next
}

// writtenEnd is where the last sector ends of which anything was written: a device writes
// whole sectors, and space that is not used yet is zeros.
func writtenEnd(data []byte) int {
	written := len(bytes.TrimRight(data, "\x00"))
	return min(len(data), (written+sectorBytes-1)/sectorBytes*sectorBytes)
}

const sectorBytes = 512 //mutant:sector-size

// tornEntry reports whether b is the beginning of an entry whose write was cut short: a proper prefix
// of it, intact as far as it goes. It returns the header of the entry's frame. If b does not hold all
// of that, it returns only the number next, which the frame probably had.
func (s *Scan) tornEntry(b []byte, next uint64) (h Header, torn bool) {
	length, k := binary.Uvarint(b)
	if k == 0 { // not even the prefix is whole
		return Header{Seq: next}, len(b) < maxPrefixBytes
	}
	if k < 0 || length < HeaderBytes || length > HeaderBytes+MaxBodyBytes || uint64(len(b)-k) >= length {
		return Header{}, false
	}
	frame := b[k:]
	if len(frame) < HeaderBytes {
		n := min(len(frame), len(magicAndVersion))
		return Header{Seq: next}, bytes.Equal(frame[:n], magicAndVersion[:n])
	}
	h, bodyBytes, ok := parseHeader(frame, &s.log)
	return h, ok && h.Seq >= next && uint64(HeaderBytes+bodyBytes) == length
}

// damagedEntry reads the damaged entry at the start of b: its header, if that can be
// believed, and its length with the prefix, 0 where b does not hold it to its
// end. A sound header is believed before the prefix is.
func (s *Scan) damagedEntry(b []byte) (h Header, n int) {
	for k := 0; k <= maxPrefixBytes && k < len(b); k++ {
		if h, bodyBytes, ok := parseHeader(b[k:], &s.log); ok {
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
