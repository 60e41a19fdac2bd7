package checkpoint_test

import (
	"encoding/binary"
	"math"
	"slices"
)

// boundaries are the values at which the form of an integer changes, and their neighbors.
var boundaries = []uint64{
	0, 1, 2, 7, 16, 23, 24, math.MaxUint8, math.MaxUint8 + 1, math.MaxUint8 + 2, math.MaxUint16, math.MaxUint16 + 1,
	math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64,
}

// mutations change a valid encoding into one that a decoder could easily misread. Each function
// changes a copy of b at a place. The value n selects the change. The function returns nil if there
// is no such place.
var mutations = map[string]func(b []byte, place int, n uint64) []byte{
	"flip a bit":   atByte(func(b []byte, at int, n uint64) []byte { b[at] ^= 1 << (n % 8); return b }),
	"set a byte":   atByte(func(b []byte, at int, n uint64) []byte { b[at] = byte(n); return b }),
	"truncate":     atByte(func(b []byte, at int, _ uint64) []byte { return slices.Clip(b[:at]) }),
	"insert":       atByte(func(b []byte, at int, n uint64) []byte { return slices.Insert(b, at, byte(n)) }),
	"delete":       atByte(func(b []byte, at int, _ uint64) []byte { return slices.Delete(b, at, at+1) }),
	"cut the head": atByte(func(b []byte, at int, _ uint64) []byte { return b[at:] }),
	"trailing": func(b []byte, place int, n uint64) []byte {
		if place > 0 {
			return nil
		}
		return append(slices.Clone(b), byte(n))
	},

	"longer form": atItem(func(b []byte, i item, n uint64) []byte {
		return slices.Replace(b, i.at, i.end, headOf(i.major, i.arg, 1<<(n%4))...)
	}),
	"other argument": atItem(func(b []byte, i item, n uint64) []byte {
		return slices.Replace(b, i.at, i.end, shortestHead(i.major, n)...)
	}),
	"longer string": atItem(func(b []byte, i item, n uint64) []byte {
		b = slices.Insert(b, i.stringEnd(b), byte(n))
		return slices.Replace(b, i.at, i.end, shortestHead(i.major, i.arg+1)...)
	}),
	"shorter string": atItem(func(b []byte, i item, _ uint64) []byte {
		end := i.stringEnd(b)
		b = slices.Delete(b, max(i.end, end-1), end)
		return slices.Replace(b, i.at, i.end, shortestHead(i.major, max(1, i.arg)-1)...)
	}),
	"other type": atItem(func(b []byte, i item, n uint64) []byte {
		b[i.at] = b[i.at]&0x1F | byte(n%8)<<5
		return b
	}),
	"other item": atItem(func(b []byte, i item, n uint64) []byte {
		return slices.Replace(b, i.at, i.end, []byte{0xF4, 0xF5, 0xF6, 0xF7, 0xFF, 0x20, 0x60, 0x40}[n%8])
	}),
	"indefinite length": atItem(func(b []byte, i item, n uint64) []byte {
		return append(slices.Replace(b, i.at, i.end, i.major<<5|31), 0xFF)
	}),

	"reorder keys": atPair(func(pairs [][]byte, at int, n uint64) [][]byte {
		other := int(n % uint64(len(pairs)))
		pairs[at], pairs[other] = pairs[other], pairs[at]
		return pairs
	}),
	"duplicate key": atPair(func(pairs [][]byte, at int, n uint64) [][]byte {
		return slices.Insert(pairs, int(n%uint64(len(pairs))), pairs[at])
	}),
	"missing key": atPair(func(pairs [][]byte, at int, _ uint64) [][]byte {
		return slices.Delete(pairs, at, at+1)
	}),
	"unknown key": atPair(func(pairs [][]byte, at int, n uint64) [][]byte {
		return slices.Insert(pairs, at, append(shortestHead(0, n), 0x81, 0x01)) // its value is [1]
	}),
	"unknown text key": atPair(func(pairs [][]byte, at int, n uint64) [][]byte {
		return slices.Insert(pairs, at, []byte{0x61, 'a' + byte(n%26), 0xF6})
	}),
}

func atByte(change func(b []byte, at int, n uint64) []byte) func([]byte, int, uint64) []byte {
	return func(b []byte, place int, n uint64) []byte {
		if place >= len(b) {
			return nil
		}
		return change(slices.Clone(b), place, n)
	}
}

