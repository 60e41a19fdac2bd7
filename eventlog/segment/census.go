package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// ErrUnidentified is returned if the frames do not show which log they belong to.
var ErrUnidentified = errors.New("log cannot be identified")

// Census finds out which log segments belong to if the log's manifest is lost. It counts the frames
// of each fingerprint. The zero value is ready for use.
type Census struct {
	tallies map[Fingerprint]*tally
	frames  uint64
}

// tally counts the evidence for one fingerprint.
type tally struct {
	frames    uint64 // frames with an intact body
	manifests int    // intact copies of the manifest
	files     int    // watermark files, and snapshots with an intact header
	newer     error  // ErrNewerFormat for the first frame of a newer version
}

// Identity identifies a log by its fingerprint.
type Identity struct {
	Fingerprint Fingerprint
	// Manifest is an intact manifest of this log. Otherwise it has only the UUID, if a damaged
	// manifest contains it. The zero UUID means that no manifest has it.
	Manifest       Manifest
	ManifestIntact bool
	Frames         uint64 // frames with an intact body and this fingerprint
	// OtherFrames counts the frames with an intact body and another fingerprint. Their headers are
	// damaged, or they belong to other logs. OtherLogs counts the OtherFrames whose fingerprint
	// occurs at least twice. A damaged header has a random fingerprint, so these frames belong to
	// other logs.
	OtherFrames, OtherLogs uint64
	// Files counts the watermark files and snapshots that confirm the fingerprint.
	Files int
}

// AddSegment counts the frames in the content of a segment.
func (c *Census) AddSegment(name string, data []byte) {
	for at := range magicOffsets(data) {
		f, ok := frameFingerprint(data[at:])
		if !ok {
			continue
		}
		c.frames++
		t := c.tally(f)
		t.frames++
		if version := data[at+len(magic)]; version > FormatVersion && t.newer == nil {
			t.newer = newerFrameError(part{name: name}, at, data[at:], version)
		}
	}
}

// frameFingerprint returns the fingerprint in the header of the frame at the start of b. ok is
// false if the header is implausible or the body is not intact.
func frameFingerprint(b []byte) (f Fingerprint, ok bool) {
	if len(b) < HeaderBytes || b[len(magic)] == 0 {
		return 0, false
	}
	_, bodyBytes, ok := headerFields(b)
	if !ok || !isBodyIntact(b, bodyBytes) {
		return 0, false
	}
	return fingerprintIn(b[:headerCRCOffset], binary.LittleEndian.Uint32(b[headerCRCOffset:])), true
}

func (c *Census) tally(f Fingerprint) *tally {
	if c.tallies == nil {
		c.tallies = make(map[Fingerprint]*tally)
	}
	if c.tallies[f] == nil {
		c.tallies[f] = &tally{}
	}
	return c.tallies[f]
}

// Identify returns the log that the segments belong to, after all of them were added. Of several
// logs it is the one with the most frames, or else with an intact manifest, or else with the most
// other files. Identify reads the manifest, the watermark and the headers of the snapshots in fsys.
// It returns ErrUnidentified, ErrNewerFormat, or an I/O error.
func (c *Census) Identify(fsys fs.FS) (Identity, error) {
	manifests, texts, err := manifestCopies(fsys)
	if err != nil {
		return Identity{}, err
	}
	for _, m := range manifests {
		c.tally(FingerprintOf(m.UUID)).manifests++
	}
	if err := c.addFiles(fsys); err != nil {
		return Identity{}, err
	}
	best, err := c.best()
	if err != nil {
		return Identity{}, err
	}
	t := c.tallies[best]
	id := Identity{Fingerprint: best, Frames: t.frames, Files: t.files, OtherFrames: c.frames - t.frames}
	for f, other := range c.tallies {
		if f != best && other.frames > 1 {
			id.OtherLogs += other.frames
		}
	}
	for _, m := range manifests {
		if FingerprintOf(m.UUID) == best && (!id.ManifestIntact || m.Revision > id.Manifest.Revision) {
			id.Manifest, id.ManifestIntact = m, true
		}
	}
	for _, text := range texts {
		if log, ok := findUUID(text, best); ok && !id.ManifestIntact {
			id.Manifest.UUID = log
		}
	}
	return id, nil
}

// best returns the fingerprint with the most evidence.
func (c *Census) best() (Fingerprint, error) {
	if c.frames == 0 {
		return 0, fmt.Errorf("%w: the segments have no frame with an intact body", ErrUnidentified)
	}
	var ranked []Fingerprint
	for f, t := range c.tallies {
		if t.frames > 0 {
			ranked = append(ranked, f)
		}
	}
	compare := func(a, b Fingerprint) int {
		s, t := c.tallies[a], c.tallies[b]
		return cmp.Or(cmp.Compare(t.frames, s.frames), cmp.Compare(t.manifests, s.manifests), cmp.Compare(t.files, s.files))
	}
	slices.SortFunc(ranked, compare)
	if len(ranked) > 1 && compare(ranked[0], ranked[1]) == 0 {
		return 0, fmt.Errorf("%w: of %d frames with an intact body, %d have one log's checksum and %d have another log's or a damaged header: copy the segments of each log into a directory of its own",
			ErrUnidentified, c.frames, c.tallies[ranked[0]].frames, c.frames-c.tallies[ranked[0]].frames)
	}
	return ranked[0], c.tallies[ranked[0]].newer
}

