package segment

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Names inside a log directory, as fs.FS spells them. The manifest is kept
// twice, so that no single damage separates the frames from the UUID that
// their headers are mixed with.
const (
	WALDir             = "wal"
	ManifestName       = "MANIFEST"
	ManifestCopyName   = WALDir + "/MANIFEST"
	TemporarySuffix    = ".new" // of a file on its way to replacing another
	maxManifestBytes   = 1 << 20
	manifestTimeLayout = time.RFC3339
)

var (
	// ErrNotALog is returned for a directory in which no log was ever made.
	ErrNotALog = errors.New("not a migrationlog directory")
	// ErrIsWALDir is returned for the wal/ directory of a log. The log is the directory above it.
	ErrIsWALDir = errors.New("give the directory above this one")
	// ErrManifestLost is returned when neither copy of the manifest can be read:
	// without the log's UUID no frame can be believed.
	ErrManifestLost = errors.New("both copies of the manifest are missing or damaged")
	// ErrNewerFormat is returned if a newer version wrote the log's manifest or one of its frames.
	ErrNewerFormat = errors.New("log is in a newer format")
)

// Manifest is the identity of a log, and what an opening had to decide for all
// later ones.
type Manifest struct {
	UUID    uuid.UUID
	Created time.Time // seconds; for people
	// Revision is higher in the newer of two copies. From 1 on the log keeps a
	// watermark.
	Revision uint64
	// Skipped are the numbers, ascending and at most MaxSeq, that an opening passed over because
	// their frames were lost and nobody knew that these had been durable.
	Skipped []SeqRange
}

// Encode returns the manifest file's text.
func (m Manifest) Encode() []byte {
	text := fmt.Appendf(nil, "migrationlog format %d\nuuid %s\ncreated %s\n",
		FormatVersion, m.UUID, m.Created.UTC().Format(manifestTimeLayout))
	if m.Revision > 0 {
		text = fmt.Appendf(text, "revision %d\n", m.Revision)
	}
	for _, r := range m.Skipped {
		text = fmt.Appendf(text, "skipped %d to %d\n", r.First, r.Last)
	}
	return fmt.Appendf(text, "crc32c %08x\n", crc32.Checksum(text, castagnoli))
}

// Skip returns the manifest's next revision, with these numbers added to the
// skipped.
func (m Manifest) Skip(ranges []SeqRange) Manifest {
	m.Revision++
	m.Skipped = merged(slices.Concat(m.Skipped, ranges))
	if n := len(m.Skipped) - maxSkipped; n > 0 {
		m.Skipped[n].First = m.Skipped[0].First
		m.Skipped = m.Skipped[n:]
	}
	return m
}

// maxSkipped bounds the manifest's size. What is more is taken together: of the
// numbers between it cannot be known any more either.
const maxSkipped = 10_000

// DecodeManifest reads a manifest file's text. It returns ErrNewerFormat for
// an intact manifest of a newer version.
func DecodeManifest(b []byte) (Manifest, error) {
	text := b[:max(bytes.LastIndex(b, []byte("crc32c ")), 0)]
	if string(b[len(text):]) != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(text, castagnoli)) {
		return Manifest{}, errors.New("manifest's CRC32C does not match its text")
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	version, err := strconv.Atoi(strings.TrimPrefix(first, "migrationlog format "))
	switch {
	case err != nil || version < 1:
		return Manifest{}, fmt.Errorf("manifest begins with %q", first)
	case version > FormatVersion:
		return Manifest{}, fmt.Errorf("%w: it is version %d, this program reads version %d: use a newer one", ErrNewerFormat, version, FormatVersion)
	}
	m, err := decodeManifestLines(rest)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// decodeManifestLines reads what follows the first line. A line that begins with
// a word it does not know is of a later version, and passed over.
func decodeManifestLines(text string) (m Manifest, err error) {
	for line := range strings.Lines(text) {
		word, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "uuid":
			m.UUID, err = uuid.Parse(value)
		case "created":
			m.Created, err = time.Parse(manifestTimeLayout, value)
		case "revision":
			m.Revision, err = strconv.ParseUint(value, 10, 64)
		case "skipped":
			var r SeqRange
			_, err = fmt.Sscanf(value, "%d to %d", &r.First, &r.Last)
			if err == nil && (r.First == 0 || r.First > r.Last || r.Last > MaxSeq) {
				err = fmt.Errorf("skipped range %d to %d is empty or not within 1 to %d", r.First, r.Last, MaxSeq)
			}
			m.Skipped = append(m.Skipped, r)
		}
		if err != nil {
			return Manifest{}, err
		}
	}
	if m.UUID == uuid.Nil {
		return Manifest{}, errors.New("no uuid")
	}
	return m, nil
}

