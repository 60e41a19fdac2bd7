package segment

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// The watermark is the number up to which every frame is on the device, and
// outlives the frames: without it, a log that was cut between two frames, or has
// lost its last segment, looks like a shorter one.
//
// The file holds it twice, in slots that lie in different sectors and are written
// in turn, so that a write cut short leaves the one before. A slot is a line of
// text: the number, and the CRC32C of its digits followed by the log's UUID.
const (
	WatermarkName    = "WATERMARK"
	WatermarkSlots   = 2
	WatermarkStride  = 512
	watermarkBytes   = WatermarkStride + slotBytes
	slotBytes        = nameDigits + len(" ") + crcDigits + len("\n")
	crcDigits        = 8
	maxWatermarkFile = 2 * WatermarkStride
)

// AppendWatermark appends a slot that says seq.
func AppendWatermark(dst []byte, log uuid.UUID, seq uint64) []byte {
	at := len(dst)
	dst = fmt.Appendf(dst, "%0*d", nameDigits, seq)
	return fmt.Appendf(dst, " %0*x\n", crcDigits, slotCRC(dst[at:], log))
}

// NewWatermark returns a file whose slots both say seq.
func NewWatermark(log uuid.UUID, seq uint64) []byte {
	slot := AppendWatermark(nil, log, seq)
	return append(append(slot, bytes.Repeat([]byte(" "), WatermarkStride-slotBytes)...), slot...)
}

func slotCRC(digits []byte, log uuid.UUID) uint32 {
	return crc32.Update(crc32.Checksum(digits, castagnoli), castagnoli, log[:])
}

// ReadWatermark returns the higher number of the two slots, and what is wrong
// with the file, if anything is: it then says less than was known. A slot that a
// writer is about to write is read again until it rests.
func ReadWatermark(fsys fs.FS, log uuid.UUID) (seq uint64, damage *Damage, err error) {
	var before []byte
	for {
		b, err := readSmall(fsys, WatermarkName, maxWatermarkFile)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotSmall) {
			return 0, &Damage{Segment: WatermarkName, Length: int64(len(b)), Reason: reasonOf(err)}, nil
		}
		if err != nil {
			return 0, nil, err
		}
		seq, damage = decodeWatermark(b, log)
		if damage == nil || bytes.Equal(b, before) {
			return seq, damage, nil
		}
		before = b
		time.Sleep(restTime)
	}
}

func decodeWatermark(b []byte, log uuid.UUID) (seq uint64, damage *Damage) {
	for i := range WatermarkSlots {
		at := min(i*WatermarkStride, len(b))
		slot := b[at:min(at+slotBytes, len(b))]
		n, ok := decodeSlot(slot, log)
		if ok {
			seq = max(seq, n)
			continue
		}
		if damage == nil {
			damage = &Damage{Segment: WatermarkName, Offset: int64(at)}
		}
		damage.Length = int64(at+len(slot)) - damage.Offset
		damage.Reason = "does not match its CRC32C: what was durable last is known less well"
	}
	if damage == nil && len(b) != watermarkBytes {
		damage = &Damage{Segment: WatermarkName, Length: int64(len(b)), Reason: "not of its length"}
	}
	return seq, damage
}

func decodeSlot(slot []byte, log uuid.UUID) (uint64, bool) {
	if len(slot) != slotBytes {
		return 0, false
	}
	seq, err := strconv.ParseUint(string(slot[:nameDigits]), 10, 64)
	return seq, err == nil && seq <= maxNamedSeq && bytes.Equal(slot, AppendWatermark(nil, log, seq))
}
