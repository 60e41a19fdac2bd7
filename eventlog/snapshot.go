package eventlog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

// keptSnapshots is how many there are: one more than is needed, should that be damaged.
const keptSnapshots = 2

// SaveSnapshot puts a snapshot into the log's directory and takes away the oldest. It
// may run beside Append, and after an error the log is as good as before. One call at
// a time.
func (l *Log) SaveSnapshot(s segment.Snapshot) error {
	dir := filepath.Join(l.dir, segment.SnapshotDir)
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, s.Name()), s.Encode(l.uuid)); err != nil {
		return err
	}
	names, err := segment.SnapshotNames(os.DirFS(l.dir))
	if err != nil {
		return err
	}
	for _, name := range names[min(keptSnapshots, len(names)):] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
