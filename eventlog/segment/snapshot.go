package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"syscall"

	"github.com/google/uuid"
)

// SnapshotDir holds snapshots. A snapshot is the state after one frame, its last frame. A log
// without snapshots loses nothing, but takes longer to open. A file is named by the number of that
// frame, as a segment is.
const SnapshotDir = "snapshots"

// A snapshot is a header of snapshotHeaderBytes and a body. All integers are
// little-endian.
//
//	0        4        8                16               24            31   32       36       40
//	┌────────┬────────┬────────────────┬────────────────┬─────────────┬────┬────────┬────────┬──────┐
//	│ magic  │ frame's│ seq            │ segment        │ length of   │flag│ body   │ header │ body │
//	│        │ header │                │                │ body        │ s  │ CRC32C │ CRC32C │      │
//	└────────┴────────┴────────────────┴────────────────┴─────────────┴────┴────────┴────────┴──────┘
//
// The header's CRC32C is computed as a frame's is. The offsets of its fields are the same in all
// versions, so that a reader can distinguish a newer snapshot from a damaged one.
const (
	snapshotHeaderBytes = HeaderBytes
	snapshotMagicBytes  = 3 // the byte after it is the version
	lengthBits          = 56
	syncedFlag          = 1 << lengthBits
)

// SnapshotVersion is the version of the snapshots that are written. DecodeSnapshot also reads the
// earlier ones.
const SnapshotVersion = 3

var snapshotMagic = [snapshotMagicBytes]byte{0xF7, 'M', 'S'}

// FrameID identifies a frame. If a number was used again for another event, the two frames have
// different FrameIDs.
type FrameID struct {
	Seq          uint64
	Segment      uint64 // the number in its segment's file name
	HeaderCRC32C uint32
}

// FrameIDOf returns the FrameID of a frame that AppendFrame encoded. segment is the number in its
// segment's file name.
func FrameIDOf(frame []byte, segment uint64) FrameID {
	return FrameID{
		Seq: binary.LittleEndian.Uint64(frame[8:]), Segment: segment, HeaderCRC32C: binary.LittleEndian.Uint32(frame[headerCRCOffset:]),
	}
}

// Snapshot is the state after one frame. It is valid as long as that frame is in the log.
type Snapshot struct {
	Version byte
	Last    FrameID
	Synced  bool // written without NoSync: every event up to Last was durable
	Body    []byte

	fsys      fs.FS // set if the body was not read yet: Load reads it from here
	log       uuid.UUID
	bodyBytes int64
}

// SizeBytes returns the size of the snapshot's file in bytes.
func (s Snapshot) SizeBytes() int64 {
	return snapshotHeaderBytes + max(s.bodyBytes, int64(len(s.Body)))
}

// Load returns the snapshot with its body. It returns an error if the file is damaged or missing.
func (s Snapshot) Load() (Snapshot, error) {
	if s.fsys == nil {
		return s, nil
	}
	return readSnapshot(s.fsys, s.Name(), s.log)
}

// Name returns the snapshot's file name.
func (s Snapshot) Name() string { return Name(s.Last.Seq) }

// Encode returns the content of the snapshot file.
func (s Snapshot) Encode(log uuid.UUID) []byte {
	length := uint64(len(s.Body))
	if s.Synced {
		length |= syncedFlag
	}
	b := append(make([]byte, 0, snapshotHeaderBytes+len(s.Body)), snapshotMagic[:]...)
	b = binary.LittleEndian.AppendUint32(append(b, s.Version), s.Last.HeaderCRC32C)
	b = binary.LittleEndian.AppendUint64(b, s.Last.Seq)
	b = binary.LittleEndian.AppendUint64(b, s.Last.Segment)
	b = binary.LittleEndian.AppendUint64(b, length)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(s.Body, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, headerCRC(b, &log))
	return append(b, s.Body...)
}

// DecodeSnapshot decodes the result of Encode. The snapshot's body shares memory with b.
// DecodeSnapshot returns ErrNewerFormat for an intact snapshot of a later version.
func DecodeSnapshot(b []byte, log uuid.UUID) (Snapshot, error) {
	s, length, err := decodeSnapshotHeader(b, log)
	if err != nil {
		return Snapshot{}, err
	}
	s.Body = b[snapshotHeaderBytes:]
	if length != uint64(len(s.Body)) {
		return Snapshot{}, fmt.Errorf("the body has %d bytes, and the header says %d", len(s.Body), length)
	}
	//mutant:snapshot-body-checksum
	if crc32.Checksum(s.Body, castagnoli) != binary.LittleEndian.Uint32(b[32:]) {
		return Snapshot{}, errors.New("body does not match its CRC32C")
	}
	if s.Version > SnapshotVersion {
		return Snapshot{}, fmt.Errorf("%w: snapshot of version %d", ErrNewerFormat, s.Version)
	}
	return s, nil
}

