package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escapingWriter shows each character that is not printable as an escape such as \u001b, and each
// byte that is not UTF-8 as \xff. The tool prints text that it has read from files, and a terminal
// would act on such characters. Line breaks and tabs stay.
//
// The marks of paint become escape sequences. JSON keeps its meaning, because it is valid UTF-8 and
// has such characters only inside strings. Each Write must consist of whole characters.
type escapingWriter struct{ w io.Writer }

func (e escapingWriter) Write(b []byte) (int, error) {
	if plainBytes(b) == len(b) {
		return e.w.Write(b)
	}
	if _, err := e.w.Write(appendEscaped(nil, b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// plainBytes returns the length of the longest prefix of b that has only printable ASCII, line
// breaks and tabs. It compares eight bytes at a time, because all output passes through it.
func plainBytes(b []byte) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ ones*0x7f
		special := x | (x-ones*' ')&^x | (del-ones)&^del // a high bit for each byte outside ' ' to '~'
		if special&high != 0 && !allPlain(b[i:i+8]) {
			break
		}
	}
	for i < len(b) && isPlain(b[i]) {
		i++
	}
	return i
}

func allPlain(b []byte) bool {
	for _, c := range b {
		if !isPlain(c) {
			return false
		}
	}
	return true
}

func isPlain(c byte) bool { return ' ' <= c && c <= '~' || c == '\n' || c == '\t' }

// appendEscaped appends b to dst with its escapes.
func appendEscaped(dst, b []byte) []byte {
	for len(b) > 0 {
		n := plainBytes(b)
		dst, b = append(dst, b[:n]...), b[n:]
		if len(b) == 0 {
			break
		}
		if rest, ok := cutStyleMark(b); ok {
			dst, b = append(dst, "\x1b["...), rest
			continue
		}
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\x%02x`, b[0])
		case unicode.IsPrint(r):
			dst = append(dst, b[:size]...)
		case r > 0xffff: // JSON writes it as a surrogate pair
			r -= 0x10000
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		b = b[size:]
	}
	return dst
}

// maxMessageBytes limits a message. Text that was read from a file may be of any length.
const maxMessageBytes = 4096

// message returns a message for stderr. Its later lines are indented, so that text from a file
// cannot look like a message of its own.
func message(text string) string {
	return strings.ReplaceAll(bounded(text, maxMessageBytes), "\n", "\n  ")
}

// bounded returns a text of at most about maxBytes. If it is longer, its end is replaced by its
// length.
func bounded(text string, maxBytes int) string {
	start := clip(text, maxBytes)
	if start == text {
		return text
	}
	return fmt.Sprintf("%s... (%d bytes)", start, len(text))
}

// clip returns the beginning of a text, of at most maxBytes, without a part of a character.
func clip(text string, maxBytes int) string {
	if len(text) <= maxBytes {
		return text
	}
	for maxBytes > 0 && !utf8.RuneStart(text[maxBytes]) {
		maxBytes--
	}
	return text[:maxBytes]
}
