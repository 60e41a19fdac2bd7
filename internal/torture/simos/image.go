package simos

import (
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Image is the content of a directory or of a file. If one file has two names, both have the same
// *Image. An Image is never changed after it is made.
type Image struct {
	Entries map[string]*Image // of a directory; nil for a file
	Bytes   []byte            // of a file
}

// ReadImage returns the content of a directory. It panics if an entry cannot be read, or if it is
// neither a regular file nor a directory.
func ReadImage(dir string) *Image {
	seen := map[string]os.FileInfo{}
	images := map[string]*Image{}
	return readImage(dir, func(path string, info fs.FileInfo) *Image {
		for other, i := range seen {
			if os.SameFile(info, i) {
				return images[other]
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		seen[path], images[path] = info, &Image{Bytes: b}
		return images[path]
	})
}

func readImage(dir string, file func(string, fs.FileInfo) *Image) *Image {
	entries, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	image := &Image{Entries: map[string]*Image{}}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		switch {
		case err != nil:
			panic(err)
		case info.IsDir():
			image.Entries[e.Name()] = readImage(path, file)
		case info.Mode().IsRegular():
			image.Entries[e.Name()] = file(path, info)
		default:
			panic(fmt.Sprintf("%s is neither a file nor a directory", path))
		}
	}
	return image
}

// Write creates the directory dir with the content of the image. It fails if dir exists.
func (i *Image) Write(dir string) error { return i.put(dir, map[*Image]string{}) }

func (i *Image) put(path string, made map[*Image]string) error {
	if i.Entries == nil {
		if first, ok := made[i]; ok {
			return os.Link(first, path)
		}
		made[i] = path
		return os.WriteFile(path, i.Bytes, 0o640)
	}
	if err := os.Mkdir(path, 0o750); err != nil {
		return err
	}
	for name, entry := range i.Entries {
		if err := entry.put(filepath.Join(path, name), made); err != nil {
			return err
		}
	}
	return nil
}

// File returns the bytes of the file at a slash-separated path, or nil if there is none.
func (i *Image) File(path string) []byte {
	for _, name := range strings.Split(path, "/") {
		if i = i.Entries[name]; i == nil {
			return nil
		}
	}
	return i.Bytes
}

var imageSeed = maphash.MakeSeed()

// Hash returns a hash of the content. Hashes can only be compared within one process.
func (i *Image) Hash() uint64 {
	var h maphash.Hash
	h.SetSeed(imageSeed)
	i.hash(&h)
	return h.Sum64()
}

func (i *Image) hash(h *maphash.Hash) {
	fmt.Fprint(h, i.Entries == nil, len(i.Bytes), len(i.Entries), ";")
	h.Write(i.Bytes)
	for _, name := range slices.Sorted(maps.Keys(i.Entries)) {
		h.WriteString(name)
		h.WriteByte(0)
		i.Entries[name].hash(h)
	}
}

// Hash returns a hash of the disk's content and of the durable part of it.
func (d *Disk) Hash() uint64 {
	var h maphash.Hash
	h.SetSeed(imageSeed)
	ops := len(d.Ops())
	d.Cut(ops, FullLuck()).hash(&h)
	d.Cut(ops, Luck{}).hash(&h)
	return h.Sum64()
}

// plant returns the inodes of an image. It adds their names to durable.
func plant(i *Image, durable map[*inode]map[string]*inode, made map[*Image]*inode) *inode {
	return plantAt("", i, durable, made)
}

func plantAt(path string, i *Image, durable map[*inode]map[string]*inode, made map[*Image]*inode) *inode {
	if i.Entries == nil {
		if made[i] == nil {
			made[i] = newFile(path, i.Bytes)
		}
		return made[i]
	}
	dir := &inode{path: path, entries: map[string]*inode{}}
	for name, entry := range i.Entries {
		dir.entries[name] = plantAt(filepath.Join(path, name), entry, durable, made)
	}
	durable[dir] = maps.Clone(dir.entries)
	return dir
}
