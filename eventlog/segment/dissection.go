package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"strconv"

	"github.com/google/uuid"
)

// Field is one part of an entry of a segment, for a person who looks at its bytes.
type Field struct {
	Offset, Length int    // of its bytes in the entry
	Name           string // as in docs/FORMAT.md
	Value          string
	Fault          string // describes the fault; "" if there is none
}

// Dissection is an entry of a segment, field by field: the length prefix, the frame's header and its
// body. The entry may be damaged.
type Dissection struct {
	Fields       []Field // of the length prefix and the header; their Offset is that in the entry
	Bytes        []byte  // the entry: all of its fields, followed by the body
	Seq          uint64  // as the header has it; not reliable if HeaderIntact is false
	Body         []byte  // fewer bytes than the header says if the segment ends before
	HeaderIntact bool
	BodyIntact   bool
}

// Intact reports whether the frame is intact. The length prefix may be damaged even then.
func (d Dissection) Intact() bool { return d.HeaderIntact && d.BodyIntact }

// ErrNoEntry is returned by Dissect if the bytes are too few for a frame.
var ErrNoEntry = errors.New("no entry begins here")

// Dissect returns the entry at the start of b, which is the rest of a segment. If the entry has no
// length prefix, or if b begins with the header of a frame, the prefix is missing in the result.
//
// If a checksum does not match, Dissect searches for one flipped bit that explains it. Such a bit is
// named in the fault of the checksum.
func Dissect(b []byte, log uuid.UUID) (Dissection, error) {
	prefix := dissectedPrefix(b)
	if len(b) < prefix+HeaderBytes {
		return Dissection{}, fmt.Errorf("%w: %d bytes are left, and a header has %d", ErrNoEntry, len(b), HeaderBytes)
	}
	header := b[prefix : prefix+HeaderBytes]
	intactHeader := headerCRC(header, &log) == binary.LittleEndian.Uint32(header[headerCRCOffset:])
	flip, flipped := flippedHeaderBit(header, &log)
	repaired := header
	if flipped {
		repaired = append([]byte(nil), header...)
		repaired[flip/8] ^= 1 << (flip % 8)
	}
	length := int64(binary.LittleEndian.Uint32(repaired[4:]))
	if n, _ := binary.Uvarint(b[:prefix]); !flipped && !intactHeader && n >= HeaderBytes { // the prefix is more reliable
		length = int64(n) - HeaderBytes
	}
	d := Dissection{HeaderIntact: intactHeader}
	rest := b[prefix+HeaderBytes:]
	d.Body = rest[:min(length, MaxBodyBytes, int64(len(rest)))]
	d.Bytes = b[:prefix+HeaderBytes+len(d.Body)]
	d.Seq = binary.LittleEndian.Uint64(repaired[8:])
	d.BodyIntact = int64(len(d.Body)) == length && crc32.Checksum(d.Body, castagnoli) == binary.LittleEndian.Uint32(repaired[32:])
	d.addPrefix(b[:prefix], length)
	d.addHeader(header, &log, prefix, length)
	if flipped {
		d.Fields[len(d.Fields)-1].Fault += flippedText(header, flip, "header")
	}
	return d, nil
}

// dissectedPrefix returns the length of the length prefix at the start of b, or 0 if a header begins
// there. The magic decides, even if the prefix is damaged.
func dissectedPrefix(b []byte) int {
	for k := 0; k <= maxPrefixBytes && k+len(magic) <= len(b); k++ {
		if [3]byte(b[k:]) == magic {
			return k
		}
	}
	length, k := binary.Uvarint(b)
	if k <= 0 || k > maxPrefixBytes || length < HeaderBytes || length > HeaderBytes+MaxBodyBytes {
		return 0
	}
	return k
}

func (d *Dissection) addPrefix(prefix []byte, bodyBytes int64) {
	if len(prefix) == 0 {
		return
	}
	f := Field{Length: len(prefix), Name: "length prefix"}
	length, _ := binary.Uvarint(prefix)
	f.Value = fmt.Sprintf("%d bytes", length)
	if want := uint64(HeaderBytes + bodyBytes); length != want {
		f.Fault = fmt.Sprintf("the header says %d", want)
	}
	d.Fields = append(d.Fields, f)
}

