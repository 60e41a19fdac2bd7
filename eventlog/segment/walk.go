package segment

import (
	"bytes"
	"encoding/binary"
	"iter"
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

// Run is a part of a segment: entries of intact frames with consecutive numbers.
type Run struct {
	FirstSeq uint64
	Data     []byte // without the bytes between the runs
}

// Runs yields the longest runs of intact entries in the content of a segment, in the order of the
// file. An intact frame whose length prefix is damaged is a run of its own, with the right prefix.
func Runs(data []byte, log uuid.UUID) iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for len(data) > 0 {
			run := runAt(data, &log)
			read := len(run.Data)
			if read == 0 {
				run, read = frameAt(data, &log)
			}
			if read > 0 && !yield(run) {
				return
			}
			data = data[max(read, 1):]
			// The next entry begins at most maxPrefixBytes before the next magic.
			next := bytes.Index(data, magic[:])
			if next < 0 {
				return
			}
			if read == 0 {
				data = data[max(0, next-maxPrefixBytes):]
			}
		}
	}
}

// runAt returns the run at the start of b, or an empty run.
func runAt(b []byte, log *uuid.UUID) (run Run) {
	end := 0
	for next := uint64(0); ; next++ {
		h, frame := intactEntry(b[end:], log)
		if frame == nil || end > 0 && h.Seq != next {
			run.Data = b[:end]
			return run
		}
		if end == 0 {
			run.FirstSeq, next = h.Seq, h.Seq
		}
		end += EntryBytes(len(frame))
	}
}

// frameAt returns a run with the intact frame at the start of b, which begins after a damaged length
// prefix, and the length of the frame. It returns 0 if there is none.
func frameAt(b []byte, log *uuid.UUID) (run Run, frameBytes int) {
	h, bodyBytes, ok := parseHeader(b, log)
	if !ok || !isBodyIntact(b, bodyBytes) {
		return Run{}, 0
	}
	frameBytes = HeaderBytes + bodyBytes
	entry := binary.AppendUvarint(make([]byte, 0, EntryBytes(frameBytes)), uint64(frameBytes))
	return Run{h.Seq, append(entry, b[:frameBytes]...)}, frameBytes
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
