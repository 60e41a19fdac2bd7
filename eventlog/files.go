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

// syncDir makes the entries of a directory durable: a file that was created,
// renamed or linked may otherwise be gone after a power cut, whatever was synced
// in it.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeDir makes a directory, and the ones above it, where they are not there. All
// are made durable in their parents, also those that are there: who made them may
// have been stopped before that.
func makeDir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
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

// syncParent makes the name of a directory durable, if its parent is ours to open.
func syncParent(dir string) error {
	err := syncDir(filepath.Join(dir, ".."))
	if errors.Is(err, fs.ErrPermission) { // then it was not made by us
		return nil
	}
	return err
}

// createEmpty makes a new file, which is there for good once its directory is synced. After
// an error it is not there.
func createEmpty(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm)
	if err != nil {
		return err
	}
	f.Close() // nothing was written that this could lose
	return nil
}

// createFile makes a new file with this content or none, durable once its directory is
// synced.
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

// replaceFile gives a file new content all at once, and makes it durable.
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