// headerLayout has the fields of a header in the order of their bytes. See the picture in frame.go.
var headerLayout = []struct {
	name   string
	length int
}{
	{"magic", len(magic)}, {"version", 1}, {"length", 4}, {"seq", 8}, {"previous seq", 8}, {"durable through", 8},
	{"body CRC32C", 4}, {"header CRC32C", 4},
}

// addHeader adds the fields of the header, which is at that offset of the entry.
func (d *Dissection) addHeader(header []byte, log *uuid.UUID, at int, bodyBytes int64) {
	offset := 0
	seq := binary.LittleEndian.Uint64(header[8:])
	for _, l := range headerLayout {
		f := Field{Offset: at + offset, Length: l.length, Name: l.name}
		value := header[offset : offset+l.length]
		switch l.name {
		case "magic":
			f.Value = fmt.Sprintf("%X", value)
			if [3]byte(value) != magic {
				f.Fault = fmt.Sprintf("should be %X", magic)
			}
		case "version":
			f.Value = strconv.Itoa(int(value[0]))
			if value[0] != FormatVersion {
				f.Fault = fmt.Sprintf("this program reads %d", FormatVersion)
			}
		case "length":
			f.Value = fmt.Sprintf("%d bytes", binary.LittleEndian.Uint32(value))
			if binary.LittleEndian.Uint32(value) > MaxBodyBytes {
				f.Fault = fmt.Sprintf("at most %d", MaxBodyBytes)
			}
		case "body CRC32C":
			f.Value = fmt.Sprintf("%08x", binary.LittleEndian.Uint32(value))
			f.Fault = d.bodyFault(binary.LittleEndian.Uint32(value), bodyBytes)
		case "header CRC32C":
			f.Value = fmt.Sprintf("%08x", binary.LittleEndian.Uint32(value))
			if got := headerCRC(header, log); !d.HeaderIntact {
				f.Fault = fmt.Sprintf("the header has %08x", got)
			}
		default:
			n := binary.LittleEndian.Uint64(value)
			f.Value = strconv.FormatUint(n, 10)
			if l.name == "seq" && (n == 0 || n > MaxSeq) || l.name != "seq" && n >= seq {
				f.Fault = "impossible"
			}
		}
		d.Fields = append(d.Fields, f)
		offset += l.length
	}
}

// bodyFault describes why the body does not have that checksum. It returns "" if it has.
func (d *Dissection) bodyFault(want uint32, bodyBytes int64) string {
	if missing := bodyBytes - int64(len(d.Body)); missing > 0 {
		return fmt.Sprintf("the segment ends %d bytes before the end of the body", missing)
	}
	got := crc32.Checksum(d.Body, castagnoli)
	if got == want {
		return ""
	}
	fault := fmt.Sprintf("the body has %08x", got)
	if bits.OnesCount32(got^want) == 1 {
		return fault + ": one bit of the checksum is flipped"
	}
	if len(d.Body) > maxSearchedBytes {
		return fault
	}
	b := append([]byte(nil), d.Body...)
	for bit := range 8 * len(b) {
		b[bit/8] ^= 1 << (bit % 8)
		if crc32.Checksum(b, castagnoli) == want {
			return fault + flippedText(d.Body, bit, "body")
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	return fault
}

// maxSearchedBytes is the length of the longest body in which a flipped bit is searched for. The
// search takes the time of 8 checksums per byte.
const maxSearchedBytes = 4 << 10

// flippedHeaderBit returns the number of the bit of a header whose flip explains why the header's
// checksum does not match.
func flippedHeaderBit(header []byte, log *uuid.UUID) (bit int, found bool) {
	b := append([]byte(nil), header...)
	if headerCRC(b, log) == binary.LittleEndian.Uint32(b[headerCRCOffset:]) {
		return 0, false
	}
	for bit := range 8 * len(b) {
		b[bit/8] ^= 1 << (bit % 8)
		if headerCRC(b, log) == binary.LittleEndian.Uint32(b[headerCRCOffset:]) {
			return bit, true
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	return 0, false
}

// flippedText names a flipped bit.
func flippedText(b []byte, bit int, of string) string {
	was := b[bit/8]
	return fmt.Sprintf(": bit %d of byte %d of the %s is flipped, %02x should be %02x", bit%8, bit/8, of, was, was^1<<(bit%8))
}
