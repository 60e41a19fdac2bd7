package torn

import (
	"bytes"
	"io/fs"
	"path"
	"slices"
	"time"
)

// overlay is a file system in which some files have other contents.
type overlay struct {
	fs.FS
	files map[string][]byte // by path; nil: there is no such file
}

func (o overlay) Open(name string) (fs.File, error) {
	if content, ok := o.files[name]; ok {
		if content == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return file{bytes.NewReader(content), path.Base(name)}, nil
	}
	return o.FS.Open(name)
}

func (o overlay) ReadDir(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.FS, dir)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		content, ok := o.files[path.Join(dir, e.Name())]
		return ok && content == nil
	}), err
}

// file is an open file of an overlay, and its own fs.FileInfo.
type file struct {
	*bytes.Reader
	name string
}

func (f file) Stat() (fs.FileInfo, error) { return f, nil }
func (f file) Close() error               { return nil }
func (f file) Name() string               { return f.name }
func (f file) Mode() fs.FileMode          { return 0o600 }
func (f file) ModTime() time.Time         { return time.Time{} }
func (f file) IsDir() bool                { return false }
func (f file) Sys() any                   { return nil }
