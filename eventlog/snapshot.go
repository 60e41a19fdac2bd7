package eventlog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"migrationlog/eventlog/segment"
)

// SaveSnapshot writes a snapshot into the log's directory and removes older ones that are
// superfluous, see superfluousSnapshots. It may run concurrently with Write and Sync, but not with
// another SaveSnapshot. An error does not affect the log.
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
	return removeSuperfluous(dir, s.Last.Seq)
}

// removeSuperfluous removes the superfluous snapshots before the one that was just saved. It never
// removes a later one, because that one is evidence of lost frames.
func removeSuperfluous(dir string, savedSeq uint64) error {
	files, err := listSnapshots(dir)
	if err != nil {
		return err
	}
	for _, f := range superfluousSnapshots(files, SnapshotGapEvents, savedSeq) {
		if f.seq >= savedSeq {
			continue
		}
		if err := os.Remove(filepath.Join(dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// listSnapshots returns the snapshots in a directory, oldest first.
func listSnapshots(dir string) (files []snapshotFile, err error) {
	entries, err := os.ReadDir(dir) // sorted by name, and therefore by seq
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		seq, ok := segment.ParseName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, snapshotFile{e.Name(), seq, info.Size()})
	}
	return files, nil
}

// removeTemporaries removes the temporary files that crashes have left.
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

// quarantineSnapshots moves snapshots to quarantine/ if they cover frames beyond the end of the
// log. New events will get the numbers of these frames, and a later opening must not accept such a
// snapshot for them.
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
