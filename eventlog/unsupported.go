//go:build !unix || portable

package eventlog

import "errors"

// isUnsupported reports whether a call failed because the file system does not support it. With the
// build tag portable, this file is also used on Unix.
func isUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

// isFull reports whether a call failed because the file system or a quota is full. Here this is not
// known.
func isFull(error) bool { return false }

// isBusy reports whether a directory cannot be renamed because it is a mount point. Here this is not
// known.
func isBusy(error) bool { return false }
