//go:build !linux || portable

package eventlog

import "os"

// datasync makes the file's content durable. With the build tag portable, this file is also used on
// Linux.
func datasync(f *os.File) error { return f.Sync() }

// renameToNew renames a file. If the new name exists, it returns fs.ErrExist.
func renameToNew(from, to string) error { return renameIfAbsent(from, to) }

// startWriteback and awaitWriteback do nothing here: datasync does all the work.
func startWriteback(*os.File, int64, int64) error { return nil }
func awaitWriteback(*os.File, int64, int64)       {}

// fileID identifies a file among all files that exist at the same time.
type fileID struct{ info os.FileInfo }

func (id fileID) equal(other fileID) bool { return os.SameFile(id.info, other.info) }

// statID returns the identity and the size of the file at path.
func statID(path string) (id fileID, sizeBytes int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return id, 0, err
	}
	return fileID{info}, info.Size(), nil
}

// lockHolder returns listed = false, because this system does not list its locks.
func lockHolder(string, int) (pid int, listed bool) { return 0, false }

// isMountPoint returns false, because this system does not show it.
func isMountPoint(string) bool { return false }
