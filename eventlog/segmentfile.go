//go:build !linux || portable

package eventlog

import "os"

// datasync makes durable what is in the file. The tag portable builds it where there
// is fdatasync as well.
func datasync(f *os.File) error { return f.Sync() }

// startWriteback and awaitWriteback leave it to datasync.
func startWriteback(*os.File, int64, int64) error { return nil }
func awaitWriteback(*os.File, int64, int64)       {}

// fileID tells a file from every other that is there.
type fileID struct{ info os.FileInfo }

func (id fileID) equal(other fileID) bool { return os.SameFile(id.info, other.info) }

// statID returns which file a path names, and its size.
func statID(path string) (id fileID, sizeBytes int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return id, 0, err
	}
	return fileID{info}, info.Size(), nil
}
