package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Directory is the content of a log's directory without its frames.
type Directory struct {
	Manifest  Manifest
	Watermark uint64   // every frame up to this one was durable, except those in Manifest.Skipped
	Snapshots uint64   // every frame up to this one was durable: a synced snapshot proves it
	Damage    []Damage // damage of the manifest copies and the watermark files
	Strays    []Damage // stray files among the segments: see Strays
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
		if len(damage) == len(WatermarkNames) { //mutant:foreign-manifest
			if err := checkManifestIsOurs(fsys, d.Manifest); err != nil {
				return Directory{}, err
			}
		}
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

// checkManifestIsOurs returns ErrManifestLost if the manifest belongs to another log. With it, all
// frames would look damaged, and a writer would append frames that this log's manifest rejects. The
// evidence is the fingerprint that both watermark files and the frames of a segment have in common.
func checkManifestIsOurs(fsys fs.FS, m Manifest) error {
	var found [len(WatermarkNames)]Fingerprint
	for i, name := range WatermarkNames {
		line, err := readSmall(fsys, name, watermarkBytes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errForeignFile) {
			return err
		}
		f, ok := watermarkFingerprint(line)
		if !ok {
			return nil
		}
		found[i] = f
	}
	other := found[0]
	if other != found[1] || other == FingerprintOf(m.UUID) {
		return nil
	}
	names, err := Names(fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var census Census
	for _, name := range slices.Backward(names) {
		data, err := fs.ReadFile(fsys, path.Join(WALDir, name))
		if err != nil {
			return err
		}
		if census.AddSegment(name, data); census.frames > 0 {
			break // this segment is enough
		}
	}
	if census.tally(other).frames == 0 || census.tally(FingerprintOf(m.UUID)).frames > 0 {
		return nil
	}
	return fmt.Errorf("%w: the watermarks and the frames belong to another log than the manifest of %s: restore the manifest of this log, or %s",
		ErrManifestLost, m.UUID, salvageHint)
}

// AbsoluteDir returns the absolute path of a directory. It resolves a relative path against the
// working directory itself. $PWD may name the working directory through a symbolic link, which may
// lead to another directory later.
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
