package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"migrationlog/eventlog/segment"
)

// separateLinks replaces each file that this opening or the writer changes in place with a copy, if
// the file has a second link. A backup may have been made with hard links (cp -al). Without
// separateLinks, each write to the log would also change the backup.
//
// The watermark files come first, so that they stay older than the segment: see writeWatermark. A
// damaged one is left alone, because the repair replaces it anyway.
func (r *Recovery) separateLinks() error {
	var paths []string
	for _, name := range segment.WatermarkNames {
		if !r.isDamaged(name) {
			paths = append(paths, filepath.Join(r.dir, name))
		}
	}
	for _, path := range append(paths, filepath.Join(r.dir, segment.WALDir, r.scan.Tail().Segment)) {
		if err := separate(path); err != nil {
			return err
		}
	}
	return nil
}

// separate replaces a file with a copy if the file has a second link. All other links keep the old
// file. A crash leaves either the old file or the complete copy, with the same mode and owner.
func separate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if linkCount(info) < 2 { //mutant:linked-file-copied
		return nil
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = replaceFileWith(path, b, func(temporary string) error { return copyOwner(info, temporary) })
	}
	if err != nil {
		return fmt.Errorf("copy %s, because it has a second hard link: %w", path, err)
	}
	return nil
}

// copyOwner gives a file the mode and, if this process may do so, the owner of another file. It makes
// them durable.
func copyOwner(from fs.FileInfo, to string) error {
	if uid, ok := statField(from, "Uid"); ok {
		gid, _ := statField(from, "Gid")
		_ = os.Chown(to, int(uid), int(gid)) // only root may change the owner
	}
	return errors.Join(os.Chmod(to, from.Mode().Perm()), overwrite(to, 0, nil))
}

// linkCount returns the number of a file's links, or 1 if the system does not count them.
func linkCount(info fs.FileInfo) uint64 {
	if count, ok := statField(info, "Nlink"); ok {
		return count
	}
	return 1
}

// statField returns a field of the system's description of a file. It uses reflection, because the
// type depends on the system.
func statField(info fs.FileInfo, name string) (value uint64, ok bool) {
	stat := reflect.Indirect(reflect.ValueOf(info.Sys()))
	if stat.Kind() != reflect.Struct {
		return 0, false
	}
	field := stat.FieldByName(name)
	if !field.IsValid() || !field.CanUint() {
		return 0, false
	}
	return field.Uint(), true
}
