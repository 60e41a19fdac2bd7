package segment

import (
	"bytes"
	"encoding/binary"
)

// emitTail yields the damage after the last intact frame of the log and sets s.tail. The next
// number of the log is above every number that a complete frame may have had. The number of a torn
// write may be used again, because the write was not acknowledged.
//
// A writer can append to this segment only if its frames are consecutive and intact, and the first
// one has the number in the segment's name. Otherwise emitTail sets Dirty, and the writer starts a
// new segment.
func (s *Scan) emitTail(p part, data []byte, pos int) bool {
	end, next := s.leftover(data, pos)
	maxSeq := s.maxHeaderSeq
	if s.tail.Torn > 0 { // the number in the header of the torn write is free
		maxSeq = s.maxSealedSeq
		for _, h := range intactHeaders(data[:end], &s.log) {
			maxSeq = max(maxSeq, h.Seq)
		}
	}
	//mutant:named-number-taken
	if maxSeq >= next { // a misplaced frame has this number
		next = maxSeq + 1
	}
	//mutant:watermark-beyond-end
	if next <= s.losses.durableThrough { // frames up to durableThrough existed and are lost; the rest of the segment is damaged
		next, end = s.losses.durableThrough+1, len(data)
	}
	first, _ := ParseName(p.name)
	s.tail.Dirty = s.tail.Dirty || end > pos || first+s.frameCount != next
	if s.frameCount == 0 && first <= maxBareName {
		next = max(next, first) // without a frame, the name is the only evidence
	}
	if s.tail.Dirty && next == first {
		next = first + 1 // a new segment cannot have the name of this one
	}
	s.tail.Bytes, s.tail.Beyond = int64(end), int64(len(data)-end)
	if (end > pos || next > s.nextSeq) && !s.emitDamage(p.name, pos, data[pos:end], next, s.endReason(p, pos, data[pos:end], next)) {
		return false
	}
	if s.tail.Torn == 0 {
		return true
	}
	return s.yield(Item{Damage: &Damage{
		Segment: p.name, Offset: s.tail.Bytes, Length: s.tail.Torn, FirstSeq: s.nextSeq, LastSeq: s.nextSeq,
		Torn: true, DurableThrough: s.tornThrough, Reason: "the last write is not whole", Severity: Harmless,
	}}, nil)
}

// leftover examines the bytes after pos, the end of the last intact frame. It returns the end of
// the damaged entries, and the next free number. If a torn write follows the damaged entries,
// leftover also sets s.tail.Torn.
//
// Zeros are unused space. An incomplete entry that is followed by the end of the file or by zeroed
// sectors is a torn write. Any other bytes are damaged entries. If it is unknown how many frames
// they held, leftover counts one frame, so that its number is not reused.
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
		case h.Seq == 0 && found: // the entry ends before the found header, which the next iteration reads
			n = minLength + at
		case h.Seq >= next:
			next = h.Seq + 1
		default: // without a usable number, count one frame
			next = min(next+1, MaxSeq+1) // no frame has a number above MaxSeq
		}
		// If the header is damaged, the end of the entry comes from its length prefix, which may be
		// damaged too. If so few bytes follow that no other entry could be recognized in them, they
		// count as a part of this entry.
		if end += n; h.Seq == 0 && len(data)-end < maxPrefixBytes+len(magicAndVersion) {
			end = len(data)
		}
	}
	return end, next
}

// writtenEnd returns the end of the last sector that has a nonzero byte. A device writes whole
// sectors, and unused space is zeros.
func writtenEnd(data []byte) int {
	written := len(bytes.TrimRight(data, "\x00"))
	return min(len(data), (written+sectorBytes-1)/sectorBytes*sectorBytes)
}

const sectorBytes = 512 //mutant:sector-size

// tornEntry reports whether b can be the first part of an entry whose write was interrupted. It
// returns the header of the entry's frame. If b does not contain the complete header, tornEntry
// returns a Header with only Seq set. Seq is then the parameter next, the probable number.
func (s *Scan) tornEntry(b []byte, next uint64) (h Header, torn bool) {
	length, k := binary.Uvarint(b)
	if k == 0 { // b ends within the length prefix
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

// damagedEntry returns the header of the damaged entry at the start of b, if the header is intact,
// and the entry's length n, which includes the length prefix. n is 0 if the entry ends after b, or
// if neither the header nor the prefix gives a valid length. An intact header takes precedence over
// the prefix.
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
