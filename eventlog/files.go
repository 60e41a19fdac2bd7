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
	return syncPath(dir, os.O_RDONLY)
}

// syncFile makes what any process has written to a file durable.
func syncFile(path string) error {
	return syncPath(path, os.O_RDWR)
}

func syncPath(path string, flag int) error {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// createFile makes a new file, durable once its directory is synced.
func createFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
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
	return syncDir(filepath.Dir(path))
}
