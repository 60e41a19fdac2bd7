package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"

	"github.com/google/uuid"
)

// SnapshotDir holds snapshots: what a log's frames up to one of them amount to. A
// log without them is as good, and slower to open. A file is named as a segment is, by the
// number of that frame.
const SnapshotDir = "snapshots"

// A snapshot is a header of snapshotHeaderBytes and a body. All integers are
// little-endian.
//
//	0        4        8                16               24               32       36       40
//	┌────────┬────────┬────────────────┬────────────────┬────────────────┬────────┬────────┬──────┐
//	│ magic  │ frame's│ seq            │ segment        │ length of body │ body   │ header │ body │
//	│        │ header │                │                │                │ CRC32C │ CRC32C │      │
//	└────────┴────────┴────────────────┴────────────────┴────────────────┴────────┴────────┴──────┘
//
// The header's CRC32C is computed as a frame's is.
const snapshotHeaderBytes = HeaderBytes

var snapshotMagic = [4]byte{0xF7, 'M', 'S', FormatVersion}

// FrameID tells a frame from every other that the log may have had.
type FrameID struct {
	Seq          uint64
	Segment      uint64 // the number that its segment is named by
	HeaderCRC32C uint32
}

// FrameIDOf returns the id of a frame, as AppendFrame made it, in a segment.
func FrameIDOf(frame []byte, segment uint64) FrameID {
	return FrameID{
		Seq: binary.LittleEndian.Uint64(frame[8:]), Segment: segment, HeaderCRC32C: binary.LittleEndian.Uint32(frame[36:]),
	}
}

// Snapshot is what the frames up to one amount to. It is worth something only as long
// as that very frame is in the log.
type Snapshot struct {
	Last FrameID
	Body []byte
}

// Name is the snapshot's file name.
func (s Snapshot) Name() string { return Name(s.Last.Seq) }

// Encode returns the file's bytes.
func (s Snapshot) Encode(log uuid.UUID) []byte {
	b := append(make([]byte, 0, snapshotHeaderBytes+len(s.Body)), snapshotMagic[:]...)
	b = binary.LittleEndian.AppendUint32(b, s.Last.HeaderCRC32C)
	b = binary.LittleEndian.AppendUint64(b, s.Last.Seq)
	b = binary.LittleEndian.AppendUint64(b, s.Last.Segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s.Body)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(s.Body, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, headerCRC(b, &log))
	return append(b, s.Body...)
}

// DecodeSnapshot reads what Encode returned. The body shares its memory.
func DecodeSnapshot(b []byte, log uuid.UUID) (s Snapshot, err error) {
	if len(b) < snapshotHeaderBytes || [4]byte(b) != snapshotMagic || binary.LittleEndian.Uint32(b[36:]) != headerCRC(b, &log) {
		return s, errors.New("header does not match its CRC32C")
	}
	s.Last = FrameID{
		HeaderCRC32C: binary.LittleEndian.Uint32(b[4:]),
		Seq:          binary.LittleEndian.Uint64(b[8:]),
		Segment:      binary.LittleEndian.Uint64(b[16:]),
	}
	s.Body = b[snapshotHeaderBytes:]
	if n := binary.LittleEndian.Uint64(b[24:]); n != uint64(len(s.Body)) {
		return s, fmt.Errorf("body of %d bytes where %d were written", len(s.Body), n)
	}
	if crc32.Checksum(s.Body, castagnoli) != binary.LittleEndian.Uint32(b[32:]) {
		return s, errors.New("body does not match its CRC32C")
	}
	return s, nil
}

// SnapshotNames returns the names of a log's snapshots, the newest first. A log may
// have none.
func SnapshotNames(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, SnapshotDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range slices.Backward(entries) {
		if _, ok := ParseName(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// ReadSnapshots returns the sound snapshots of a log, the newest first, and as damage
// those that are not. What cannot be read is passed over: the log is as good without.
func ReadSnapshots(fsys fs.FS, log uuid.UUID) (found []Snapshot, damage []Damage) {
	names, err := SnapshotNames(fsys)
	if err != nil {
		return nil, []Damage{{Segment: SnapshotDir, Reason: "not a directory that can be read: " + err.Error()}}
	}
	for _, name := range names {
		file := path.Join(SnapshotDir, name)
		b, err := fs.ReadFile(fsys, file)
		if err != nil { // or a writer has just taken it away
			continue
		}
		s, err := DecodeSnapshot(b, log)
		if err == nil && s.Name() != name {
			err = fmt.Errorf("is of seq %d", s.Last.Seq)
		}
		if err != nil {
			damage = append(damage, Damage{Segment: file, Length: int64(len(b)), Reason: err.Error()})
			continue
		}
		found = append(found, s)
	}
	return found, damage
}
