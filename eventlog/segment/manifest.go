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

// Paths in a log directory for use with fs.FS. The manifest has two copies, because its UUID is
// needed to verify the headers of all frames. Damage to one copy does not lose the UUID.
const (
	WALDir             = "wal"
	ManifestName       = "MANIFEST"
	ManifestCopyName   = WALDir + "/MANIFEST"
	TemporarySuffix    = ".new" // suffix of a new file before it replaces the old one
	maxManifestBytes   = 1 << 20
	manifestTimeLayout = time.RFC3339
)

var (
	// ErrNotALog is returned if no log was ever created in the directory.
	ErrNotALog = errors.New("not a migrationlog directory")
	// ErrIsWALDir is returned for the wal/ directory of a log. The log is the directory above it,
	// unless only the segments were rescued.
	ErrIsWALDir = errors.New("give the directory above this one")
	// ErrManifestLost is returned if no manifest can be used: both copies are missing or damaged,
	// the two copies belong to different logs, or the manifest does not belong to the log of the
	// frames. Without the log's UUID no frame can be verified. A Census recovers the UUID's
	// fingerprint.
	ErrManifestLost = errors.New("no usable manifest")
	// ErrNewerFormat is returned if a newer version wrote the log's manifest or one of its frames.
	ErrNewerFormat = errors.New("log is in a newer format")
)

// salvageHint is the last remedy in error messages.
const salvageHint = "copy the log into a new directory with 'replay-tool salvage DIR --out NEW'"

// Manifest is the identity of a log, with the numbers that Open decided to skip.
type Manifest struct {
	UUID    uuid.UUID
	Created time.Time // in seconds; for information only
	// Revision is higher in the newer of two copies. If it is at least 1, the log has a watermark.
	Revision uint64
	// Replicated is true if the log belongs to a member of a consensus group. Its events come from the
	// group's engine, which delivers them again after a crash.
	Replicated bool
	// History is the beginning of the log's history. It is nil if the log has the whole history.
	History *History
	// Skipped lists the numbers of lost frames of which it is unknown whether they had been
	// durable. Open skipped these numbers. The ranges are ascending and at most MaxSeq.
	Skipped []SeqRange
}

// History is the beginning of the history of a log that replaced another one. Its first events
// restored the state at this point. Earlier events are not in the log.
type History struct {
	Index  uint64 // of the last entry of the consensus engine that the restored state includes
	Term   uint64 // of that entry
	Origin string // of the restored state: OriginRestored, OriginAcceptedLoss, or a word of a later version
}

// The origins of a restored state.
const (
	OriginRestored     = "restored"      // another member, or a backup
	OriginAcceptedLoss = "accepted-loss" // the rows that were left after a loss, because an operator accepted the loss
)

// The formats of a manifest. A program that does not know replicated logs must not open one, because
// it would skip the restored rows.
const (
	plainFormat      = 1
	replicatedFormat = 2
)

// Format returns the format of the manifest.
func (m Manifest) Format() int {
	if m.Replicated {
		return replicatedFormat
	}
	return plainFormat
}

// Encode returns the text of the manifest file.
func (m Manifest) Encode() []byte {
	text := fmt.Appendf(nil, "migrationlog format %d\nuuid %s\ncreated %s\n",
		m.Format(), m.UUID, m.Created.UTC().Format(manifestTimeLayout))
	if m.Revision > 0 {
		text = fmt.Appendf(text, "revision %d\n", m.Revision)
	}
	if h := m.History; h != nil {
		text = fmt.Appendf(text, "history %d %d %s\n", h.Index, h.Term, h.Origin)
	}
	for _, r := range m.Skipped {
		text = fmt.Appendf(text, "skipped %d to %d\n", r.First, r.Last)
	}
	return fmt.Appendf(text, "crc32c %08x\n", crc32.Checksum(text, castagnoli))
}

// Skip returns the manifest's next revision, with the ranges added to Skipped.
func (m Manifest) Skip(ranges []SeqRange) Manifest {
	m.Revision++
	m.Skipped = merged(slices.Concat(m.Skipped, ranges))
	if n := len(m.Skipped) - maxSkipped; n > 0 {
		m.Skipped[n].First = m.Skipped[0].First
		m.Skipped = m.Skipped[n:]
	}
	return m
}

// maxSkipped limits the number of ranges, and with it the manifest's size. If there are more, Skip
// joins the lowest ranges into one. The numbers between them then count as skipped too.
const maxSkipped = 10_000

