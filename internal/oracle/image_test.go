package oracle_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// image has the contents of the files of a log directory, by their relative paths. It does not have
// the lock file, quarantine/ and temporary files.
type image map[string][]byte

// load reads a log directory, which a writer may have open.
func load(dir string) (image, error) { return loadFolders(dir, ".", "wal", "snapshots") }

func loadFolders(dir string, folders ...string) (image, error) {
	files := image{}
	for _, folder := range folders {
		entries, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || e.Name() == "LOCK" || strings.HasSuffix(e.Name(), ".new") {
				continue
			}
			name := filepath.Join(folder, e.Name())
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil {
				files[name] = b
			} else if !errors.Is(err, fs.ErrNotExist) { // a writer may have removed a snapshot meanwhile
				return nil, err
			}
		}
	}
	return files, nil
}

// store replaces the content of the directory by these files.
func (files image) store(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "wal"), 0o700); err != nil {
		return err
	}
	for _, name := range files.names("") {
		path := filepath.Join(dir, name)
		if strings.HasPrefix(name, "snapshots") {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
		}
		if err := os.WriteFile(path, files[name], 0o600); err != nil {
			return err
		}
	}
	return nil
}

// names returns the paths that begin with the prefix, in order.
func (files image) names(prefix string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(files)), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// segments returns the paths of the segments, in order.
func (files image) segments() []string { return files.names("wal/0") }

func segmentName(first uint64) string { return fmt.Sprintf("wal/%020d", first) }

func snapshotName(seq uint64) string { return fmt.Sprintf("snapshots/%020d", seq) }
