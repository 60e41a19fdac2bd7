package segment

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/google/uuid"
)

// A frame is a header of HeaderBytes and a body. All integers are little-endian.
//
//	0        4        8                16               24               32       36       40
//	┌────────┬────────┬────────────────┬────────────────┬────────────────┬────────┬────────┬──────┐
//	│magic, 3│ length │ seq            │ prev seq       │ durable        │ body   │ header │ body │
//	│version │ of body│                │                │ through        │ CRC32C │ CRC32C │      │
//	└────────┴────────┴────────────────┴────────────────┴────────────────┴────────┴────────┴──────┘
//
// The header's CRC32C is computed over its first 36 bytes followed by the 16 bytes of the log's
// UUID. A header can therefore be verified without its body, and a frame of another log is not
// mistaken for one of this log.
const (
	HeaderBytes  = 40
	MaxBodyBytes = 64 << 10

	headerCRCOffset = 36
)

// magic is the first three bytes of a frame. The fourth is the frame's format version. The
// first byte begins neither UTF-8 text nor a CBOR item of an event, so text inside a body is
// never mistaken for a header.
var magic = [3]byte{0xF7, 'M', 'L'}

// FormatVersion is the version of the frames, see Manifest.Format for that of the manifest. The 40 bytes of a frame's
// header have the same layout in all versions.
const FormatVersion = 1

// magicAndVersion is the first four bytes of a frame of this version.
var magicAndVersion = [4]byte{magic[0], magic[1], magic[2], FormatVersion}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header contains the fields of a frame without its body and checksums.
type Header struct {
	Seq            uint64 // the frame's number; 1 for a log's first frame; also the index in tidwall/wal
	PrevSeq        uint64 // number of the previous frame of the same incarnation; 0 for its first frame
	DurableThrough uint64 // every frame up to this one was on the device when this one was written
}

// Body is a frame's body with its checksum. The checksum does not depend on the header.
type Body struct {
	bytes  []byte
	crc32c uint32
}

// NewBody computes the checksum of b, which has at most MaxBodyBytes. The caller must not change b
// while the Body is in use.
func NewBody(b []byte) Body { return Body{b, crc32.Checksum(b, castagnoli)} }

// FrameBytes returns the length of the frame with this body, including the header.
func (b Body) FrameBytes() int { return HeaderBytes + len(b.bytes) }

// AppendFrame appends a frame to dst.
func AppendFrame(dst []byte, log *uuid.UUID, h Header, body Body) []byte {
	at := len(dst)
	dst = append(dst, magicAndVersion[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body.bytes)))
	dst = binary.LittleEndian.AppendUint64(dst, h.Seq)
	dst = binary.LittleEndian.AppendUint64(dst, h.PrevSeq)
	dst = binary.LittleEndian.AppendUint64(dst, h.DurableThrough)
	dst = binary.LittleEndian.AppendUint32(dst, body.crc32c)
	dst = binary.LittleEndian.AppendUint32(dst, headerCRC(dst[at:], log))
	return append(dst, body.bytes...)
}

// headerCRC returns the checksum of a header. It takes a pointer to the UUID, because slicing a
// copy would allocate it on the heap.
func headerCRC(header []byte, log *uuid.UUID) uint32 {
	//mutant:log-uuid
	return crc32.Update(crc32.Checksum(header[:36], castagnoli), castagnoli, log[:])
}

// parseHeader reads the header at the start of b. ok is false if it is not the intact header of a
// frame of this log in this version.
func parseHeader(b []byte, log *uuid.UUID) (h Header, bodyBytes int, ok bool) {
	//mutant:header-checksum
	if len(b) < HeaderBytes || [4]byte(b) != magicAndVersion ||
		binary.LittleEndian.Uint32(b[headerCRCOffset:]) != headerCRC(b, log) {
		return Header{}, 0, false
	}
	return headerFields(b)
}

// headerFields reads the fields of the header at the start of b and does not verify its checksum.
// ok is false if a field is impossible.
func headerFields(b []byte) (h Header, bodyBytes int, ok bool) {
	length := binary.LittleEndian.Uint32(b[4:])
	h = Header{
		Seq:            binary.LittleEndian.Uint64(b[8:]),
		PrevSeq:        binary.LittleEndian.Uint64(b[16:]),
		DurableThrough: binary.LittleEndian.Uint64(b[24:]),
	}
	if length > MaxBodyBytes || h.Seq == 0 || h.Seq > MaxSeq || h.PrevSeq >= h.Seq || h.DurableThrough >= h.Seq {
		return Header{}, 0, false
	}
	return h, int(length), true
}

// newerVersion returns the format version of the frame whose header is at the start of b, if a
// newer program wrote that frame into this log. Otherwise it returns 0. The version byte alone
// proves nothing, because any of its bits may have been flipped. The header's CRC32C covers it.
func newerVersion(b []byte, log *uuid.UUID) (version byte) {
	if len(b) < HeaderBytes || [3]byte(b) != magic || b[3] <= FormatVersion {
		return 0
	}
	if binary.LittleEndian.Uint32(b[headerCRCOffset:]) == headerCRC(b, log) { //mutant:newer-frame-checksum
		return b[3]
	}
	return 0
}

// isBodyIntact reports whether the body of the frame at the start of b is complete and matches its
// checksum. The header must be intact.
func isBodyIntact(b []byte, bodyBytes int) bool {
	//mutant:body-checksum
	return len(b) >= HeaderBytes+bodyBytes && crc32.Checksum(b[HeaderBytes:HeaderBytes+bodyBytes], castagnoli) == binary.LittleEndian.Uint32(b[32:])
}
