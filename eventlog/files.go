package eventlog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

const (
	dirPerm  fs.FileMode = 0o750
	filePerm fs.FileMode = 0o640
)

// syncDir makes the entries of a directory durable. Without it, a file that was created, renamed or
// linked may be missing after a power cut, even if its content was synced.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeDir creates a directory, given by its absolute path, and its parents if they are missing. It syncs the parent of each one,
// also of those that exist already, because the process that created them may have been killed
// before it synced the parent.
func makeDir(dir string) error {
	parent := filepath.Dir(dir)
	if parent == dir {
		return nil
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return syncParent(dir) //mutant:directory-name-synced
}

// syncParent makes the name of a directory durable. If this process may not open the parent, it
// does nothing.
func syncParent(dir string) error {
	err := syncDir(filepath.Join(dir, ".."))
	if errors.Is(err, fs.ErrPermission) { // then this process did not create dir
		return nil
	}
	return err
}

// createEmpty creates an empty file. After an error it has not created one. The file is durable
// only after its directory is synced.
func createEmpty(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm)
	if err != nil {
		return err
	}
	f.Close() // nothing was written, so an error loses nothing
	return nil
}

// createFile creates a file and syncs its content. If writing fails, it removes the file again. The
// file's name is durable only after its directory is synced.
func createFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil { //mutant:content-before-name
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// replaceFile replaces a file's content atomically and makes it durable.
func replaceFile(path string, content []byte) error {
	temporary := path + segment.TemporarySuffix
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := createFile(temporary, content); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path)) //mutant:renamed-name-synced
}
