package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

// PreparedDir is the directory in which a log prepares its next segment. The segment has no frames
// there. When the last segment is full, the log moves the prepared segment to wal/. The directory is
// in wal/, because wal/ may be on another file system than the rest of the log, and a file cannot be
// moved to another file system in one step.
const PreparedDir = segment.WALDir + "/prepared"

// preparedName is the name of the segment in PreparedDir. The number of its first frame is not known
// yet. tidwall/wal takes the index of the first entry from the name, so it counts from 1. moveToWAL
// sets the difference to the sequence numbers.
var preparedName = segment.Name(1)

// maxPreparedBytes limits the zeros in a prepared segment, and so the space that a log occupies
// without using it.
const maxPreparedBytes = DefaultSegmentBytes + DefaultSegmentBytes/overrunDivisor

// preparation prepares the next segment in the background: it creates the file, fills it with zeros
// and syncs it. Both the zeros and the sync would delay the writers otherwise.
//
// An error ends only the preparation. The log then creates the next segment when it needs it.
type preparation struct {
	work *background // nil after take
	tail *tail       // the prepared segment, if the work has ended without an error
}

// startPreparation starts to prepare the log's next segment.
func (l *Log) startPreparation() *preparation {
	p := &preparation{}
	dir, limit, w := l.dir, int64(l.opts.SegmentSize), &l.spinWait // not l, which the writer uses meanwhile
	p.work = inBackground(func(pause func() bool) (err error) {
		p.tail, err = createTail(dir, limit, w)
		if err == nil && pause() {
			err = p.tail.fill(preparedBytes(limit), pause)
		}
		if err != nil && p.tail != nil {
			err = errors.Join(err, p.tail.discard())
			p.tail = nil
		}
		return err
	})
	return p
}

// preparedBytes returns the size of a prepared segment.
func preparedBytes(limit int64) int64 {
	if limit >= DefaultSegmentBytes {
		return maxPreparedBytes
	}
	return limit + limit/overrunDivisor
}

// take stops the preparation and returns the segment as it is then. It returns nil if the
// preparation has failed, or if take was called before.
func (p *preparation) take() *tail {
	if p == nil || p.work == nil {
		return nil
	}
	err := p.work.stop()
	p.work = nil
	if err != nil {
		return nil
	}
	return p.tail
}

// poll lets the preparation continue on a simulated disk.
func (p *preparation) poll() {
	if p.work != nil {
		p.work.poll()
	}
}

// createTail creates an empty segment in PreparedDir and opens it.
func createTail(dir string, limit int64, w *spinWait) (*tail, error) {
	prepared := filepath.Join(dir, PreparedDir)
	if err := os.Mkdir(prepared, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	path := filepath.Join(prepared, preparedName)
	if err := createEmpty(path); err != nil {
		return nil, err
	}
	t, err := openPrepared(prepared, path, limit, w)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return t, nil
}

func openPrepared(dir, path string, limit int64, w *spinWait) (*tail, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if segment.IsWALName(e.Name()) && e.Name() != preparedName {
			return nil, fmt.Errorf("%s was created by another process, and tidwall/wal would take it for a segment: stop that process and remove the file", filepath.Join(dir, e.Name()))
		}
	}
	return openTail(path, 0, 0, limit, w)
}

// fill fills an empty segment with zeros up to sizeBytes and syncs it. It stops early if pause
// returns false. It starts the writeback of one chunk and then pauses. If the device writes the chunk
// during the pause, the syncs of the writers wait for at most one chunk.
func (t *tail) fill(sizeBytes int64, pause func() bool) error {
	for t.fileSize < sizeBytes {
		from := t.fileSize
		if err := t.writeZeros(min(sizeBytes, from+fillChunk)); err != nil {
			return err
		}
		if err := startWriteback(t.file, from, t.fileSize-from); err != nil {
			return err
		}
		if !pause() {
			return nil
		}
	}
	return datasync(t.file)
}

// fillChunk is the number of bytes that fill passes to the device at a time.
const fillChunk = 128 << 10

// startSegment starts a new last segment. Its first frame will be the next frame. The next sync waits
// until its name is durable. startSegment uses the prepared segment as it is, or creates one if the
// preparation has failed or another process has removed the file.
func (l *Log) startSegment() error {
	wal := filepath.Join(l.dir, segment.WALDir)
	next := l.next.take()
	l.next = nil
	err := error(fs.ErrNotExist)
	if next != nil {
		if err = next.moveToWAL(wal, l.nextSeq); err != nil {
			err = errors.Join(err, next.discard())
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		if next, err = createTail(l.dir, int64(l.opts.SegmentSize), &l.spinWait); err != nil {
			return err
		}
		if err = next.moveToWAL(wal, l.nextSeq); err != nil {
			err = errors.Join(err, next.discard())
		}
	}
	if err != nil {
		return err
	}
	l.tail = next
	l.nameSync = inBackground(func(func() bool) error { return syncDir(wal) })
	return nil
}

// discard closes a prepared segment and removes its file. It does nothing to the file if another
// process has removed or replaced it.
func (t *tail) discard() error {
	err := t.abandon()
	id, _, statErr := statID(t.path)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return err
	case statErr != nil || !id.equal(t.id):
		return errors.Join(err, statErr)
	}
	return errors.Join(err, os.Remove(t.path))
}

// moveToWAL moves a prepared segment to wal/. first is the number of its first frame. The name is
// durable only after the directory is synced.
func (t *tail) moveToWAL(wal string, first uint64) error {
	path := filepath.Join(wal, segment.Name(first))
	if err := renameToNew(t.path, path); err != nil {
		return err
	}
	t.path, t.first, t.wal.seqOffset = path, first, first-1
	return nil
}

// clearPrepared removes the segment that a killed writer had prepared. If the segment has bytes other
// than zeros, its move to wal/ may be missing: a power cut may have undone it, or the log was copied
// during the move. Its frames were not acknowledged. clearPrepared moves such a segment to
// quarantine/. It also moves every other file there that has a name of tidwall/wal, and whatever has
// the name of the directory and is not one.
func (r *Recovery) clearPrepared() error {
	info, err := os.Lstat(filepath.Join(r.dir, PreparedDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() { //mutant:prepared-is-directory
		return r.quarantineFile(segment.Damage{Segment: PreparedDir, Reason: "not a directory, but the log needs this name"}, moveFile)
	}
	entries, err := os.ReadDir(filepath.Join(r.dir, PreparedDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if segment.IsWALName(e.Name()) {
			if err := r.clearPreparedFile(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Recovery) clearPreparedFile(e fs.DirEntry) error {
	name := filepath.Join(PreparedDir, e.Name())
	if !e.Type().IsRegular() || e.Name() != preparedName {
		return r.quarantineFile(segment.Damage{Segment: name, Reason: "not a file of this log, but tidwall/wal would take it for a segment"}, moveFile)
	}
	path := filepath.Join(r.dir, name)
	unused, err := hasOnlyZeros(path)
	switch {
	case err != nil:
		return err
	case unused:
		return os.Remove(path)
	}
	//mutant:prepared-bytes-kept
	return r.quarantineFile(segment.Damage{Segment: name, Reason: "the prepared segment has bytes other than zeros: a power cut may have undone its move to " + segment.WALDir + "/, or the log was copied during the move"}, moveFile)
}

// removePreparedDir removes PreparedDir if it is an empty directory.
func (l *Log) removePreparedDir() {
	dir := filepath.Join(l.dir, PreparedDir)
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		_ = os.Remove(dir) // fails if it has foreign files
	}
}
