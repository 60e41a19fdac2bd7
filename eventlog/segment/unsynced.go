package segment

import (
	"errors"
	"io/fs"

	"github.com/google/uuid"
)

// EndOf returns the offset after the intact frame with that number in the content of a segment. For
// number 0 it returns 0, the beginning of the first segment. ok is false if there is no such frame.
func EndOf(data []byte, log uuid.UUID, seq uint64) (end int, ok bool) {
	if seq == 0 {
		return 0, true
	}
	for at := range magicOffsets(data) {
		if at < end { // within the body of the previous frame
			continue
		}
		h, bodyBytes, intact := parseHeader(data[at:], &log)
		if !intact || !isBodyIntact(data[at:], bodyBytes) {
			continue
		}
		end = at + HeaderBytes + bodyBytes
		if h.Seq == seq {
			return end, true
		}
	}
	return 0, false
}

// HasOnlyAfter reports whether b, a part of a segment, can be removed without losing a frame up to
// the number seq. This is so if b has no intact header with that number or a lower one. b must also
// have no frame of a newer version, because this version does not know the number of such a frame.
func HasOnlyAfter(b []byte, log uuid.UUID, seq uint64) bool {
	for at := range magicOffsets(b) {
		if newerVersion(b[at:], &log) != 0 { //mutant:newer-not-dropped
			return false
		}
		if h, _, ok := parseHeader(b[at:], &log); ok && h.Seq <= seq {
			return false
		}
	}
	return true
}

// SnapshotsAfter returns the names of the snapshots whose name or header has a number above seq. If
// a header cannot be read, SnapshotsAfter returns the I/O error, because it may have such a number.
func SnapshotsAfter(fsys fs.FS, log uuid.UUID, seq uint64) (after []string, err error) {
	names, err := SnapshotNames(fsys)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if named, _ := ParseName(name); named > seq {
			after = append(after, name)
			continue
		}
		s, err := readSnapshotHeader(fsys, name, log)
		if unreadable := (*fs.PathError)(nil); errors.As(err, &unreadable) {
			return nil, err
		}
		if err == nil && s.Last.Seq > seq {
			after = append(after, name)
		}
	}
	return after, nil
}
