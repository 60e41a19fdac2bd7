package detcbor

import (
	"encoding/binary"
	"math"
)

// The major types, in the upper three bits of an item's initial byte. The lower five bits are the
// argument itself, or the number of argument bytes that follow.
const (
	MajorUint  byte = 0 << 5
	MajorBytes byte = 2 << 5
	MajorText  byte = 3 << 5
	MajorArray byte = 4 << 5
	MajorMap   byte = 5 << 5

	majorMask = ^byte(1<<5 - 1)
)

// MajorOf returns the major type of an item from its initial byte.
func MajorOf(initial byte) byte { return initial & majorMask }

// MaxDirect is the largest argument that fits into the initial byte.
const MaxDirect = argUint8 - 1

// HeadOfUint64 is the initial byte of an integer above 32 bits. 8 bytes with the integer follow it.
const HeadOfUint64 = MajorUint | argUint64

const (
	argUint8  byte = 24 // a smaller argument is in the initial byte
	argUint16 byte = 25
	argUint32 byte = 26
	argUint64 byte = 27

	itemFalse byte = 0xF4
	itemTrue  byte = 0xF5
)

// AppendHead appends the head of an item with argument n. The argument is the value of an integer,
// or the number of bytes of a string, of elements of an array, or of pairs of a map.
func AppendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < uint64(argUint8):
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|argUint8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|argUint16), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|argUint32), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|argUint64), n)
}

// AppendUint appends a map's pair of a key below 24 and an unsigned integer.
func AppendUint(b []byte, key byte, n uint64) []byte {
	return AppendHead(append(b, key), MajorUint, n)
}

// AppendBool appends a map's pair of a key below 24 and a boolean.
func AppendBool(b []byte, key byte, v bool) []byte {
	if v {
		return append(b, key, itemTrue)
	}
	return append(b, key, itemFalse)
}

// AppendBytes appends a map's pair of a key below 24 and a byte string.
func AppendBytes(b []byte, key byte, v []byte) []byte {
	return append(AppendHead(append(b, key), MajorBytes, uint64(len(v))), v...)
}

// BeginMap appends the head of an empty map. A caller that appends a pair must increment the byte
// at head. The map can have up to 23 pairs.
func BeginMap(b []byte) (_ []byte, head int) { return append(b, MajorMap), len(b) }

// AppendNonzero appends a pair of a key below 24 and a number to the map that begins at head. It
// omits the pair if the number is zero.
func AppendNonzero(b []byte, head int, key byte, n uint64) []byte {
	if n == 0 {
		return b
	}
	b[head]++
	return AppendUint(b, key, n)
}

// Cursor reads items in the deterministic form. If it meets any other form, it fails. A failed
// cursor stays failed and returns zero values. The caller therefore needs to check only once, with
// Done.
//
// The cursor advances an index instead of the slice, because storing a pointer needs a write
// barrier while the garbage collector runs.
type Cursor struct {
	b  []byte
	at int // index of the next item, or failedAt if the cursor failed
}

const failedAt = -1

// NewCursor returns a cursor at the start of b.
func NewCursor(b []byte) Cursor { return Cursor{b: b} }

// Fail makes the cursor fail.
func (c *Cursor) Fail() { c.at = failedAt }

// Failed reports whether the cursor has failed.
func (c *Cursor) Failed() bool { return c.at == failedAt }

// Done reports whether the cursor has read all of its bytes and has not failed.
func (c *Cursor) Done() bool { return c.at == len(c.b) }

// Advance skips n bytes that the caller has read itself.
func (c *Cursor) Advance(n int) { c.at += n }

// Left returns the bytes that the cursor has not read yet, or nil if it failed.
func (c *Cursor) Left() []byte {
	if c.Failed() {
		return nil
	}
	return c.b[c.at:]
}

// next returns the next byte without reading it. It returns false at the end of the bytes, or if
// the cursor failed.
func (c *Cursor) next() (byte, bool) {
	if uint(c.at) < uint(len(c.b)) {
		return c.b[c.at], true
	}
	return 0, false
}

