//go:build unix && !portable

package eventlog

import (
	"errors"
	"syscall"
)

// isUnsupported reports whether a call failed because the file system does not support it. The sync
// of a directory then returns EINVAL (autofs, procfs, squashfs), and a lock ENOLCK (NFS without
// locks).
func isUnsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOLCK)
}

// isFull reports whether a call failed because the file system or a quota is full.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// isBusy reports whether a directory cannot be renamed because it is a mount point.
func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }
