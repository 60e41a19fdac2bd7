package storetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	hasLimits = true
	pageBytes = 4096
)

// limitFileSize makes all writes beyond this offset fail with EFBIG.
func limitFileSize(bytes uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY})
}

// disk is a file system in memory.
type disk struct{ path string }

func mountDisk() (*disk, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("only root can mount a file system")
	}
	path, err := os.MkdirTemp("", "storetest-")
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path).CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, out), os.Remove(path))
	}
	return &disk{path}, nil
}

func (d *disk) ballast() string { return filepath.Join(d.path, "ballast") }

// fill leaves this number of free pages.
func (d *disk) fill(freePages int) error {
	var s unix.Statfs_t
	if err := unix.Statfs(d.path, &s); err != nil {
		return err
	}
	pages := int(s.Bavail) * int(s.Bsize) / pageBytes
	return os.WriteFile(d.ballast(), make([]byte, max(0, pages-freePages)*pageBytes), 0o600)
}

func (d *disk) clear() error { return os.Remove(d.ballast()) }

func (d *disk) unmount() error {
	return errors.Join(unix.Unmount(d.path, unix.MNT_DETACH), os.Remove(d.path))
}
