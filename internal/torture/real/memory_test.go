package real_test

import (
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// memory is a directory in memory. It maps the paths of its files to their contents. A content is
// replaced and never changed, so copies of the map may share it. fstest.MapFS does the same but is
// several times slower.
type memory map[string][]byte

func (m memory) Open(name string) (fs.File, error) {
	info, err := m.Stat(name)
	if err != nil {
		return nil, err
	}
	return &memoryFile{info, bytes.NewReader(m[name])}, nil
}

func (m memory) ReadFile(name string) ([]byte, error) {
	b, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return b, nil
}

func (m memory) Stat(name string) (fs.FileInfo, error) {
	if b, ok := m[name]; ok {
		return memoryInfo{path.Base(name), int64(len(b)), 0}, nil
	}
	for file := range m {
		if name == "." || strings.HasPrefix(file, name+"/") {
			return memoryInfo{path.Base(name), 0, fs.ModeDir}, nil
		}
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (m memory) ReadDir(name string) ([]fs.DirEntry, error) {
	if _, err := m.Stat(name); err != nil {
		return nil, err
	}
	prefix := name + "/"
	if name == "." {
		prefix = ""
	}
	var entries []fs.DirEntry
	for file, b := range m {
		rest, ok := strings.CutPrefix(file, prefix)
		if !ok {
			continue
		}
		child, _, below := strings.Cut(rest, "/")
		if !below {
			entries = append(entries, memoryInfo{child, int64(len(b)), 0})
		} else if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == child }) {
			entries = append(entries, memoryInfo{child, 0, fs.ModeDir})
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// memoryInfo is the metadata of a file.
type memoryInfo struct {
	name      string
	sizeBytes int64
	mode      fs.FileMode
}

func (i memoryInfo) Name() string               { return i.name }
func (i memoryInfo) Size() int64                { return i.sizeBytes }
func (i memoryInfo) Mode() fs.FileMode          { return i.mode }
func (i memoryInfo) Type() fs.FileMode          { return i.mode.Type() }
func (i memoryInfo) ModTime() time.Time         { return time.Time{} }
func (i memoryInfo) IsDir() bool                { return i.mode.IsDir() }
func (i memoryInfo) Sys() any                   { return nil }
func (i memoryInfo) Info() (fs.FileInfo, error) { return i, nil }

type memoryFile struct {
	info fs.FileInfo
	*bytes.Reader
}

func (f *memoryFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memoryFile) Close() error               { return nil }
