package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// nameDigits is the length of a segment's file name. tidwall/wal defines it.
const nameDigits = 20

// MaxSeq is the highest number of a frame. The limit applies to all numbers on the device: in frame
// headers, watermarks, the names of segments and snapshots, and the skipped ranges of a manifest. A
// higher number is damage. If a log has used all numbers, its next number is MaxSeq+1. At a million
// events per second this takes 146,000 years.
const MaxSeq uint64 = 1 << 62

// maxBareName is the highest file name that is accepted for a segment without an intact frame. A
// name has no checksum. If a wrong name were accepted and close to MaxSeq, the log would have few
// numbers left.
const maxBareName = MaxSeq / 2

// Name returns the file name of the segment whose first frame is firstSeq.
func Name(firstSeq uint64) string { return fmt.Sprintf("%0*d", nameDigits, firstSeq) }

// ParseName returns the first seq in a segment's file name. ok is false if the name is not the name
// of a segment.
func ParseName(name string) (firstSeq uint64, ok bool) {
	if len(name) != nameDigits {
		return 0, false
	}
	firstSeq, err := strconv.ParseUint(name, 10, 64)
	return firstSeq, err == nil && firstSeq > 0 && firstSeq <= MaxSeq
}

// Names returns the names of a log's segment files in the order of their first seqs. It ignores all
// other files.
func Names(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, WALDir) // sorted by name, and therefore by seq
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := ParseName(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// IsWALName reports whether tidwall/wal v1.2.1 takes a file with this name for one of its own. Such
// a name has 20 digits, not all 0, and may end with .START or .END. tidwall/wal then reads the file
// as a segment, or deletes segments. It ignores directories and all other names.
func IsWALName(name string) bool {
	if len(name) < nameDigits {
		return false
	}
	digits, suffix := name[:nameDigits], name[nameDigits:]
	seq, err := strconv.ParseUint(digits, 10, 64)
	return err == nil && seq > 0 && (suffix == "" || suffix == ".START" || suffix == ".END")
}

// Strays returns the stray files among the segments. A stray file is neither a segment nor a copy
// of the manifest or the watermark. It endangers events if tidwall/wal takes it for one of its own
// files, or if it has the name of a segment and is not a regular file. Otherwise it is harmless.
func Strays(fsys fs.FS) ([]Damage, error) {
	entries, err := fs.ReadDir(fsys, WALDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var strays []Damage
	for _, e := range entries {
		name := path.Join(WALDir, e.Name())
		final := strings.TrimSuffix(name, TemporarySuffix)
		_, isCopy := ParseName(path.Base(final)) // a temporary copy of a segment, left by a crash
		ours := final == ManifestCopyName || final == WatermarkCopyName || final != name && isCopy
		_, isName := ParseName(e.Name())
		if ours || isName && e.Type().IsRegular() || !isName && e.IsDir() { // tidwall/wal ignores directories
			continue
		}
		d := Damage{Segment: name, Reason: "not a file of this log", Severity: Harmless}
		if isName {
			d.Severity, d.Reason = EndangersEvents, "has a segment's name but is not a regular file: replace it with the segment itself"
		} else if IsWALName(e.Name()) {
			d.Severity, d.Reason = EndangersEvents, "not a file of this log, but tidwall/wal would take it for a segment"
		}
		if info, err := e.Info(); err == nil {
			d.Length = info.Size()
		}
		strays = append(strays, d)
	}
	return strays, nil
}
