//go:build !portable

package eventlog

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// datasync makes the file's content durable, and the metadata that is needed to read it.
func datasync(f *os.File) error {
	return os.NewSyscallError("fdatasync", retryEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }))
}

// startWriteback makes the device start to write a range of the file. It does not wait, and it does
// not make the range durable: datasync must follow.
func startWriteback(f *os.File, from, sizeBytes int64) error {
	err := retryEINTR(func() error { return unix.SyncFileRange(int(f.Fd()), from, sizeBytes, unix.SYNC_FILE_RANGE_WRITE) })
	if err == unix.ENOSYS || err == unix.EPERM { // a seccomp filter may forbid the call
		return nil
	}
	return os.NewSyscallError("sync_file_range", err)
}

// awaitWriteback polls until the kernel has no page of the range under writeback, or until maxSpin
// has passed. A range that is no longer under writeback is in the device's cache, but it is not
// durable yet.
func awaitWriteback(f *os.File, from, sizeBytes int64) {
	part := unix.CachestatRange{Off: uint64(from), Len: uint64(sizeBytes)}
	var pages unix.Cachestat_t
	for began := time.Now(); time.Since(began) < maxSpin; {
		if err := unix.Cachestat(uint(f.Fd()), &part, &pages, 0); err != nil || pages.Writeback == 0 { // an error before Linux 6.5, or done
			return
		}
	}
}

// maxSpin limits the CPU time of a sync if the device is slow. A fast device writes one or two
// pages in less.
const maxSpin = 50 * time.Microsecond

// retryEINTR repeats a call until no signal interrupts it.
func retryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// renameToNew renames a file. If the new name exists, it returns fs.ErrExist.
func renameToNew(from, to string) error {
	err := retryEINTR(func() error { return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE) })
	switch err {
	case nil:
		return nil
	case unix.ENOSYS, unix.EPERM, unix.EINVAL: // the kernel, a seccomp filter or the file system does not support the flag
		return renameIfAbsent(from, to)
	}
	return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
}

// fileID identifies a file among all files that exist at the same time.
type fileID struct{ device, inode uint64 }

func (id fileID) equal(other fileID) bool { return id == other }

// statID returns the identity and the size of the file at path. It does not request the
// modification time. Since Linux 6.13 that would make the next write record a new one, and
// fdatasync would have to wait for it (200 µs instead of 130, ext4).
func statID(path string) (id fileID, sizeBytes int64, err error) {
	var s unix.Statx_t
	err = retryEINTR(func() error { return unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_SIZE, &s) })
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old seccomp filter may forbid the call
		return statIDFallback(path)
	}
	if err != nil {
		return id, 0, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return fileID{unix.Mkdev(s.Dev_major, s.Dev_minor), s.Ino}, int64(s.Size), nil
}

// statIDFallback does the same with stat.
func statIDFallback(path string) (id fileID, sizeBytes int64, err error) {
	var s unix.Stat_t
	if err := retryEINTR(func() error { return unix.Stat(path, &s) }); err != nil {
		return id, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{uint64(s.Dev), s.Ino}, s.Size, nil
}

// isMountPoint reports whether a file system is mounted on the directory. Before Linux 5.8 this is
// not known. The result is then false.
func isMountPoint(dir string) bool {
	id, ok := mountID(dir)
	above, okAbove := mountID(filepath.Dir(dir))
	return ok && okAbove && id != above
}

// mountID returns the number of the mount that has the directory.
func mountID(dir string) (id uint64, ok bool) {
	var s unix.Statx_t
	err := retryEINTR(func() error { return unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_MNT_ID, &s) })
	return s.Mnt_id, err == nil && s.Mask&unix.STATX_MNT_ID != 0
}
