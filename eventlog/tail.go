package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

// Entries overwrite zeros that were written before. If a write overwrites allocated blocks, its sync
// needs one device flush and no commit of the file system's journal. Usually the zeros were written
// in the background, see preparation. If they are used up, the next append adds preallocStep bytes.
// With larger steps, that append loses more time than later ones save.
//
// The zeros are written in chunks of zeroChunk. Linux may cache the pages of one write in one folio
// (ext4 does so since 6.16), and each later sync then walks the whole folio. With chunks of 16 KiB
// a sync takes 3 % less time than with one write of 256 KiB.
const (
	preallocStep = 256 << 10
	zeroChunk    = 16 << 10 //mutant:write-chunk
)

var zeros [zeroChunk]byte

// tail is an open segment: the last one of a log, the one before it until it is closed, or the
// prepared one. tidwall/wal writes entries to it at its own file offset. A
// second descriptor preallocates space ahead of that offset and syncs the file.
type tail struct {
	wal      *appender
	file     *os.File
	path     string // present path of the file
	first    uint64 // sequence number in the segment's name
	id       fileID
	used     int64 // end of the last entry
	syncedTo int64 // offset up to which the file is durable
	fileSize int64 // includes the preallocated zeros from used on
	limit    int64 // size at which the log rotates, see fits
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

// openTail opens the segment at path. No later segment may be in its directory. The segment has
// sizeBytes bytes of entries. lastIndex is tidwall/wal's index of the last entry, or 0 if there is
// none.
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

// fits reports whether an entry of entryBytes fits after sizeBytes of other entries of the same
// batch. An entry that begins before the limit always fits. Further entries fit if they end at most
// limit/overrunDivisor beyond the limit. A batch in two segments would need two syncs.
func (t *tail) fits(sizeBytes, entryBytes int64) bool {
	return sizeBytes < t.remaining() || sizeBytes+entryBytes <= t.remaining()+t.limit/overrunDivisor
}

const overrunDivisor = 16

// needsNext reports whether the log should start to prepare the next segment. A preparation takes
// about 40 ms. In this time, fast writers use half of a segment of the default size.
func (t *tail) needsNext() bool { return t.remaining() < min(t.limit, maxPreparedBytes)*3/4 }

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

// write appends the frames, for which preallocate has made space. The first frame has the sequence
// number firstSeq. sizeBytes is the size of all frames with their length prefixes.
func (t *tail) write(firstSeq uint64, frames [][]byte, sizeBytes int64) error {
	if err := t.checkUnmodified(); err != nil {
		return err
	}
	if err := t.wal.write(firstSeq, frames); err != nil {
		return t.located(err)
	}
	t.used += sizeBytes
	return nil
}

// preallocate extends the file with zeros if sizeBytes of entries do not fit into it. It adds
// preallocStep bytes if the limit allows, and more if the entries need it. The sync of later entries
// makes the zeros durable.
func (t *tail) preallocate(sizeBytes int64) error {
	if t.used+sizeBytes <= t.fileSize {
		return nil
	}
	if err := t.checkUnmodified(); err != nil {
		return err
	}
	return t.located(t.writeZeros(max(t.used+sizeBytes, min(t.fileSize+preallocStep, t.limit)))) // the last batch may exceed the limit
}

// writeZeros extends the file with zeros up to sizeBytes.
func (t *tail) writeZeros(sizeBytes int64) error {
	for t.fileSize < sizeBytes {
		//mutant:zeros-behind-end
		n, err := t.file.WriteAt(zeros[:min(sizeBytes-t.fileSize, zeroChunk)], t.fileSize)
		t.fileSize += int64(n)
		if err != nil {
			t.addFailedZeros()
			return err
		}
	}
	return nil
}

// addFailedZeros corrects fileSize after a write of zeros has failed. On a full tmpfs, the failed
// write extends the file by up to one page more than it reports.
func (t *tail) addFailedZeros() {
	_, sizeBytes, err := statID(t.path)
	if err == nil && sizeBytes > t.fileSize && sizeBytes <= t.fileSize+zeroChunk {
		t.fileSize = sizeBytes
	}
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
		return t.located(err)
	}
	if t.single {
		t.spinWait.finish()
	}
	t.syncedTo = t.used
	return nil
}

// located corrects the path in an error of the segment's file. The file may have been opened in
// PreparedDir.
func (t *tail) located(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		e.Path = t.path
	}
	return err
}

// abandon closes the segment and leaves its content unchanged for the next opening to inspect.
func (t *tail) abandon() error { return errors.Join(t.wal.close(), t.file.Close()) }

// close cuts the preallocated zeros off and makes the segment durable.
func (t *tail) close() error {
	return errors.Join(t.file.Truncate(t.used), t.abandon()) //mutant:close-cuts-unused-space
}
