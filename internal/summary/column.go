package summary

import "math/bits"

// column is a list of unsigned integers of the same width. One of them can be read without the
// others. All integers are little-endian.
type column struct {
	b     []byte
	width int // of one integer in bytes, 1 to 8
}

// widthOf returns the number of bytes that an integer of at most max needs, at least 1.
func widthOf(max uint64) int { return (bits.Len64(max|1) + 7) / 8 }

// appendUint appends an integer of that width.
func appendUint(b []byte, n uint64, width int) []byte {
	for range width {
		b = append(b, byte(n))
		n >>= 8
	}
	return b
}

// at returns the integer with the index i.
func (c column) at(i int) (n uint64) {
	for k, v := range c.b[i*c.width:][:c.width] {
		n |= uint64(v) << (8 * k)
	}
	return n
}

// cursor reads a section from its beginning. If the bytes end early, it fails, and all further
// results are zero.
type cursor struct {
	b      []byte
	failed bool
}

// bytes returns the next n bytes.
func (c *cursor) bytes(n int) []byte {
	if c.failed || n < 0 || n > len(c.b) {
		c.failed = true
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// uint reads an integer of that width.
func (c *cursor) uint(width int) uint64 {
	b := c.bytes(width)
	if c.failed {
		return 0
	}
	return column{b, width}.at(0)
}

// width reads the width of a column.
func (c *cursor) width() int {
	w := int(c.uint(1))
	if w < 1 || w > 8 {
		c.failed = true
		return 1
	}
	return w
}

// column reads n integers of that width.
func (c *cursor) column(n, width int) column {
	if n > len(c.b) {
		c.failed = true
		return column{}
	}
	return column{c.bytes(n * width), width}
}

// done reports whether all bytes were read, and no read has failed.
func (c *cursor) done() bool { return !c.failed && len(c.b) == 0 }
