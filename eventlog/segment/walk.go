package segment

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// Walk visits the frames of a segment that is as a writer makes it: from the number
// that it is named by, one whole entry after another, and perhaps unused space. It
// returns the number behind the last, and whether the segment is such a one to its
// end. What was visited before the place where it is not is whole. Walk tells less
// than a Scan, and is many times faster.
func Walk(data []byte, log uuid.UUID, first uint64, visit func(h Header, frame []byte)) (next uint64, sound bool) {
	next = first
	for len(data) > 0 {
		length, k := binary.Uvarint(data)
		if k <= 0 || length < HeaderBytes || length > uint64(len(data)-k) {
			return next, allZero(data)
		}
		h, bodyBytes, ok := parseHeader(data[k:], &log)
		if !ok || h.Seq != next || HeaderBytes+uint64(bodyBytes) != length || !isWhole(data[k:], bodyBytes) {
			return next, false
		}
		visit(h, data[k:k+int(length)])
		data = data[k+int(length):]
		next++
	}
	return next, true
}
