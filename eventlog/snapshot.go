package eventlog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"migrationlog/eventlog/segment"
)

// keptSnapshots is how many there are: one more than is needed, should that be damaged.
const keptSnapshots = 2

// SaveSnapshot puts a snapshot into the log's directory and takes away the oldest. It
// may run beside Write and Sync, and after an error the log is as good as before. One call at
// a time.
func (l *Log) SaveSnapshot(s segment.Snapshot) error {
	if err := l.checkLockHeld(); err != nil {
		return err
	}
	dir := filepath.Join(l.dir, segment.SnapshotDir)
	err := os.Mkdir(dir, dirPerm)
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := removeTemporaries(dir); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, s.Name()), s.Encode(l.uuid)); err != nil {
		return err
	}
	names, err := segment.SnapshotNames(os.DirFS(l.dir))
	if err != nil {
		return err
	}
	for i, name := range names {
		if i < keptSnapshots || name >= s.Name() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeTemporaries takes away what crashes have left of files on their way.
func removeTemporaries(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segment.TemporarySuffix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// quarantineSnapshots moves those to quarantine/ that tell of frames which the log has
// not. Their numbers are about to be given to other events, and they would be taken for
// these.
func (r *Recovery) quarantineSnapshots() error {
	moved := false
	for _, s := range r.snapshots {
		if s.Last.Seq < r.scan.Tail().NextSeq { //mutant:snapshot-beyond-end
			continue
		}
		moved = true
		err := r.quarantineFile(segment.Damage{
			Segment: segment.SnapshotDir + "/" + s.Name(), Length: s.SizeBytes(),
			Reason: "it covers frames that the log does not have",
		}, moveFile)
		if err != nil {
			return err
		}
	}
	if !moved {
		return nil
	}
	return syncDir(filepath.Join(r.dir, segment.SnapshotDir))
}