// decodeSnapshotHeader reads the header of a snapshot of any version.
func decodeSnapshotHeader(b []byte, log uuid.UUID) (s Snapshot, length uint64, err error) {
	if len(b) < snapshotHeaderBytes {
		return s, 0, fmt.Errorf("cut short: %d bytes, but the header has %d", len(b), snapshotHeaderBytes)
	}
	//mutant:snapshot-header-checksum
	if [snapshotMagicBytes]byte(b) != snapshotMagic || b[snapshotMagicBytes] == 0 ||
		binary.LittleEndian.Uint32(b[headerCRCOffset:]) != headerCRC(b, &log) {
		return s, 0, errors.New("no valid snapshot header: damaged, or of another log")
	}
	length = binary.LittleEndian.Uint64(b[24:])
	s = Snapshot{
		Version: b[snapshotMagicBytes],
		Synced:  length&syncedFlag != 0,
		Last: FrameID{
			HeaderCRC32C: binary.LittleEndian.Uint32(b[4:]),
			Seq:          binary.LittleEndian.Uint64(b[8:]),
			Segment:      binary.LittleEndian.Uint64(b[16:]),
		},
	}
	if s.Last.Seq == 0 || s.Last.Seq > MaxSeq {
		return s, 0, fmt.Errorf("seq %d is out of range", s.Last.Seq)
	}
	return s, length &^ (0xff << lengthBits), nil
}

// snapshotsThrough returns the highest seq that a synced snapshot proves durable, or 0. It reads
// only the headers, because the proof depends neither on the body nor on the file's name. It
// returns an I/O error: without the proof, numbers could be given to other events.
func snapshotsThrough(fsys fs.FS, log uuid.UUID) (seq uint64, err error) {
	info, err := fs.Stat(fsys, SnapshotDir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) || err == nil && !info.IsDir() {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	names, err := SnapshotNames(fsys)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		s, err := readSnapshotHeader(fsys, name, log)
		var unreadable *fs.PathError
		switch {
		case errors.As(err, &unreadable) && !errors.Is(err, fs.ErrNotExist): // a writer may have just removed it
			return 0, err
		case err == nil && s.Synced:
			seq = max(seq, s.Last.Seq)
		}
	}
	return seq, nil
}

// SnapshotNames returns the file names of a log's snapshots, newest first. It is not an error if
// the log has none.
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

// ReadSnapshots returns the snapshots of a log, the newest first, and those that are not intact as
// damage. It reads bodies from the newest snapshot to the first intact one, or all bodies if all is
// set. Only the first of the returned snapshots has its body, because many bodies may not fit into
// memory. For the others call Load. ReadSnapshots skips snapshots that cannot be read or have a
// later version, because the log can do without them.
func ReadSnapshots(fsys fs.FS, log uuid.UUID, all bool) (found []Snapshot, damage []Damage) {
	names, err := SnapshotNames(fsys)
	if err != nil {
		return nil, []Damage{{Segment: SnapshotDir, Reason: "directory cannot be read: " + err.Error(), Severity: Harmless}}
	}
	for _, name := range names {
		read := readSnapshot
		if len(found) > 0 && !all {
			read = readSnapshotHeader
		}
		s, err := read(fsys, name, log)
		if err == nil {
			err = s.checkName(name)
		}
		var unreadable *fs.PathError
		switch {
		case err == nil:
			if len(found) > 0 && s.fsys == nil {
				s = s.withoutBody(fsys, log)
			}
			found = append(found, s)
		case errors.As(err, &unreadable), errors.Is(err, ErrNewerFormat): // a writer may have just removed it
		default:
			d := Damage{Segment: path.Join(SnapshotDir, name), Reason: err.Error(), Severity: Harmless}
			if info, err := fs.Stat(fsys, d.Segment); err == nil {
				d.Length = info.Size()
			}
			damage = append(damage, d)
		}
	}
	return found, damage
}

// withoutBody returns the snapshot as readSnapshotHeader does.
func (s Snapshot) withoutBody(fsys fs.FS, log uuid.UUID) Snapshot {
	s.fsys, s.log, s.bodyBytes, s.Body = fsys, log, int64(len(s.Body)), nil
	return s
}

func readSnapshot(fsys fs.FS, name string, log uuid.UUID) (Snapshot, error) {
	s, err := readSnapshotHeader(fsys, name, log)
	if err != nil {
		return Snapshot{}, err
	}
	info, err := fs.Stat(fsys, path.Join(SnapshotDir, name))
	if err != nil {
		return Snapshot{}, err
	}
	if info.Size() != s.SizeBytes() { // a file with a wrong size may not fit into memory
		return Snapshot{}, fmt.Errorf("the file has %d bytes, and the header says %d", info.Size(), s.SizeBytes())
	}
	b, err := fs.ReadFile(fsys, path.Join(SnapshotDir, name))
	if err != nil {
		return Snapshot{}, err
	}
	return DecodeSnapshot(b, log)
}

// readSnapshotHeader returns a snapshot without its body. Load reads the body.
func readSnapshotHeader(fsys fs.FS, name string, log uuid.UUID) (Snapshot, error) {
	f, err := fsys.Open(path.Join(SnapshotDir, name))
	if err != nil {
		return Snapshot{}, err
	}
	defer f.Close()
	header := make([]byte, snapshotHeaderBytes)
	n, err := io.ReadFull(f, header)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Snapshot{}, err
	}
	s, length, err := decodeSnapshotHeader(header[:n], log)
	s.fsys, s.log, s.bodyBytes = fsys, log, int64(length)
	return s, err
}

// checkName returns an error if the file name does not match the seq in the header.
func (s Snapshot) checkName(name string) error {
	if s.Name() != name {
		return fmt.Errorf("the file name and the header disagree: the header has seq %d", s.Last.Seq)
	}
	return nil
}

// IsSnapshotOf reports whether the header of the file in snapshots/ is intact and belongs to this
// log.
func IsSnapshotOf(fsys fs.FS, name string, log uuid.UUID) bool {
	if _, ok := ParseName(name); !ok {
		return false
	}
	_, err := readSnapshotHeader(fsys, name, log)
	return err == nil
}
