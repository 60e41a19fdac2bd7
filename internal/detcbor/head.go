package detcbor

import (
	"encoding/binary"
	"math"
)

// Major types, in the place that they have in the first byte of an item.
const (
	Unsigned = 0 << 5
	Bytes    = 2 << 5
	Text     = 3 << 5
	Array    = 4 << 5
	Map      = 5 << 5
)

// Additional information in the first byte: up to direct it is the argument itself, above it the
// argument follows in so many bytes.
const (
	direct     = 23
	oneByte    = 24
	twoBytes   = 25
	fourBytes  = 26
	eightBytes = 27
	infoMask   = 1<<5 - 1
)

// AppendHead appends the head of an item of a major type: a number, or the length of what follows.
func AppendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n <= direct:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|oneByte, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|twoBytes), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|fourBytes), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|eightBytes), n)
}

// AppendBytes appends a byte string.
func AppendBytes(dst, b []byte) []byte { return append(AppendHead(dst, Bytes, uint64(len(b))), b...) }

// Head reads the head of the item at the start of b. It returns false if b does not begin with
// the shortest form of a head of that major type.
func Head(b []byte, major byte) (n uint64, rest []byte, ok bool) {
	if len(b) == 0 || b[0]&^infoMask != major {
		return 0, b, false
	}
	info, rest := b[0]&infoMask, b[1:]
	switch {
	case info <= direct:
		return uint64(info), rest, true
	case info == oneByte && len(rest) >= 1:
		n = uint64(rest[0])
		return n, rest[1:], n > direct
	case info == twoBytes && len(rest) >= 2:
		n = uint64(binary.BigEndian.Uint16(rest))
		return n, rest[2:], n > math.MaxUint8
	case info == fourBytes && len(rest) >= 4:
		n = uint64(binary.BigEndian.Uint32(rest))
		return n, rest[4:], n > math.MaxUint16
	case info == eightBytes && len(rest) >= 8:
		n = binary.BigEndian.Uint64(rest)
		return n, rest[8:], n > math.MaxUint32
	}
	return 0, b, false
}

// ByteString reads the byte string at the start of b, which shares its memory.
func ByteString(b []byte) (s, rest []byte, ok bool) {
	n, rest, ok := Head(b, Bytes)
	if !ok || n > uint64(len(rest)) {
		return nil, b, false
	}
	return rest[:n:n], rest[n:], true
}
