package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// Directory is the content of a log's directory without its frames.
type Directory struct {
	Manifest  Manifest
	Watermark uint64   // every frame up to this one was durable, except those in Manifest.Skipped
	Snapshots uint64   // every frame up to this one was durable: a synced snapshot proves it
	Damage    []Damage // damage of the manifest copies and the watermark files
	Strays    []Damage // stray files among the segments: see Strays; Recovery adds damaged snapshots
}

// ReadDirectory reads the directory of a log. Call it before reading the frames. If a writer has
// the log open, the watermark is then never ahead of the segments. ReadDirectory returns the errors
// of ReadManifest.
func ReadDirectory(fsys fs.FS) (Directory, error) {
	for {
		d, err := readDirectory(fsys)
		if err != nil {
			return Directory{}, err
		}
		again, _, err := ReadManifest(fsys)
		if err != nil {
			return Directory{}, err
		}
		// If the revision changed, a writer opened the log meanwhile, and the watermark may be
		// newer than the manifest.
		if again.Revision == d.Manifest.Revision {
			return d, nil
		}
	}
}

func readDirectory(fsys fs.FS) (d Directory, err error) {
	if d.Manifest, d.Damage, err = ReadManifest(fsys); err != nil {
		return Directory{}, err
	}
	if d.Manifest.Revision > 0 {
		var damage []Damage
		if d.Watermark, damage, err = ReadWatermark(fsys, d.Manifest.UUID); err != nil {
			return Directory{}, err
		}
		d.Damage = append(d.Damage, damage...)
	}
	if err := checkManifestIsOurs(fsys, d.Manifest); err != nil { //mutant:foreign-manifest
		return Directory{}, err
	}
	if d.Snapshots, err = snapshotsThrough(fsys, d.Manifest.UUID); err != nil { //mutant:snapshot-is-evidence
		return Directory{}, err
	}
	d.Strays, err = Strays(fsys)
	return d, err
}

// Losses returns the Losses to start a scan with. It has no lost frames yet.
func (d Directory) Losses() Losses {
	return Losses{durableThrough: max(d.Watermark, d.Snapshots), skipped: d.Manifest.Skipped}
}

// checkManifestIsOurs returns ErrManifestLost if the frames do not belong to the log of the
// manifest. With the wrong manifest, all frames look damaged, and new frames do not match the right
// manifest.
//
// It usually reads one header. It reads the segments only if none of them begins with a frame of
// this log, until it finds such a frame. A frame with a damaged header has a random fingerprint, so
// the fingerprint of another log counts only if a second frame or another file has it too.
func checkManifestIsOurs(fsys fs.FS, m Manifest) error {
	names, err := Names(fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	scan := NewScan(fsys, Directory{Manifest: m}, ScanOptions{})
	for _, name := range names {
		head, err := scan.head(name)
		if _, _, ok := firstHeader(head, &m.UUID); ok || err != nil {
			return nil // reading the frames will return the error
		}
	}
	var census Census
	for _, name := range names {
		data, err := scan.read(name)
		if err != nil {
			return nil
		}
		census.AddSegment(name, data)
		if census.tally(FingerprintOf(m.UUID)).frames > 0 {
			return nil
		}
	}
	if err := census.addFiles(fsys); err != nil {
		return err
	}
	for _, t := range census.tallies {
		if t.frames > 1 || t.frames == 1 && t.files > 0 {
			return fmt.Errorf("%w: the frames do not belong to the log of the manifest, %s: restore the manifest or the segments of this log, or %s",
				ErrManifestLost, m.UUID, salvageHint)
		}
	}
	return nil
}

// AbsoluteDir returns the absolute path of a directory. If the working directory changes later, the
// path continues to lead to the same directory. AbsoluteDir uses the real path of the working
// directory, because $PWD may contain a symbolic link that later leads to another directory.
func AbsoluteDir(dir string) (string, error) {
	const separator = string(filepath.Separator)
	if !filepath.IsAbs(dir) {
		working, err := filepath.Abs(".")
		if err == nil {
			working, err = filepath.EvalSymlinks(working)
		}
		if err != nil { // not wrapped: fs.ErrNotExist would mean that the directory has no log
			return "", fmt.Errorf("%s: the working directory is unknown (%v): give the log's directory as an absolute path", dir, err)
		}
		dir = working + separator + dir
	}
	// The system follows a symbolic link before "..", but filepath.Clean would remove it.
	if i := strings.LastIndex(dir+separator, separator+".."+separator); i >= 0 {
		end := i + len(separator+"..")
		if parent, err := filepath.EvalSymlinks(dir[:end]); err == nil {
			dir = parent + dir[end:]
		}
	}
	return filepath.Clean(dir), nil
}
