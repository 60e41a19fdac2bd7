package simos

import (
	"io"
	"os"
	"syscall"
)

// File is an open file. If it is on a Disk, its changes are recorded and its calls can fail.
type File struct {
	real   *os.File
	disk   *Disk  // nil if the file is not on a watched disk
	node   *inode // stays the same if the file is renamed
	offset int64
	append bool
}

// Open is like os.Open.
func Open(path string) (*File, error) { return OpenFile(path, O_RDONLY, 0) }

// Create is like os.Create.
func Create(path string) (*File, error) { return OpenFile(path, O_RDWR|O_CREATE|O_TRUNC, 0o666) }

// OpenFile is like os.OpenFile.
func OpenFile(path string, flag int, perm FileMode) (*File, error) {
	d := diskOf(path)
	if d == nil {
		f, err := os.OpenFile(path, flag, perm)
		if err != nil {
			return nil, err
		}
		return &File{real: f}, nil
	}
	kind := callOpen
	if flag&O_CREATE != 0 {
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			kind = callCreate
		}
	}
	var file *File
	err := on(d, kind, path, func() error {
		f, err := os.OpenFile(path, flag, perm)
		if err != nil {
			return err
		}
		file = &File{real: f, disk: d, node: d.find(path), append: flag&O_APPEND != 0}
		if flag&O_TRUNC != 0 {
			d.truncate(file.node, 0)
		}
		return nil
	})
	return file, err
}

// on runs do. If the call must fail, it returns that error and does not run do.
func (f *File) on(kind callKind, do func() error) error {
	if f.disk == nil {
		return do()
	}
	return on(f.disk, kind, f.real.Name(), do)
}

// Name is like the method of os.File.
func (f *File) Name() string { return f.real.Name() }

// Fd is like the method of os.File. Calls on it are not recorded.
func (f *File) Fd() uintptr { return f.real.Fd() }

// Stat is like the method of os.File.
func (f *File) Stat() (info FileInfo, err error) {
	err = f.on(callStat, func() error {
		info, err = f.real.Stat()
		return err
	})
	return info, err
}

// Chmod is like the method of os.File. Modes are not recorded.
func (f *File) Chmod(mode FileMode) error { return f.real.Chmod(mode) }

// Read is like the method of os.File.
func (f *File) Read(b []byte) (n int, err error) {
	err = f.on(callRead, func() error {
		n, err = f.real.Read(b)
		f.offset += int64(n)
		return err
	})
	return n, err
}

// ReadAt is like the method of os.File.
func (f *File) ReadAt(b []byte, offset int64) (n int, err error) {
	err = f.on(callRead, func() error {
		n, err = f.real.ReadAt(b, offset)
		return err
	})
	return n, err
}

func (f *File) readAll() (b []byte, err error) {
	err = f.on(callRead, func() error {
		b, err = io.ReadAll(f.real)
		return err
	})
	return b, err
}

// ReadDir is like the method of os.File.
func (f *File) ReadDir(n int) (entries []DirEntry, err error) {
	err = f.on(callReadDir, func() error {
		entries, err = f.real.ReadDir(n)
		return err
	})
	if f.disk != nil {
		for i, e := range entries {
			entries[i] = dirEntry{e, f}
		}
	}
	return entries, err
}

// dirEntry is a directory entry whose Info can be made to fail.
type dirEntry struct {
	DirEntry
	dir *File
}

func (e dirEntry) Info() (info FileInfo, err error) {
	err = e.dir.on(callStat, func() error {
		info, err = e.DirEntry.Info()
		return err
	})
	return info, err
}

// Seek is like the method of os.File.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	at, err := f.real.Seek(offset, whence)
	if err == nil {
		f.offset = at
	}
	return at, err
}

// Write is like the method of os.File.
func (f *File) Write(b []byte) (int, error) {
	return f.write(b, func() int64 {
		if f.append && f.disk != nil {
			f.offset = f.node.last().sizeBytes
		}
		return f.offset
	}, func(part []byte) (int, error) {
		n, err := f.real.Write(part)
		f.offset += int64(n)
		return n, err
	})
}

// WriteString is like the method of os.File.
func (f *File) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

// WriteAt is like the method of os.File.
func (f *File) WriteAt(b []byte, offset int64) (int, error) {
	return f.write(b, func() int64 { return offset }, func(part []byte) (int, error) {
		return f.real.WriteAt(part, offset)
	})
}

// write writes b with put, at the offset that at returns. If the disk is full or the program is
// killed at this call, about half of b is written. If that half ends inside the file, it ends at a
// sector boundary, because the kernel overwrites whole pages.
func (f *File) write(b []byte, at func() int64, put func([]byte) (int, error)) (int, error) {
	if f.disk == nil {
		at()
		return put(b)
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	failure := f.disk.call(callWrite, f.real.Name())
	offset := at()
	switch {
	case failure == nil:
	case failure == syscall.ENOSPC, failure == ErrKilled && f.disk.calls == f.disk.failAt:
		half := len(b) / 2
		if end := offset + int64(half); end < f.node.last().sizeBytes {
			half = max(0, int(end/SectorBytes*SectorBytes-offset))
		}
		b = b[:half]
	default:
		return 0, &PathError{Op: "write", Path: f.real.Name(), Err: failure}
	}
	n, err := put(b)
	f.disk.write(f.node, offset, b[:n])
	if err == nil && failure != nil {
		err = &PathError{Op: "write", Path: f.real.Name(), Err: failure}
	}
	return n, err
}

// Truncate is like the method of os.File.
func (f *File) Truncate(sizeBytes int64) error {
	return f.on(callTruncate, func() error {
		err := f.real.Truncate(sizeBytes)
		if err == nil && f.disk != nil {
			f.disk.truncate(f.node, sizeBytes)
		}
		return err
	})
}

// Sync is like the method of os.File. On a disk it does not sync the real file. It only records
// that the content is durable, so it is fast.
func (f *File) Sync() error {
	if f.disk == nil {
		return f.real.Sync()
	}
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	failure := d.call(callSync, f.real.Name())
	switch {
	case failure == ErrKilled:
	case f.node.isDir():
		d.record(Op{Kind: OpSyncDir, Path: f.node.path, Failed: failure != nil})
		if failure == nil {
			d.settle(f.node)
		}
	default:
		d.sync(f.node, failure != nil)
	}
	if failure != nil {
		return &PathError{Op: "sync", Path: f.real.Name(), Err: failure}
	}
	return nil
}

// Close is like the method of os.File. The file is closed even if Close returns an error.
func (f *File) Close() error {
	err := f.real.Close()
	if err != nil || f.disk == nil {
		return err
	}
	return f.on(callClose, func() error { return nil })
}
