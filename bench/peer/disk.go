package peer

import (
	"os"
	"path/filepath"
	"syscall"
)

// DirBytes returns the total size of the files under dir, and of the blocks that the file system has
// allocated to them.
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

// blocksBytes returns the size of the blocks that are allocated to a file.
func blocksBytes(info os.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}
