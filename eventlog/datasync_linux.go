//go:build !fsync

package eventlog

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes durable what is in the file, and of its metadata what it takes to
// read that again.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