// ReadManifest reads the manifest of a log directory from whichever copy is
// sound, the newer of two that are, and returns what is wrong with the other as
// damage. It returns ErrNotALog where nothing was ever written (a log whose making
// was cut short among them), ErrIsWALDir, ErrManifestLost, ErrNewerFormat, or an
// I/O error.
func ReadManifest(fsys fs.FS) (Manifest, []Damage, error) {
	_, before := fs.Stat(fsys, ManifestName)
	m, damage, err := readManifest(fsys)
	if errors.Is(err, ErrManifestLost) && errors.Is(before, fs.ErrNotExist) {
		if _, now := fs.Stat(fsys, ManifestName); now == nil { // a log was made meanwhile
			return readManifest(fsys)
		}
	}
	return m, damage, err
}

func readManifest(fsys fs.FS) (Manifest, []Damage, error) {
	if isWALDir(fsys) {
		return Manifest{}, nil, fmt.Errorf("%w: it holds the segments of a log", ErrIsWALDir)
	}
	var found *Manifest
	var damage []Damage
	for _, name := range []string{ManifestName, ManifestCopyName} { //mutant:manifest-copy
		m, size, err := readManifestCopy(fsys, name)
		switch {
		case errors.Is(err, ErrNewerFormat), errors.Is(err, errIO):
			return Manifest{}, nil, err
		case err != nil:
			damage = append(damage, Damage{Segment: name, Length: size, Reason: err.Error()})
		case found == nil:
			found = &m
		case found.UUID != m.UUID:
			return Manifest{}, nil, fmt.Errorf("%w: %s and %s name different logs, %s and %s: put the one back that belongs here",
				ErrManifestLost, ManifestName, name, found.UUID, m.UUID)
		case found.Revision < m.Revision: //mutant:newer-manifest
			found = &m
		}
	}
	// The manifest comes last when a log is made, and is never half there.
	if _, err := fs.Stat(fsys, ManifestName); errors.Is(err, fs.ErrNotExist) {
		nothing, err := nothingWritten(fsys)
		if err != nil {
			return Manifest{}, nil, err
		}
		if nothing {
			return Manifest{}, nil, ErrNotALog
		}
	}
	if found == nil {
		return Manifest{}, damage, fmt.Errorf("%w: restore %s from a backup of this log", ErrManifestLost, ManifestName)
	}
	return *found, damage, nil
}

// isWALDir reports whether the directory is itself the wal/ of a log. The copies of
// the manifest and the watermark in it make it look like one.
func isWALDir(fsys fs.FS) bool {
	if _, err := fs.Stat(fsys, WALDir); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	entries, _ := fs.ReadDir(fsys, ".")
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		_, ok := ParseName(e.Name())
		return ok
	})
}

// nothingWritten reports whether a directory without a manifest is one in which
// at most the making of a log has begun: it makes a watermark of nothing, an empty
// segment, and then the manifest's copy.
func nothingWritten(fsys fs.FS) (bool, error) {
	b, err := readSmall(fsys, WatermarkName, watermarkBytes)
	if errors.Is(err, errForeignFile) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	//mutant:watermark-was-set
	if err == nil && !bytes.HasPrefix(b, fmt.Appendf(nil, "%0*d ", nameDigits, 0)) {
		return false, nil
	}
	_, noCopy := fs.Stat(fsys, ManifestCopyName) // before the names: the segment is made first
	names, err := Names(fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, name := range names {
		info, err := fs.Stat(fsys, path.Join(WALDir, name))
		if err != nil || info.Size() > 0 {
			return false, err
		}
	}
	return len(names) > 0 || errors.Is(noCopy, fs.ErrNotExist), nil //mutant:log-was-made
}

func readManifestCopy(fsys fs.FS, name string) (Manifest, int64, error) {
	b, err := readSmall(fsys, name, maxManifestBytes)
	if err != nil && !errors.Is(err, errForeignFile) && !errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, 0, fmt.Errorf("%w: %w", errIO, err)
	}
	if err != nil {
		return Manifest{}, int64(len(b)), errors.New(damageReason(err))
	}
	m, err := DecodeManifest(b)
	return m, int64(len(b)), err
}

var (
	errIO          = errors.New("cannot read")
	errForeignFile = errors.New("not a file of this log")
)

// readSmall reads a file that must be a regular one of at most that size; else
// errForeignFile. What it returns with that is of the file's size, as far as the
// maximum.
func readSmall(fsys fs.FS, name string, maxBytes int) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errForeignFile
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(maxBytes)+1))
	if err == nil && len(b) > maxBytes {
		err = errForeignFile
	}
	return b, err
}

// damageReason says why a file could not be read, when that is damage.
func damageReason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	return err.Error()
}
