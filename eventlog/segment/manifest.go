package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
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
	maxManifestBytes   = 4096
	manifestTimeLayout = time.RFC3339
)

var (
	// ErrNotALog is returned for a directory in which no log was ever made.
	ErrNotALog = errors.New("not a migrationlog directory")
	// ErrManifestLost is returned when neither copy of the manifest can be read:
	// without the log's UUID no frame can be believed.
	ErrManifestLost = errors.New("both copies of the manifest are missing or damaged")
	// ErrNewerFormat is returned when the log was written by a newer version.
	ErrNewerFormat = errors.New("log is in a newer format")
)

// Manifest is the identity of a log, written once when the log is made.
type Manifest struct {
	UUID    uuid.UUID
	Created time.Time // seconds; for people
}

// Encode returns the manifest file's text.
func (m Manifest) Encode() []byte {
	text := fmt.Sprintf("migrationlog format %d\nuuid %s\ncreated %s\n",
		FormatVersion, m.UUID, m.Created.UTC().Format(manifestTimeLayout))
	return fmt.Appendf(nil, "%scrc32c %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

// DecodeManifest reads a manifest file's text. It returns ErrNewerFormat for
// an intact manifest of a newer version.
func DecodeManifest(b []byte) (Manifest, error) {
	text, tail, _ := strings.Cut(string(b), "crc32c ")
	if tail != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(text), castagnoli)) {
		return Manifest{}, errors.New("manifest's CRC32C does not match its text")
	}
	first, rest, _ := strings.Cut(text, "\n")
	version, err := strconv.Atoi(strings.TrimPrefix(first, "migrationlog format "))
	switch {
	case err != nil || version < 1:
		return Manifest{}, fmt.Errorf("manifest begins with %q", first)
	case version > FormatVersion:
		return Manifest{}, fmt.Errorf("%w: it is version %d, this program reads version %d: use a newer one", ErrNewerFormat, version, FormatVersion)
	}
	var id, created string
	if _, err := fmt.Sscanf(rest, "uuid %s\ncreated %s\n", &id, &created); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	var m Manifest
	if m.UUID, err = uuid.Parse(id); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if m.Created, err = time.Parse(manifestTimeLayout, created); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// ReadManifest reads the manifest of a log directory from whichever copy is
// sound, and returns what is wrong with the other as damage. It returns
// ErrNotALog where nothing was ever written (a log whose making was cut short
// among them), ErrManifestLost, ErrNewerFormat, or an I/O error.
func ReadManifest(fsys fs.FS) (Manifest, []Damage, error) {
	var found *Manifest
	var damage []Damage
	for _, name := range []string{ManifestName, ManifestCopyName} {
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

// nothingWritten reports whether a directory without a manifest is one in which
// at most the making of a log has begun: it makes an empty segment, and then the
// manifest's copy.
func nothingWritten(fsys fs.FS) (bool, error) {
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
	_, err = fs.Stat(fsys, ManifestCopyName)
	return len(names) > 0 || errors.Is(err, fs.ErrNotExist), nil
}

var errIO = errors.New("cannot read")

func readManifestCopy(fsys fs.FS, name string) (Manifest, int64, error) {
	info, err := fs.Stat(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, 0, errors.New("missing")
	}
	if err != nil {
		return Manifest{}, 0, fmt.Errorf("%w: %w", errIO, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxManifestBytes {
		return Manifest{}, info.Size(), errors.New("not a manifest")
	}
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return Manifest{}, 0, fmt.Errorf("%w: %w", errIO, err)
	}
	m, err := DecodeManifest(b)
	return m, int64(len(b)), err
}
