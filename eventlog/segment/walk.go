package segment

import (
	"encoding/binary"
	"math/bits"

	"github.com/google/uuid"
)

// Walk visits the frames of an intact segment. An intact segment is a run of consecutive intact
// frames that starts with number first, optionally followed by unused space. At any other
// content Walk stops and returns intact = false. All frames that it visited are intact. It returns the
// number after the last visited frame.
//
// Walk is faster than a Scan, but reports no reasons. A frame of a newer version is not intact for
// Walk.
func Walk(data []byte, log uuid.UUID, first uint64, visit func(h Header, frame []byte)) (next uint64, intact bool) {
	for next = first; len(data) > 0; next++ {
		h, frame := intactEntry(data, &log)
		if frame == nil {
			return next, allZero(data)
		}
		if h.Seq != next {
			return next, false
		}
		visit(h, frame)
		data = data[prefixBytes(len(frame))+len(frame):]
	}
	return next, true
}

// intactEntry returns the frame of the entry at the start of b, or nil if the entry is not intact.
func intactEntry(b []byte, log *uuid.UUID) (h Header, frame []byte) {
	length, k := binary.Uvarint(b)
	if k <= 0 || length < HeaderBytes || length > uint64(len(b)-k) || k != prefixBytes(int(length)) {
		return Header{}, nil
	}
	frame = b[k : k+int(length)]
	h, bodyBytes, ok := parseHeader(frame, log)
	//mutant:walk-checksums
	if !ok || HeaderBytes+bodyBytes != len(frame) || !isBodyIntact(frame, bodyBytes) {
		return Header{}, nil
	}
	return h, frame
}

// EntryBytes returns the length of the entry of a frame: its length prefix and the frame.
func EntryBytes(frameBytes int) int { return prefixBytes(frameBytes) + frameBytes }

// prefixBytes returns the length of the uvarint that encodes a frame's length.
func prefixBytes(frameBytes int) int { return (bits.Len(uint(frameBytes)) + 6) / 7 }
