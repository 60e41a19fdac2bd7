package segment

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// The watermark is a number. Every frame up to it was on the device. It detects losses at the end
// of the log. Without it, a log that was cut between two frames, or that lost its last segment,
// looks like an intact shorter log.
//
// Like the manifest, the watermark has two copies. Each file holds one line of text. The line
// contains the number and the CRC32C of its digits followed by the log's UUID. The line fits into
// one sector, so that a write of it is atomic.
const (
	WatermarkName     = "WATERMARK"
	WatermarkCopyName = WALDir + "/WATERMARK"
	crcDigits         = 8
	watermarkBytes    = nameDigits + len(" ") + crcDigits + len("\n")
)

// WatermarkNames lists both watermark files.
var WatermarkNames = [2]string{WatermarkName, WatermarkCopyName}

// AppendWatermark appends the line of a watermark file with the number seq.
func AppendWatermark(dst []byte, log uuid.UUID, seq uint64) []byte {
	at := len(dst)
	dst = appendDigits(dst, seq, 10, nameDigits)
	crc := crc32.Update(crc32.Checksum(dst[at:], castagnoli), castagnoli, log[:])
	dst = appendDigits(append(dst, ' '), uint64(crc), 16, crcDigits)
	return append(dst, '\n')
}

// appendDigits appends n, padded with zeros to the given number of digits. n must not need more
// digits. It is called for each write, and fmt would take 2 µs.
func appendDigits(dst []byte, n uint64, base, digits int) []byte {
	var b [nameDigits]byte
	significant := strconv.AppendUint(b[:0], n, base)
	dst = append(dst, "00000000000000000000"[:digits-len(significant)]...)
	return append(dst, significant...)
}

// ReadWatermark returns the lower number of the two files, and their damage. The lower number still
// covers every acknowledged frame, because a writer writes both files before it acknowledges. If
// the directory was copied while a writer was running, the lower number is from the file that was
// copied first. The damage of one file is harmless. If both are damaged, a loss at the end of the
// log may go unnoticed.
func ReadWatermark(fsys fs.FS, log uuid.UUID) (seq uint64, damage []Damage, err error) {
	seq = math.MaxUint64
	for _, name := range WatermarkNames {
		n, bad, err := readWatermarkFile(fsys, name, log)
		if err != nil {
			return 0, nil, err
		}
		if bad != nil {
			damage = append(damage, *bad)
			continue
		}
		seq = min(seq, n) //mutant:lower-watermark
	}
	if len(damage) == len(WatermarkNames) {
		seq = 0
		for i := range damage {
			damage[i].Severity = EndangersEvents
			damage[i].Reason += "; it is unknown whether frames are missing at the end of the log"
		}
	}
	return seq, damage, nil
}

// readWatermarkFile reads one watermark file. If the file is not valid, a write may be in progress.
// readWatermarkFile then rereads it until it is valid or stops changing.
func readWatermarkFile(fsys fs.FS, name string, log uuid.UUID) (uint64, *Damage, error) {
	var before []byte
	for {
		b, err := readSmall(fsys, name, watermarkBytes)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errForeignFile) {
			return 0, &Damage{Segment: name, Length: int64(len(b)), Reason: damageReason(err), Severity: Harmless}, nil
		}
		if err != nil {
			return 0, nil, err
		}
		seq, ok := decodeWatermark(b, log)
		if ok && seq <= MaxSeq {
			return seq, nil, nil
		}
		if before != nil && bytes.Equal(b, before) {
			reason := "does not match its CRC32C"
			switch {
			case len(b) < watermarkBytes:
				reason = fmt.Sprintf("cut short: %d of %d bytes", len(b), watermarkBytes)
			case ok:
				reason = fmt.Sprintf("the watermark is %d, above the highest possible number %d", seq, MaxSeq)
			}
			return 0, &Damage{Segment: name, Length: int64(len(b)), Reason: reason, Severity: Harmless}, nil
		}
		before = b
		time.Sleep(rereadDelay)
	}
}

func decodeWatermark(b []byte, log uuid.UUID) (uint64, bool) {
	if len(b) != watermarkBytes {
		return 0, false
	}
	seq, err := strconv.ParseUint(string(b[:nameDigits]), 10, 64)
	//mutant:watermark-checksum
	return seq, err == nil && bytes.Equal(b, AppendWatermark(nil, log, seq))
}
