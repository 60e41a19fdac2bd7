package eventlog

import (
	"reflect"
	"unsafe"

	"github.com/tidwall/wal"
)

// copies are what tidwall/wal keeps of the last segment to read from: the bytes of
// its entries, and where each begins.
//
// Nothing here reads through the library, and these grow with each write by copying all
// of it into fresh memory, while every writer waits: with 256 writers the 99th
// percentile of an upsert is 2 ms higher so. The library has no option against it, so they are
// emptied where they lie. What it writes depends on neither. Where it looks otherwise
// than v1.2.1 does they are left alone, and only time and memory are lost.
type copies struct {
	entries   *[]byte
	positions reflect.Value // a slice
}

// copiesOf returns where they are, the zero copies where they are not found.
func copiesOf(log *wal.Log) copies {
	segments := reflect.ValueOf(log).Elem().FieldByName("segments")
	if segments.Kind() != reflect.Slice || segments.Len() == 0 {
		return copies{}
	}
	last := reflect.Indirect(segments.Index(segments.Len() - 1))
	if last.Kind() != reflect.Struct {
		return copies{}
	}
	entries, positions := last.FieldByName("ebuf"), last.FieldByName("epos")
	if !entries.IsValid() || entries.Type() != reflect.TypeFor[[]byte]() || !entries.CanAddr() ||
		positions.Kind() != reflect.Slice || !positions.CanAddr() {
		return copies{}
	}
	return copies{
		(*[]byte)(unsafe.Pointer(entries.UnsafeAddr())),
		reflect.NewAt(positions.Type(), unsafe.Pointer(positions.UnsafeAddr())).Elem(),
	}
}

// drop lets go of what was read when the log was opened.
func (c copies) drop() {
	if c.entries != nil {
		*c.entries = nil
		c.positions.SetZero()
	}
}

// empty keeps the memory, for the next write.
func (c copies) empty() {
	if c.entries != nil {
		*c.entries = (*c.entries)[:0]
		c.positions.SetLen(0)
	}
}