// DecodeManifest parses the text of a manifest file. It returns ErrNewerFormat for an intact
// manifest of a newer version.
func DecodeManifest(b []byte) (Manifest, error) {
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return Manifest{}, fmt.Errorf("cut short: %d bytes, and the last line has no line break", len(b))
	}
	text := b[:max(bytes.LastIndex(b, []byte("crc32c ")), 0)]
	if string(b[len(text):]) != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(text, castagnoli)) {
		return Manifest{}, errors.New("manifest's CRC32C does not match its text")
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	version, err := strconv.Atoi(strings.TrimPrefix(first, "migrationlog format "))
	switch {
	case err != nil || version < 1:
		return Manifest{}, fmt.Errorf("manifest begins with %.60q, expected \"migrationlog format %d\"", first, plainFormat)
	case version > replicatedFormat:
		return Manifest{}, fmt.Errorf("%w: the manifest has version %d, but this program reads at most version %d: use a newer program", ErrNewerFormat, version, replicatedFormat)
	}
	m, err := decodeManifestLines(rest)
	m.Replicated = version == replicatedFormat
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// decodeManifestLines parses the lines after the first one. It ignores a line that begins with an
// unknown word, because a later version may have added it.
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
		case "history":
			m.History = &History{}
			_, err = fmt.Sscanf(value, "%d %d %s", &m.History.Index, &m.History.Term, &m.History.Origin)
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

// ReadManifest reads the manifest of a log directory. If both copies are intact, it returns the
// newer one. If one copy is missing or damaged, it returns the other one and reports the damage. It
// returns ErrNotALog if nothing was ever written, also if the creation of the log was interrupted.
// Other errors are ErrIsWALDir, ErrManifestLost, ErrNewerFormat, or an I/O error.
func ReadManifest(fsys fs.FS) (Manifest, []Damage, error) {
	_, before := fs.Stat(fsys, ManifestName)
	m, damage, err := readManifest(fsys)
	if errors.Is(err, ErrManifestLost) && errors.Is(before, fs.ErrNotExist) {
		if _, now := fs.Stat(fsys, ManifestName); now == nil { // a log was created meanwhile
			return readManifest(fsys)
		}
	}
	return m, damage, err
}

func readManifest(fsys fs.FS) (Manifest, []Damage, error) {
	if isWALDir(fsys) {
		return Manifest{}, nil, fmt.Errorf("%w: it holds the segments of a log (if nothing else of the log is left, %s)", ErrIsWALDir, salvageHint)
	}
	var found *Manifest
	var damage []Damage
	for _, name := range []string{ManifestName, ManifestCopyName} { //mutant:manifest-copy
		m, size, err := readManifestCopy(fsys, name)
		switch {
		case errors.Is(err, ErrNewerFormat), errors.Is(err, errIO):
			return Manifest{}, nil, err
		case err != nil:
			damage = append(damage, Damage{Segment: name, Length: size, Reason: err.Error(), Severity: Harmless})
		case found == nil:
			found = &m
		case found.UUID != m.UUID:
			return Manifest{}, nil, fmt.Errorf("%w: %s and %s belong to different logs, %s and %s: restore the copy that belongs to this log, or %s",
				ErrManifestLost, ManifestName, name, found.UUID, m.UUID, salvageHint)
		case found.Revision < m.Revision: //mutant:newer-manifest
			found = &m
		}
	}
	// Creating a log writes the manifest last and atomically.
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
		return Manifest{}, damage, fmt.Errorf("%w: both copies of the manifest are missing or damaged: restore %s from a backup of this log, or %s", ErrManifestLost, ManifestName, salvageHint)
	}
	return *found, damage, nil
}

// isWALDir reports whether the directory is the wal/ directory of a log. It contains copies of the
// manifest and the watermark and therefore looks like a log.
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

// nothingWritten reports whether a directory without a manifest never held a frame. The creation of
// a log may have been interrupted there. Creation writes a watermark of 0, an empty segment, the
// manifest's copy, and finally the manifest.
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
	// Check the copy before the names, because the segment is created before the copy.
	_, noCopy := fs.Stat(fsys, ManifestCopyName)
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

// readSmall reads a regular file of at most maxBytes. For any other file it returns errForeignFile.
// If the file is too large, it also returns the first maxBytes+1 bytes.
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

// damageReason returns the Damage.Reason for an error of readSmall.
func damageReason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	return err.Error()
}