// addFiles counts the watermark files and the snapshots.
func (c *Census) addFiles(fsys fs.FS) error {
	for _, name := range WatermarkNames {
		b, err := readSmall(fsys, name, watermarkBytes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errForeignFile) {
			return err
		}
		if f, ok := watermarkFingerprint(b); ok {
			c.tally(f).files++
		}
	}
	names, err := SnapshotNames(fsys)
	if err != nil {
		return err
	}
	for _, name := range names {
		f, ok, err := snapshotFingerprint(fsys, name)
		if err != nil {
			return err
		}
		if ok {
			c.tally(f).files++
		}
	}
	return nil
}

// watermarkFingerprint returns the fingerprint in the line of a watermark file.
func watermarkFingerprint(line []byte) (f Fingerprint, ok bool) {
	if len(line) != watermarkBytes {
		return 0, false
	}
	crc, err := hex.DecodeString(string(line[nameDigits+1 : watermarkBytes-1]))
	if err != nil {
		return 0, false
	}
	return fingerprintIn(line[:nameDigits], binary.BigEndian.Uint32(crc)), true
}

// snapshotFingerprint returns the fingerprint in the header of a snapshot. ok is false if the file
// is not a snapshot. If the header is damaged, the fingerprint is random.
func snapshotFingerprint(fsys fs.FS, name string) (fp Fingerprint, ok bool, err error) {
	f, err := fsys.Open(path.Join(SnapshotDir, name))
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	header := make([]byte, snapshotHeaderBytes)
	switch _, err := io.ReadFull(f, header); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return fingerprintIn(header[:headerCRCOffset], binary.LittleEndian.Uint32(header[headerCRCOffset:])), [snapshotMagicBytes]byte(header) == snapshotMagic, nil
}

// manifestCopies returns the intact copies of the manifest and the texts of the damaged ones. A
// crash may have left a copy under its temporary name.
func manifestCopies(fsys fs.FS) (intact []Manifest, damaged [][]byte, err error) {
	for _, name := range []string{ManifestName, ManifestCopyName, ManifestName + TemporarySuffix, ManifestCopyName + TemporarySuffix} {
		text, err := readSmall(fsys, name, maxManifestBytes)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errForeignFile) && text == nil {
			continue
		}
		if err != nil && !errors.Is(err, errForeignFile) {
			return nil, nil, err
		}
		switch m, err := DecodeManifest(text); {
		case errors.Is(err, ErrNewerFormat):
			return nil, nil, err
		case err == nil:
			intact = append(intact, m)
		default:
			damaged = append(damaged, text)
		}
	}
	return intact, damaged, nil
}

// findUUID returns the UUID with this fingerprint in the text of a damaged manifest.
func findUUID(text []byte, f Fingerprint) (uuid.UUID, bool) {
	for line := range bytes.Lines(text) {
		_, value, _ := strings.Cut(strings.TrimSpace(string(line)), "uuid ")
		if log, err := uuid.Parse(value); err == nil && FingerprintOf(log) == f {
			return log, true
		}
	}
	return uuid.Nil, false
}

// RescuedFS returns fsys if it is the directory of a log, also of one without a manifest. If fsys
// itself has segments, and no wal/ with segments, it is a wal/ or a directory with rescued
// segments. RescuedFS then returns a file system in which the files of fsys are in wal/. Without
// any segment it returns ErrNotALog.
func RescuedFS(fsys fs.FS) (log fs.FS, isWAL bool, err error) {
	for _, isWAL := range []bool{false, true} {
		log := fsys
		if isWAL {
			log = walOnly{fsys}
		}
		names, err := Names(log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		if len(names) > 0 {
			return log, isWAL, nil
		}
	}
	return nil, false, fmt.Errorf("%w: neither it nor %s/ in it has a segment, which is a file with a name of %d digits",
		ErrNotALog, WALDir, nameDigits)
}

// walOnly shows the files of another file system as the wal/ of a log. The log has no other files.
type walOnly struct{ wal fs.FS }

func (w walOnly) Open(name string) (fs.File, error) {
	name, err := w.nameInWAL("open", name)
	if err != nil {
		return nil, err
	}
	return w.wal.Open(name)
}

// Stat does not open the file, which may be a named pipe without a writer.
func (w walOnly) Stat(name string) (fs.FileInfo, error) {
	name, err := w.nameInWAL("stat", name)
	if err != nil {
		return nil, err
	}
	return fs.Stat(w.wal, name)
}

func (w walOnly) nameInWAL(op, name string) (string, error) {
	if name == WALDir {
		return ".", nil
	}
	if inside, ok := strings.CutPrefix(name, WALDir+"/"); ok {
		return inside, nil
	}
	return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}
