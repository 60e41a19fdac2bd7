//go:build !portable

package eventlog

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// datasync makes durable what is in the file, and of its metadata what it takes to
// read that again.
func datasync(f *os.File) error {
	return os.NewSyscallError("fdatasync", retryEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }))
}

// startWriteback has the device begin to write a part of the file, as datasync would. It
// makes nothing durable; the time until datasync waits for it is the caller's to use.
func startWriteback(f *os.File, from, sizeBytes int64) error {
	err := retryEINTR(func() error { return unix.SyncFileRange(int(f.Fd()), from, sizeBytes, unix.SYNC_FILE_RANGE_WRITE) })
	if err == unix.ENOSYS || err == unix.EPERM { // as filters of system calls say
		return nil
	}
	return os.NewSyscallError("sync_file_range", err)
}

// awaitWriteback returns when the device has that part of the file in its cache, or has
// taken longer than a fast one does for a page or two. It asks again and again.
func awaitWriteback(f *os.File, from, sizeBytes int64) {
	part := unix.CachestatRange{Off: uint64(from), Len: uint64(sizeBytes)}
	var pages unix.Cachestat_t
	for began := time.Now(); time.Since(began) < maxSpin; {
		if err := unix.Cachestat(uint(f.Fd()), &part, &pages, 0); err != nil || pages.Writeback == 0 { // older than Linux 6.5, or done
			return
		}
	}
}

// maxSpin bounds the CPU time that a sync takes where the device is slow.
const maxSpin = 50 * time.Microsecond

// retryEINTR makes a call until no signal interrupts it.
func retryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// fileID tells a file from every other that is there.
type fileID struct{ device, inode uint64 }

func (id fileID) equal(other fileID) bool { return id == other }

// statID returns which file a path names, and its size. It does not ask for the time of
// the last change: since Linux 6.13 the next write would have to note a new one, and
// fdatasync to wait for it (200 µs in place of 130, ext4).
func statID(path string) (id fileID, sizeBytes int64, err error) {
	var s unix.Statx_t
	err = retryEINTR(func() error { return unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_SIZE, &s) })
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // as old filters of system calls say
		return statIDFallback(path)
	}
	if err != nil {
		return id, 0, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return fileID{unix.Mkdev(s.Dev_major, s.Dev_minor), s.Ino}, int64(s.Size), nil
}

func statIDFallback(path string) (id fileID, sizeBytes int64, err error) {
	var s unix.Stat_t
	if err := retryEINTR(func() error { return unix.Stat(path, &s) }); err != nil {
		return id, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{uint64(s.Dev), s.Ino}, s.Size, nil
}