func atItem(change func(b []byte, i item, n uint64) []byte) func([]byte, int, uint64) []byte {
	return func(b []byte, place int, n uint64) []byte {
		items := itemsOf(b)
		if place >= len(items) {
			return nil
		}
		return change(slices.Clone(b), items[place], n)
	}
}

func atPair(change func(pairs [][]byte, at int, n uint64) [][]byte) func([]byte, int, uint64) []byte {
	return func(b []byte, place int, n uint64) []byte {
		pairs := pairsOf(b)
		if place >= len(pairs) {
			return nil
		}
		pairs = change(pairs, place, n)
		return slices.Concat(append([][]byte{shortestHead(5, uint64(len(pairs)))}, pairs...)...)
	}
}

// item is the head of a CBOR item: its position, its major type and its argument.
type item struct {
	at, end int // of the head
	major   byte
	arg     uint64
}

// stringEnd returns the position after the contents of a string, and after the head of any
// other item.
func (i item) stringEnd(b []byte) int {
	if (i.major == 2 || i.major == 3) && i.arg <= uint64(len(b)-i.end) {
		return i.end + int(i.arg)
	}
	return i.end
}

// itemAt returns the item at a position, or false if there is none with a definite length.
func itemAt(b []byte, at int) (i item, ok bool) {
	if at >= len(b) {
		return i, false
	}
	i = item{at: at, end: at + 1, major: b[at] >> 5, arg: uint64(b[at] & 31)}
	if i.arg < 24 {
		return i, true
	}
	size := 1 << (i.arg - 24)
	if i.arg > 27 || len(b) < i.end+size {
		return i, false
	}
	var wide [8]byte
	copy(wide[8-size:], b[i.end:])
	i.end, i.arg = i.end+size, binary.BigEndian.Uint64(wide[:])
	return i, true
}

// itemsOf returns all items one after another, with those of a payload and without the contents of
// other strings. It stops at the first that is not complete.
func itemsOf(b []byte) (items []item) {
	for at := 0; ; {
		i, ok := itemAt(b, at)
		if !ok {
			return items
		}
		items = append(items, i)
		at = i.end
		if i.major == 3 || i.major == 2 && i.arg == 16 { // text, or an id
			if i.arg > uint64(len(b)-at) {
				return items
			}
			at += int(i.arg)
		}
	}
}

// pairsOf returns the pairs of a map, or nil for anything else.
func pairsOf(b []byte) (pairs [][]byte) {
	m, ok := itemAt(b, 0)
	if !ok || m.major != 5 {
		return nil
	}
	for at := m.end; at < len(b); {
		end := skip(b, skip(b, at))
		if end > len(b) {
			return nil
		}
		pairs = append(pairs, b[at:end])
		at = end
	}
	return pairs
}

// skip returns the position after the item at a position and all that it contains, or a
// position after the end of b.
func skip(b []byte, at int) int {
	i, ok := itemAt(b, at)
	if !ok {
		return len(b) + 1
	}
	at = i.end
	contained := uint64(0)
	switch i.major {
	case 2, 3:
		if i.arg > uint64(len(b)-at) {
			return len(b) + 1
		}
		return at + int(i.arg)
	case 4:
		contained = i.arg
	case 5:
		contained = 2 * i.arg
	case 6:
		contained = 1
	}
	for ; contained > 0 && at <= len(b); contained-- {
		at = skip(b, at)
	}
	return at
}

// headOf returns a head with an argument of 1, 2, 4 or 8 bytes.
func headOf(major byte, arg uint64, size int) []byte {
	var wide [8]byte
	binary.BigEndian.PutUint64(wide[:], arg)
	info := map[int]byte{1: 24, 2: 25, 4: 26, 8: 27}[size]
	return append([]byte{major<<5 | info}, wide[8-size:]...)
}

func shortestHead(major byte, arg uint64) []byte {
	switch {
	case arg < 24:
		return []byte{major<<5 | byte(arg)}
	case arg <= math.MaxUint8:
		return headOf(major, arg, 1)
	case arg <= math.MaxUint16:
		return headOf(major, arg, 2)
	case arg <= math.MaxUint32:
		return headOf(major, arg, 4)
	}
	return headOf(major, arg, 8)
}
