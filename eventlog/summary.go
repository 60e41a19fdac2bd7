package eventlog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

// SealedBefore returns a number N. Every segment whose name has a number below N is closed: the log
// appends nothing to it, and its unused space was cut off. The number in the name of the last segment
// is at least N.
func (l *Log) SealedBefore() uint64 { return l.sealedBefore }

// SaveSummary writes the summary of a sealed segment into the log's directory, and replaces an older
// one. It may run concurrently with Write, Sync and SaveSnapshot, but not with another SaveSummary. An
// error does not affect the log.
func (l *Log) SaveSummary(s segment.Summary) error {
	if err := l.checkLockHeld(); err != nil {
		return err
	}
	dir := filepath.Join(l.dir, segment.SummaryDir)
	err := os.Mkdir(dir, dirPerm)
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return replaceFile(filepath.Join(dir, s.Name()), s.Encode(l.uuid))
}
