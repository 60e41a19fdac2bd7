//go:build !linux || fsync

package eventlog

import "os"

// datasync makes durable what is in the file. The tag fsync builds it where there is
// fdatasync as well.
func datasync(f *os.File) error { return f.Sync() }
