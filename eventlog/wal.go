package eventlog

import (
	"fmt"
	"math"
	"reflect"
	"unsafe"

	"github.com/tidwall/wal"
)

// appender uses tidwall/wal only to append entries, either to the last segment of a directory that
// Recovery has repaired, or to the only segment in PreparedDir. tidwall/wal never rotates, truncates
// or reads, and syncs only when it is closed.
type appender struct {
	log       *wal.Log
	cache     readCache
	batch     wal.Batch // empty between writes; keeps its entries after an error, but then no write follows
	seqOffset uint64    // sequence number of a frame minus its index for tidwall/wal
}

// openAppender opens the directory. It returns an error if the last entry does not have the index
// lastIndex.
func openAppender(dir string, lastIndex uint64) (*appender, error) {
	log, err := wal.Open(dir, &wal.Options{ // a new value each time because Open changes it
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
	if err == nil && index != lastIndex { //mutant:wal-end-checked
		err = fmt.Errorf("open %s: the last index of tidwall/wal is %d, expected %d", dir, index, lastIndex)
	}
	if err != nil {
		log.Close()
		return nil, err
	}
	a := &appender{log: log, cache: readCacheOf(log)}
	a.cache.release()
	return a, nil
}

// write appends the frames. The first frame has the sequence number firstSeq. After an error the
// file may contain some of the frames and a part of another, and the appender must not be used again.
func (a *appender) write(firstSeq uint64, frames [][]byte) error {
	for i, frame := range frames {
		a.batch.Write(firstSeq-a.seqOffset+uint64(i), frame)
	}
	if err := a.log.WriteBatch(&a.batch); err != nil {
		return err
	}
	a.cache.truncate()
	return nil
}

// close syncs and closes the last segment.
func (a *appender) close() error { return a.log.Close() }

// readCache is the cache in which tidwall/wal keeps the entries of the last segment for reads.
//
// This package never reads through tidwall/wal. Each write grows the cache, which may copy it to
// new memory while all writers wait. With 256 writers this makes the 99th percentile of an upsert 2
// ms higher. tidwall/wal has no option to turn the cache off, so this package truncates it in place
// through reflection. The bytes that tidwall/wal writes do not depend on the cache. If the structs
// differ from those of v1.2.1, the cache is left as it is, which costs only time and memory.
type readCache struct {
	entries   *[]byte       // the bytes of all cached entries
	positions reflect.Value // a slice with the position of each entry
}

// readCacheOf finds the cache inside the log. It returns the zero readCache if the structs are not
// as expected.
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

// release frees the entries that tidwall/wal has read while it opened the log.
func (c readCache) release() {
	if c.entries != nil {
		*c.entries = nil
		c.positions.SetZero()
	}
}

// truncate empties the cache and keeps its memory for the next write.
func (c readCache) truncate() {
	if c.entries != nil {
		*c.entries = (*c.entries)[:0]
		c.positions.SetLen(0)
	}
}
