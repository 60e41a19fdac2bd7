package eventlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

// A segment is filled with zeros before it is used. If a write overwrites allocated blocks, its sync
// needs one device flush and no commit of the file system's journal. Usually the zeros were written
// in the background, see preparation. If they are used up, the next append adds preallocStep bytes.
// Larger steps make that append slower than they save.
//
// The zeros are written in chunks of zeroChunk. Linux may cache the pages of one write in one folio
// (ext4 does so since 6.16), and each later sync then walks the whole folio. With chunks of 16 KiB
// a sync takes 3 % less time than with one write of 256 KiB.
const (
	preallocStep = 256 << 10
	zeroChunk    = 16 << 10 //mutant:write-chunk
)

var zeros [zeroChunk]byte

// tail is the last segment of a log. tidwall/wal writes entries to it at its own file offset. A
// second descriptor preallocates space ahead of that offset and syncs the file.
type tail struct {
	wal      *appender
	file     *os.File
	path     string // present path of the file
	first    uint64 // sequence number in the segment's name
	id       fileID
	prepared bool  // all zeros were written and synced in the background, see preparation
	used     int64 // end of the last entry
	syncedTo int64 // offset up to which the file is durable
	fileSize int64 // includes the preallocated zeros from used on
	limit    int64 // preallocation stops here; only the last entry may exceed it
	single   bool  // a single writer's entry is being synced
	spinWait *spinWait
}

// reopenTail opens the last segment of an existing log, at path in wal/. It returns an error if
// there is a stray file that tidwall/wal would take for one of its own, because tidwall/wal may then
// delete segments. Finish has moved all earlier files of this kind away, so another process made
// this one.
func reopenTail(path string, lastSeq uint64, sizeBytes, limit int64, w *spinWait) (*tail, error) {
	strays, err := segment.Strays(os.DirFS(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return nil, err
	}
	for _, d := range strays {
		if d.Severity != segment.Harmless { //mutant:strays-refused
			return nil, fmt.Errorf("%s: another process writes into the log's directory: stop it, and open the log again", d)
		}
	}
	return openTail(path, lastSeq, sizeBytes, limit, w)
}

// openTail opens the only or the last segment of a directory, at path. It has sizeBytes of entries.
// lastIndex is the index that the last entry has for tidwall/wal.
func openTail(path string, lastIndex uint64, sizeBytes, limit int64, w *spinWait) (*tail, error) {
	id, _, err := statID(path)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0) //mutant:wal-opened-first
	if err != nil {
		return nil, err
	}
	// Nothing is preallocated yet. tidwall/wal would read zeros as entries.
	wal, err := openAppender(filepath.Dir(path), lastIndex)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	first, _ := segment.ParseName(filepath.Base(path))
	return &tail{wal: wal, file: file, path: path, first: first, id: id, used: sizeBytes, syncedTo: sizeBytes, fileSize: sizeBytes, limit: limit, spinWait: w}, nil
}

// remaining returns the bytes that are left up to the segment's limit. If none are left, the log
// rotates.
func (t *tail) remaining() int64 { return t.limit - t.used }

// takes reports whether the segment takes an entry of entryBytes after sizeBytes of other entries of
// the same batch. A batch may exceed the limit by a part of it, because a batch in two segments
// needs two syncs. The last entry of a batch may exceed the limit further.
func (t *tail) takes(sizeBytes, entryBytes int64) bool {
	return sizeBytes < t.remaining() || sizeBytes+entryBytes <= t.remaining()+t.limit/overrunDivisor
}

const overrunDivisor = 16

// isNearEnd reports whether the next segment must be prepared. A preparation takes about 40 ms. In
// this time, fast writers use half of a segment of the default size.
func (t *tail) isNearEnd() bool { return t.remaining() < min(t.limit, maxPreparedBytes)*3/4 }

// outgrew reports whether the segment was not prepared, and the appends had to preallocate for a
// second time. The log then leaves it as soon as the next segment is prepared. A log that is opened
// and written to quickly therefore soon has a prepared segment, and a log with few writes never
// occupies space for one.
func (t *tail) outgrew() bool { return !t.prepared && t.used > preallocStep }

// checkUnmodified returns an error if another process has replaced the segment or changed its size.
func (t *tail) checkUnmodified() error {
	id, sizeBytes, err := statID(t.path)
	if err != nil {
		return err
	}
	if !id.equal(t.id) { //mutant:segment-file-ours
		return fmt.Errorf("segment %s was replaced: another process writes to it", t.path)
	}
	if sizeBytes != t.fileSize { //mutant:segment-size-ours
		return fmt.Errorf("segment %s has %d bytes, expected %d: another process writes to it", t.path, sizeBytes, t.fileSize)
	}
	return nil
}

// write appends the frames. The first frame has the sequence number firstSeq. sizeBytes is the size
// of all frames with their length prefixes.
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

// preallocate extends the file with zeros if it is smaller than sizeBytes. It adds preallocStep
// bytes if the limit allows, and more if sizeBytes needs it. The sync of later entries makes the
// zeros durable.
func (t *tail) preallocate(sizeBytes int64) error {
	if sizeBytes <= t.fileSize {
		return nil
	}
	return t.writeZeros(max(sizeBytes, min(t.fileSize+preallocStep, t.limit))) // the last batch may exceed the limit
}

// writeZeros extends the file with zeros up to sizeBytes.
func (t *tail) writeZeros(sizeBytes int64) error {
	for t.fileSize < sizeBytes {
		//mutant:zeros-behind-end
		n, err := t.file.WriteAt(zeros[:min(sizeBytes-t.fileSize, zeroChunk)], t.fileSize)
		t.fileSize += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// startSync makes the device start to write the bytes that sync will make durable. For a single
// entry it does so only if the writer will poll.
func (t *tail) startSync(single bool) error {
	if t.single = single; single && !t.spinWait.start() {
		return nil
	}
	return startWriteback(t.file, t.syncedTo, t.used-t.syncedTo)
}

// sync makes all written entries durable.
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

// abandon closes the segment and leaves its content unchanged for the next opening to inspect.
func (t *tail) abandon() error { return errors.Join(t.wal.close(), t.file.Close()) }

// close cuts the preallocated zeros off and makes the segment durable.
func (t *tail) close() error {
	return errors.Join(t.file.Truncate(t.used), t.abandon()) //mutant:close-cuts-unused-space
}
