package main

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// evict removes the files of a path from the page cache. The superuser also drops the cached inodes
// and directories. The executable stays in the page cache.
func evict(path string) error {
	err := eachFile(path, func(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) })
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0)
}

func eachFile(path string, do func(*os.File) error) error {
	return filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return do(f)
	})
}
