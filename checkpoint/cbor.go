package checkpoint

import (
	"encoding/binary"
	"math"
)

// This file writes and reads the CBOR items (RFC 8949) that events and payloads consist of, in
// the one form of Core Deterministic Encoding (4.2.1): lengths are definite, every integer has
// its shortest form, and the keys of a map ascend.

// The major types, as the upper three bits of an initial byte. The lower five bits are the
// argument, or how many bytes of it follow.
const (
	majorUint  byte = 0 << 5
	majorBytes byte = 2 << 5
	majorText  byte = 3 << 5
	majorArray byte = 4 << 5
	majorMap   byte = 5 << 5
	argMask    byte = 1<<5 - 1

	argUint8  byte = 24 // a smaller argument is in the initial byte itself
	argUint16 byte = 25
	argUint32 byte = 26
	argUint64 byte = 27

	itemFalse byte = 0xF4
	itemTrue  byte = 0xF5
)

// appendHead appends the head of an item with the argument n. The argument is the value of an
// integer, the bytes of a string, the elements of an array, or the pairs of a map.
func appendHead(b []byte, major byte, n uint64) []byte {
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

// appendUint appends a pair of a map: a key below 24 and an unsigned integer.
func appendUint(b []byte, key byte, n uint64) []byte {
	return appendHead(append(b, key), majorUint, n)
}

// appendBool appends a pair of a map: a key below 24 and a boolean.
func appendBool(b []byte, key byte, v bool) []byte {
	if v {
		return append(b, key, itemTrue)
	}
	return append(b, key, itemFalse)
}

// appendBytes appends a pair of a map: a key below 24 and a byte string.
func appendBytes(b []byte, key byte, v []byte) []byte {
	return append(appendHead(append(b, key), majorBytes, uint64(len(v))), v...)
}

// cursor reads items in the deterministic form. At anything else it fails. A failed cursor
// stays failed and yields zeros, so the caller needs to ask only once, by done. It moves an
// index and not the slice, since storing a pointer takes a write barrier while the garbage
// collector runs.
type cursor struct {
	b  []byte
	at int // of the next item; failedAt if the cursor failed
}

const failedAt = -1

// fail makes the cursor fail.
func (c *cursor) fail() { c.at = failedAt }

// failed reports whether the cursor has failed.
func (c *cursor) failed() bool { return c.at == failedAt }

// done reports whether the cursor has read all of its bytes and has not failed.
func (c *cursor) done() bool { return c.at == len(c.b) }

// left returns the bytes after the items read, or nil if the cursor failed.
func (c *cursor) left() []byte {
	if c.failed() {
		return nil
	}
	return c.b[c.at:]
}

// next returns the next byte, which it does not read. It returns false at the end of the bytes
// and if the cursor failed.
func (c *cursor) next() (byte, bool) {
	if uint(c.at) < uint(len(c.b)) {
		return c.b[c.at], true
	}
	return 0, false
}

// head reads the head of an item of the major type and returns its argument.
func (c *cursor) head(major byte) uint64 {
	if first, ok := c.next(); ok {
		if n := first - major; n < argUint8 {
			c.at++
			return uint64(n)
		}
	}
	return c.longHead(major)
}

// longHead is head for an argument that is not in the initial byte.
func (c *cursor) longHead(major byte) uint64 {
	b := c.left()
	if len(b) == 0 {
		c.fail()
		return 0
	}
	var n, shorter uint64 // shorter is the largest argument of the next shorter form
	size := 1             // of the head
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
	if n <= shorter { // also if no case applied
		c.fail()
		return 0
	}
	c.at += size
	return n
}

// headOf reads the head of an item of the major type whose argument must be n.
func (c *cursor) headOf(major byte, n uint64) {
	if c.head(major) != n {
		c.fail()
	}
}

// key reads a key below 24 of a map.
func (c *cursor) key(key byte) {
	if k, ok := c.next(); ok && k == key {
		c.at++
		return
	}
	c.fail()
}

// uint reads a pair of a map: the key and an unsigned integer.
func (c *cursor) uint(key byte) uint64 {
	c.key(key)
	return c.head(majorUint)
}

// uint32 reads a pair of a map: the key and an unsigned integer of at most 32 bits.
func (c *cursor) uint32(key byte) uint32 { return c.fits32(c.uint(key)) }

// fits32 returns n, or makes the cursor fail if n has more than 32 bits.
func (c *cursor) fits32(n uint64) uint32 {
	if n > math.MaxUint32 {
		c.fail()
		return 0
	}
	return uint32(n)
}

// bool reads a pair of a map: the key and a boolean.
func (c *cursor) bool(key byte) bool {
	c.key(key)
	item, _ := c.next()
	if item != itemFalse && item != itemTrue {
		c.fail()
		return false
	}
	c.at++
	return item == itemTrue
}

// string reads a pair of a map: the key and a byte string or a text string, depending on the
// major type. The result is a part of the cursor's bytes.
func (c *cursor) string(key, major byte) []byte {
	c.key(key)
	n, left := c.head(major), c.left()
	if n > uint64(len(left)) {
		c.fail()
		return nil
	}
	c.at += int(n)
	return left[:n]
}
