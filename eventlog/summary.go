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
//
// It syncs nothing, because a sync would delay the syncs of writes. After a power cut the summary may be
// missing, the older one, cut short or zeros. Its checksums show this, and then a later opening writes
// it again.
func (l *Log) SaveSummary(s segment.Summary) error {
	if err := l.checkLockHeld(); err != nil {
		return err
	}
	dir := filepath.Join(l.dir, segment.SummaryDir)
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	path := filepath.Join(dir, s.Name())
	temporary := path + segment.TemporarySuffix
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(temporary, s.Encode(l.uuid), filePerm); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}
