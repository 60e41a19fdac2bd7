package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// nameDigits is fixed by tidwall/wal, which names a segment by its first index.
const nameDigits = 20

// maxSeq bounds the numbers, so that one that was made up leaves a log others. At a
// million events a second it is 146,000 years away. A segment's name alone, without
// a frame, is believed half as far.
const (
	maxSeq     = 1 << 62
	maxClaimed = maxSeq / 2
)

// Name returns the file name of the segment whose first frame is firstSeq.
func Name(firstSeq uint64) string { return fmt.Sprintf("%0*d", nameDigits, firstSeq) }

// ParseName returns the first seq that a segment's file name gives, and
// whether it is the name of a segment at all.
func ParseName(name string) (firstSeq uint64, ok bool) {
	if len(name) != nameDigits {
		return 0, false
	}
	firstSeq, err := strconv.ParseUint(name, 10, 64)
	return firstSeq, err == nil && firstSeq > 0 && firstSeq <= maxSeq
}

// Names returns the names of a log's segment files in the order of their first
// seqs. What else lies in the directory is passed over.
func Names(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, WALDir) // sorted by name, which is by seq
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

// Strays returns what lies among the segments and is neither a segment nor a copy
// of the manifest or the watermark. tidwall/wal may take it for its own: at the sight of a name that
// ends in .START or .END it deletes segments.
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
		ours := final == ManifestCopyName || final == WatermarkCopyName
		_, named := ParseName(e.Name())
		if ours || named && e.Type().IsRegular() || !named && e.IsDir() { // tidwall/wal passes over directories
			continue
		}
		d := Damage{Segment: name, Reason: "not a file of this log"}
		if info, err := e.Info(); err == nil {
			d.Length = info.Size()
		}
		strays = append(strays, d)
	}
	return strays, nil
}
