package eventlog

import (
	"fmt"
	"math"

	"github.com/tidwall/wal"
)

// appender is all that tidwall/wal is used for: putting entries at the end of
// the last segment of a directory that is known to be sound. It never rotates,
// truncates, reads or syncs, but when it is closed.
type appender struct {
	log    *wal.Log
	copies copies
	batch  wal.Batch // empty between writes: one that failed keeps its entries, and is the last
}

// openAppender opens the directory, whose last entry must have the index
// lastSeq.
func openAppender(dir string, lastSeq uint64) (*appender, error) {
	log, err := wal.Open(dir, &wal.Options{ // fresh each time: Open writes to it
		NoSync:           true,
		SegmentSize:      math.MaxInt,
		SegmentCacheSize: 1,
		AllowEmpty:       true,
		DirPerms:         dirPerm,
		FilePerms:        filePerm,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	index, err := log.LastIndex()
	if err == nil && index != lastSeq {
		err = fmt.Errorf("open %s: the WAL ends with index %d, the frames with seq %d", dir, index, lastSeq)
	}
	if err != nil {
		log.Close()
		return nil, err
	}
	a := &appender{log: log, copies: copiesOf(log)}
	a.copies.drop()
	return a, nil
}

// write appends the frames, the first with the index firstSeq. After an error
// some of them may be in the file, the last of these in part, and nothing more may
// be written.
func (a *appender) write(firstSeq uint64, frames [][]byte) error {
	for i, frame := range frames {
		a.batch.Write(firstSeq+uint64(i), frame)
	}
	if err := a.log.WriteBatch(&a.batch); err != nil {
		return err
	}
	a.copies.empty()
	return nil
}

// close syncs and closes the last segment.
func (a *appender) close() error { return a.log.Close() }