// Head reads the head of an item and returns its argument. The cursor fails if the item has another
// major type.
func (c *Cursor) Head(major byte) uint64 {
	if first, ok := c.next(); ok {
		if n := first - major; n < argUint8 {
			c.at++
			return uint64(n)
		}
	}
	return c.longHead(major)
}

// longHead is like Head, for an argument that is not in the initial byte.
func (c *Cursor) longHead(major byte) uint64 {
	b := c.Left()
	if len(b) == 0 {
		c.Fail()
		return 0
	}
	var n, shorter uint64 // shorter is the largest argument of the next shorter form
	size := 1             // length of the head in bytes
	switch arg := b[0] - major; {
	case arg == argUint8 && len(b) > 1:
		n, shorter, size = uint64(b[1]), uint64(argUint8-1), 2
	case arg == argUint16 && len(b) > 2:
		n, shorter, size = uint64(binary.BigEndian.Uint16(b[1:])), math.MaxUint8, 3
	case arg == argUint32 && len(b) > 4:
		n, shorter, size = uint64(binary.BigEndian.Uint32(b[1:])), math.MaxUint16, 5
	case arg == argUint64 && len(b) > 8:
		n, shorter, size = binary.BigEndian.Uint64(b[1:]), math.MaxUint32, 9
	}
	if n <= shorter { // also true if no case applied
		c.Fail()
		return 0
	}
	c.at += size
	return n
}

// HeadOf reads the head of an item. The cursor fails if the argument is not n.
func (c *Cursor) HeadOf(major byte, n uint64) {
	if c.Head(major) != n {
		c.Fail()
	}
}

// Key reads a map's key below 24. The cursor fails if the key is another.
func (c *Cursor) Key(key byte) {
	if k, ok := c.next(); ok && k == key {
		c.at++
		return
	}
	c.Fail()
}

// Uint reads a map's pair of the key and an unsigned integer.
func (c *Cursor) Uint(key byte) uint64 {
	c.Key(key)
	return c.Head(MajorUint)
}

// Uint32 reads a map's pair of the key and an unsigned integer of at most 32 bits.
func (c *Cursor) Uint32(key byte) uint32 { return c.Fits32(c.Uint(key)) }

// Fits32 returns n. If n has more than 32 bits, the cursor fails and Fits32 returns 0.
func (c *Cursor) Fits32(n uint64) uint32 {
	if n > math.MaxUint32 {
		c.Fail()
		return 0
	}
	return uint32(n)
}

// Bool reads a map's pair of the key and a boolean.
func (c *Cursor) Bool(key byte) bool {
	c.Key(key)
	item, _ := c.next()
	if item != itemFalse && item != itemTrue {
		c.Fail()
		return false
	}
	c.at++
	return item == itemTrue
}

// String reads a map's pair of the key and a byte string or text string, depending on the major
// type. The result is a subslice of the cursor's bytes.
func (c *Cursor) String(key, major byte) []byte {
	c.Key(key)
	return c.Span(major)
}

// Span reads a byte string or a text string, depending on the major type. The result is a subslice
// of the cursor's bytes.
func (c *Cursor) Span(major byte) []byte {
	n, left := c.Head(major), c.Left()
	if n > uint64(len(left)) {
		c.Fail()
		return nil
	}
	c.at += int(n)
	return left[:n]
}

// Skip reads an item of any type, with the items in it.
func (c *Cursor) Skip() {
	first, ok := c.next()
	if !ok {
		c.Fail()
		return
	}
	switch major := MajorOf(first); major {
	case MajorUint:
		c.Head(major)
	case MajorBytes, MajorText:
		c.Span(major)
	case MajorArray, MajorMap:
		items := c.Head(major)
		if items > uint64(len(c.Left())) { // each has at least one byte
			c.Fail()
		} else if major == MajorMap {
			items *= 2
		}
		for ; items > 0 && !c.Failed(); items-- {
			c.Skip()
		}
	default:
		if first != itemFalse && first != itemTrue {
			c.Fail()
			return
		}
		c.at++
	}
}
