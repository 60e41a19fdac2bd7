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

// MaxSeq is the highest number of a frame. It is the one bound of all numbers on the device: those
// in frame headers, watermarks, the names of segments and snapshots, and a manifest's skipped
// ranges. A higher number was not written by a writer. MaxSeq+1 stands for the next number of a log
// that has given all of them. At a million events a second that takes 146,000 years.
const MaxSeq uint64 = 1 << 62

// maxBareName is the highest name that counts for a segment without a frame. A name has no
// checksum. A made-up one that is higher would leave the log few numbers.
const maxBareName = MaxSeq / 2

// Name returns the file name of the segment whose first frame is firstSeq.
func Name(firstSeq uint64) string { return fmt.Sprintf("%0*d", nameDigits, firstSeq) }

// ParseName returns the first seq that a segment's file name gives, and
// whether it is the name of a segment at all.
func ParseName(name string) (firstSeq uint64, ok bool) {
	if len(name) != nameDigits {
		return 0, false
	}
	firstSeq, err := strconv.ParseUint(name, 10, 64)
	return firstSeq, err == nil && firstSeq > 0 && firstSeq <= MaxSeq
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
