package eventlog

import (
	"reflect"
	"unsafe"
)

// reserve gives tidwall/wal's copy of the last segment the memory for all of it.
//
// It keeps that copy in a slice and lets append enlarge it a quarter at a time: each
// time all of it is copied into fresh memory, while every writer waits. With 64 writers
// the 99th percentile of an upsert is 2 ms so, and 1 ms with the memory there. The library has no
// option for it, so the slice is exchanged for an equal one with room. Where it looks
// otherwise than v1.2.1 does, nothing is done, and only time is lost. An open log takes 4 MiB
// for it, however small it is.
func (a *appender) reserve(sizeBytes int) (done bool) {
	copies := reflect.ValueOf(a.log).Elem().FieldByName("segments")
	if copies.Kind() != reflect.Slice || copies.Len() == 0 {
		return false
	}
	last := reflect.Indirect(copies.Index(copies.Len() - 1))
	if last.Kind() != reflect.Struct {
		return false
	}
	buffer := last.FieldByName("ebuf")
	if !buffer.IsValid() || buffer.Type() != reflect.TypeFor[[]byte]() || !buffer.CanAddr() {
		return false
	}
	b := (*[]byte)(unsafe.Pointer(buffer.UnsafeAddr()))
	if cap(*b) < sizeBytes {
		*b = append(make([]byte, 0, sizeBytes), *b...)
	}
	return true
}
