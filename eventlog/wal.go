package eventlog

import (
	"fmt"
	"math"
	"reflect"
	"unsafe"

	"github.com/tidwall/wal"
)

// appender is all that tidwall/wal is used for: putting entries at the end of
// the last segment of a directory that is known to be sound. It never rotates,
// truncates, reads or syncs, but when it is closed.
type appender struct {
	log   *wal.Log
	cache readCache
	batch wal.Batch // empty between writes: one that failed keeps its entries, and is the last
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
	if err == nil && index != lastSeq { //mutant:wal-end-checked
		err = fmt.Errorf("open %s: the WAL ends with index %d, the frames with seq %d", dir, index, lastSeq)
	}
	if err != nil {
		log.Close()
		return nil, err
	}
	a := &appender{log: log, cache: readCacheOf(log)}
	a.cache.release()
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
	a.cache.truncate()
	return nil
}

// close syncs and closes the last segment.
func (a *appender) close() error { return a.log.Close() }

// readCache are what tidwall/wal keeps of the last segment to read from: the bytes of
// its entries, and where each begins.
//
// Nothing here reads through the library, and these grow with each write by copying all
// of it into fresh memory, while every writer waits: with 256 writers the 99th
// percentile of an upsert is 2 ms higher so. The library has no option against it, so they are
// emptied where they lie. What it writes depends on neither. Where it looks otherwise
// than v1.2.1 does they are left alone, and only time and memory are lost.
type readCache struct {
	entries   *[]byte
	positions reflect.Value // a slice
}

// readCacheOf returns where they are, the zero copies where they are not found.
func readCacheOf(log *wal.Log) readCache {
	segments := reflect.ValueOf(log).Elem().FieldByName("segments")
	if segments.Kind() != reflect.Slice || segments.Len() == 0 {
		return readCache{}
	}
	last := reflect.Indirect(segments.Index(segments.Len() - 1))
	if last.Kind() != reflect.Struct {
		return readCache{}
	}
	entries, positions := last.FieldByName("ebuf"), last.FieldByName("epos")
	if !entries.IsValid() || entries.Type() != reflect.TypeFor[[]byte]() || !entries.CanAddr() ||
		positions.Kind() != reflect.Slice || !positions.CanAddr() {
		return readCache{}
	}
	return readCache{
		(*[]byte)(unsafe.Pointer(entries.UnsafeAddr())),
		reflect.NewAt(positions.Type(), unsafe.Pointer(positions.UnsafeAddr())).Elem(),
	}
}

// release lets go of what was read when the log was opened.
func (c readCache) release() {
	if c.entries != nil {
		*c.entries = nil
		c.positions.SetZero()
	}
}

// truncate keeps the memory, for the next write.
func (c readCache) truncate() {
	if c.entries != nil {
		*c.entries = (*c.entries)[:0]
		c.positions.SetLen(0)
	}
}
