package segment

import (
	"encoding/binary"
	"math/bits"

	"github.com/google/uuid"
)

// Walk visits the frames of a segment that is as a writer makes it: from the number
// that it is named by, one whole entry after another, and perhaps unused space. It
// returns the number behind the last, and whether the segment is such a one to its
// end. What was visited before the place where it is not is whole. Walk tells less
// than a Scan, and is faster: a frame of a newer version is not sound to it.
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

// intactEntry returns the frame of the entry at the start of b, nil where that is not as it
// was written.
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

// prefixBytes is how long the uvarint of a frame's length is.
func prefixBytes(frameBytes int) int { return (bits.Len(uint(frameBytes)) + 6) / 7 }
