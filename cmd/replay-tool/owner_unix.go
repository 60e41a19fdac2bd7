//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// ownerOf returns the user id of a file's owner.
func ownerOf(info os.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

// isReadOnly reports whether an error is about a read-only file system.
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
