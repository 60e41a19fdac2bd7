package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
// linked may be missing after a power cut, even if its content was synced. If the file system does
// not support the call, the error contains the remedy.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if isUnsupported(err) {
		err = fmt.Errorf("%w: this file system cannot sync a directory, so a power cut may remove new files. Put the log on a file system that can, such as ext4 or XFS", err)
	}
	return errors.Join(err, f.Close())
}

// makeDir creates a directory, given by its absolute path, and its parents if they are missing. It
// syncs the parent of each of these directories, even if the directory exists already. The process
// that created it may have been killed before it synced the parent.
func makeDir(dir string) error {
	parent := filepath.Dir(dir)
	if parent == dir {
		return nil
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	created := false
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		err := os.Mkdir(dir, dirPerm)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		created = err == nil
	}
	return syncParent(dir, created) //mutant:directory-name-synced
}

// syncParent makes the name of a directory durable. If this process is not allowed to open the
// parent, it does nothing. It accepts a parent whose file system cannot sync directories, unless
// dir was just created there.
func syncParent(dir string, created bool) error {
	err := syncDir(filepath.Join(dir, ".."))
	if errors.Is(err, fs.ErrPermission) || isUnsupported(err) && !created { // without permission, dir was not created
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

// renameIfAbsent renames a file. If the new name exists, it returns fs.ErrExist. It is not atomic:
// no other process may create that name at the same time.
func renameIfAbsent(from, to string) error {
	_, err := os.Lstat(to)
	switch {
	case err == nil:
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.Rename(from, to)
}

// hasOnlyZeros reports whether a file is empty or has only zeros.
func hasOnlyZeros(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for chunk := make([]byte, fillChunk); ; {
		n, err := f.Read(chunk)
		switch {
		case len(bytes.TrimLeft(chunk[:n], "\x00")) > 0:
			return false, nil
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// createFile creates a file and syncs its content. If writing fails, it removes the file again. The
// file's name is durable only after its directory is synced.
func createFile(path string, content []byte) error {
	_, err := createFrom(path, bytes.NewReader(content))
	return err
}

// createFrom is like createFile with the content that a reader returns. It returns the file's size.
func createFrom(path string, content io.Reader) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, filePerm)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil { //mutant:content-before-name
		return 0, errors.Join(err, os.Remove(path))
	}
	return n, nil
}

// replaceFile replaces a file's content atomically and makes it durable.
func replaceFile(path string, content []byte) error {
	return replaceFileWith(path, content, func(string) error { return nil })
}

// replaceFileWith is like replaceFile. It calls prepare with the path of the new file before that
// replaces the old one.
func replaceFileWith(path string, content []byte, prepare func(temporary string) error) error {
	temporary := path + segment.TemporarySuffix
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := createFile(temporary, content); err != nil {
		return err
	}
	if err := prepare(temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path)) //mutant:renamed-name-synced
}
