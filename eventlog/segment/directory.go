package segment

import "io/fs"

// Directory is what a log's directory holds beside its frames.
type Directory struct {
	Manifest  Manifest
	Watermark uint64   // every frame up to this one was on the device, but for Manifest.Skipped
	Snapshots uint64   // every frame up to this one was on the device, as a snapshot proves
	Damage    []Damage // of the manifest's copies and of the watermark
	Strays    []Damage // what lies among the segments and must not
}

// ReadDirectory reads it. It is read before the frames are: beside a live writer
// the watermark then tells of none that the segments do not hold yet. Its errors
// are ReadManifest's.
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
		if again.Revision == d.Manifest.Revision { // else the watermark may be of after an opening that the manifest is of before
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

// Losses returns the losses of a log of which no frame was read yet.
func (d Directory) Losses() Losses {
	return Losses{durableThrough: max(d.Watermark, d.Snapshots), skipped: d.Manifest.Skipped}
}
