package eventlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

// preallocStep is how far ahead of the last entry a segment is filled with zeros. What
// is written into space that has its place on the device already is durable with one
// flush and no commit of the file system's journal. Larger steps cost the append that makes
// room more than they save.
//
// The zeros are written in pieces: where Linux keeps what one write brings in one folio,
// as ext4 does since 6.16, each later sync looks through all of it, and takes 3 % less time with
// pieces of 16 KiB than with one of 256.
const (
	preallocStep = 256 << 10
	zeroChunk    = 16 << 10 //mutant:write-chunk
)

var zeros [zeroChunk]byte

// tail is the last segment. tidwall/wal writes to it at an offset of its own; through
// a second descriptor room is made ahead of that, and what was written is made
// durable.
type tail struct {
	wal      *appender
	file     *os.File
	first    uint64 // the number that it is named by
	id       fileID
	used     int64 // where the last entry ends
	syncedTo int64 // where the last one did that sync has made durable
	single   bool  // one writer's entry waits for the sync
	spinWait *spinWait
	fileSize int64 // of the file; from bytes on it holds zeros
	limit    int64 // no room is made beyond it, but for the last write
}

// openTail opens the segment at path, the last one in its directory, which holds
// sizeBytes of entries up to lastSeq. What has come into the directory since it was
// judged may be what tidwall/wal deletes segments for.
func openTail(path string, lastSeq uint64, sizeBytes, limit int64, w *spinWait) (*tail, error) {
	strays, err := segment.Strays(os.DirFS(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return nil, err
	}
	if len(strays) > 0 { //mutant:strays-refused
		return nil, fmt.Errorf("%s: another process writes into the log's directory", strays[0])
	}
	id, _, err := statID(path)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0) //mutant:wal-opened-first
	if err != nil {
		return nil, err
	}
	wal, err := openAppender(filepath.Dir(path), lastSeq) // before there is room: it would take zeros for entries
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	first, _ := segment.ParseName(filepath.Base(path))
	return &tail{wal: wal, file: file, first: first, id: id, used: sizeBytes, syncedTo: sizeBytes, fileSize: sizeBytes, limit: limit, spinWait: w}, nil
}

// remaining is how much the segment takes before the log goes on in another.
func (t *tail) remaining() int64 { return t.limit - t.used }

// checkUnmodified returns an error if somebody else has written to the segment or replaced it.
func (t *tail) checkUnmodified() error {
	id, sizeBytes, err := statID(t.file.Name())
	if err != nil {
		return err
	}
	if !id.equal(t.id) { //mutant:segment-file-ours
		return fmt.Errorf("segment %s was replaced: another process writes to it", t.file.Name())
	}
	if sizeBytes != t.fileSize { //mutant:segment-size-ours
		return fmt.Errorf("segment %s has %d bytes where %d were written: another process writes to it", t.file.Name(), sizeBytes, t.fileSize)
	}
	return nil
}

// write appends the frames, the first of which has the number firstSeq, and with
// their prefixes are so many bytes.
func (t *tail) write(firstSeq uint64, frames [][]byte, sizeBytes int64) error {
	if err := t.checkUnmodified(); err != nil {
		return err
	}
	if err := t.preallocate(t.used + sizeBytes); err != nil {
		return err
	}
	if err := t.wal.write(firstSeq, frames); err != nil {
		return err
	}
	t.used += sizeBytes
	return nil
}

// preallocate fills the file with zeros to at least that size, and if it has to, up to
// preallocStep further than it was. They are durable with the entries that are written over them.
func (t *tail) preallocate(sizeBytes int64) error {
	if sizeBytes <= t.fileSize {
		return nil
	}
	want := max(sizeBytes, min(t.fileSize+preallocStep, t.limit)) // the last write goes beyond the maximum
	for t.fileSize < want {
		//mutant:zeros-behind-end
		n, err := t.file.WriteAt(zeros[:min(want-t.fileSize, zeroChunk)], t.fileSize)
		t.fileSize += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// startSync has the device begin with what sync will make durable. For one entry alone it does
// so only where the writer will wait awake.
func (t *tail) startSync(single bool) error {
	if t.single = single; single && !t.spinWait.start() {
		return nil
	}
	return startWriteback(t.file, t.syncedTo, t.used-t.syncedTo)
}

// sync makes durable what was written.
func (t *tail) sync() error {
	if t.single && t.spinWait.polls {
		awaitWriteback(t.file, t.syncedTo, t.used-t.syncedTo)
	}
	if err := datasync(t.file); err != nil {
		return err
	}
	if t.single {
		t.spinWait.finish()
	}
	t.syncedTo = t.used
	return nil
}

// abandon closes the segment as it is, for the next opening to judge.
func (t *tail) abandon() error { return errors.Join(t.wal.close(), t.file.Close()) }

// close gives the segment its true size, and makes all of it durable.
func (t *tail) close() error {
	return errors.Join(t.file.Truncate(t.used), t.abandon()) //mutant:close-cuts-unused-space
}
