package simos

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// on runs do with the disk's lock held. If the call must fail, it returns that error and does not
// run do.
func on(d *Disk, kind callKind, path string, do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call(kind, path); err != nil {
		return &PathError{Op: string(kind), Path: path, Err: err}
	}
	return do()
}

// Stat is like os.Stat.
func Stat(path string) (info FileInfo, err error) { return stat(path, os.Stat) }

// Lstat is like os.Lstat.
func Lstat(path string) (info FileInfo, err error) { return stat(path, os.Lstat) }

func stat(path string, real func(string) (FileInfo, error)) (info FileInfo, err error) {
	d := diskOf(path)
	if d == nil {
		return real(path)
	}
	err = on(d, callStat, path, func() error {
		info, err = real(path)
		return err
	})
	return info, err
}

// ReadFile is like os.ReadFile.
func ReadFile(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	b, err := f.readAll()
	return b, errors.Join(err, f.Close())
}

// ReadDir is like os.ReadDir.
func ReadDir(path string) ([]DirEntry, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, errors.Join(err, f.Close())
}

// WriteFile is like os.WriteFile.
func WriteFile(path string, b []byte, perm FileMode) error {
	f, err := OpenFile(path, O_WRONLY|O_CREATE|O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Mkdir is like os.Mkdir.
func Mkdir(path string, perm FileMode) error {
	d := diskOf(path)
	if d == nil {
		return os.Mkdir(path, perm)
	}
	return on(d, callMkdir, path, func() error {
		if err := os.Mkdir(path, perm); err != nil {
			return err
		}
		d.find(path)
		return nil
	})
}

// MkdirAll is like os.MkdirAll.
func MkdirAll(path string, perm FileMode) error {
	info, err := Stat(path)
	if err == nil {
		if info.IsDir() {
			return nil
		}
		return &PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
	}
	if parent := filepath.Dir(path); parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	err = Mkdir(path, perm)
	if err != nil && isDir(Lstat(path)) {
		return nil
	}
	return err
}

var temporaries atomic.Int64

// MkdirTemp is like os.MkdirTemp. On a disk, the names contain a counter and are not random.
func MkdirTemp(dir, pattern string) (string, error) {
	if diskOf(dir) == nil {
		return os.MkdirTemp(dir, pattern)
	}
	before, after, _ := strings.Cut(pattern, "*")
	for {
		path := filepath.Join(dir, before+strconv.FormatInt(temporaries.Add(1), 10)+after)
		if err := Mkdir(path, 0o700); !errors.Is(err, ErrExist) {
			return path, err
		}
	}
}

// Remove is like os.Remove.
func Remove(path string) error {
	d := diskOf(path)
	if d == nil {
		return os.Remove(path)
	}
	return on(d, callRemove, path, func() error {
		node := d.find(path)
		if err := os.Remove(path); err != nil {
			return err
		}
		if node != nil {
			d.record(Op{Kind: OpRemove, Path: d.relative(path)})
			d.change(&change{to: d.place(path)})
		}
		return nil
	})
}

// RemoveAll is like os.RemoveAll.
func RemoveAll(path string) error {
	if diskOf(path) == nil {
		return os.RemoveAll(path)
	}
	info, err := Lstat(path)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if isDir(info, err) {
		entries, err := ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := RemoveAll(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return Remove(path)
}

// Rename is like os.Rename. Both paths must be on the same disk.
func Rename(from, to string) error {
	d := diskOf(to)
	if d == nil {
		return os.Rename(from, to)
	}
	return on(d, callRename, to, func() error {
		node, over := d.find(from), d.find(to)
		if err := os.Rename(from, to); err != nil || node == over {
			return err // os.Rename does nothing if both names belong to one file
		}
		d.record(Op{Kind: OpRename, Path: d.relative(to)})
		d.change(&change{to: d.place(to), node: node, from: d.place(from)})
		return nil
	})
}

// Link is like os.Link. Both paths must be on the same disk.
func Link(from, to string) error {
	d := diskOf(to)
	if d == nil {
		return os.Link(from, to)
	}
	return on(d, callLink, to, func() error {
		node := d.find(from)
		if err := os.Link(from, to); err != nil {
			return err
		}
		d.record(Op{Kind: OpLink, Path: d.relative(to)})
		d.change(&change{to: d.place(to), node: node})
		return nil
	})
}

// Truncate is like os.Truncate.
func Truncate(path string, sizeBytes int64) error {
	d := diskOf(path)
	if d == nil {
		return os.Truncate(path, sizeBytes)
	}
	return on(d, callTruncate, path, func() error {
		node := d.find(path)
		if err := os.Truncate(path, sizeBytes); err != nil {
			return err
		}
		d.truncate(node, sizeBytes)
		return nil
	})
}

// Chmod is like os.Chmod. Modes are not recorded.
func Chmod(path string, mode FileMode) error { return os.Chmod(path, mode) }

// Chown is like os.Chown. Owners are not recorded.
func Chown(path string, uid, gid int) error { return os.Chown(path, uid, gid) }

// Readlink is like os.Readlink.
func Readlink(path string) (string, error) { return os.Readlink(path) }
