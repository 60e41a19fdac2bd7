package segment

import "io/fs"

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
