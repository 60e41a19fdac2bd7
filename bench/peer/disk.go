package peer

import (
	"os"
	"path/filepath"
	"syscall"
)

// DirBytes is what the files under dir take: their sizes, and the blocks that
// the file system has given them.
func DirBytes(dir string) (size, allocated int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		allocated += blocksBytes(info)
		return nil
	})
	return size, allocated, err
}

// blocksBytes is what the file system has given a file.
func blocksBytes(info os.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}
