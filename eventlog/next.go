package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"migrationlog/eventlog/segment"
)

// PreparedDir is the directory of the log's next segment while the log prepares it. The segment has
// no frames there. When the log needs it, the log moves it to wal/.
const PreparedDir = "prepared"

// preparedName is the name of the segment in PreparedDir. tidwall/wal gives the first entry of a
// segment the index in the segment's name, and the number of the first frame is not known yet.
var preparedName = segment.Name(1)

// maxPreparedBytes limits the zeros in a prepared segment, and so the space that a log occupies
// without using it.
const maxPreparedBytes = DefaultSegmentBytes + DefaultSegmentBytes/overrunDivisor

// preparation prepares the next segment in the background: it creates the file, fills it with zeros
// and syncs it. Both the zeros and the sync would delay the writers otherwise.
//
// An error ends only the preparation. The log then creates the next segment when it needs it.
type preparation struct {
	*background
	tail *tail // the prepared segment, if the work has ended without an error
}

// startPreparation starts to prepare the log's next segment.
func (l *Log) startPreparation() *preparation {
	p := &preparation{}
	dir, limit, w := l.dir, int64(l.opts.SegmentSize), &l.spinWait // not l, which the writer uses meanwhile
	p.background = inBackground(func(goOn func() bool) (err error) {
		p.tail, err = createTail(dir, limit, w)
		if err == nil && goOn() {
			err = p.tail.fill(min(limit+limit/overrunDivisor, maxPreparedBytes), goOn)
		}
		if err != nil && p.tail != nil {
			err = errors.Join(err, p.tail.discard())
			p.tail = nil
		}
		return err
	})
	return p
}

// isReady reports whether the next segment is prepared completely.
func (p *preparation) isReady() bool { return p != nil && p.ended() && p.tail != nil }

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
			return nil, fmt.Errorf("%s: another process writes into the log's directory: stop it, and open the log again", filepath.Join(dir, e.Name()))
		}
	}
	return openTail(path, 0, 0, limit, w)
}

// fill fills an empty segment with zeros up to sizeBytes and syncs it. It stops early if goOn
// returns false. The device gets one chunk at a time, so that the syncs of the writers wait for at
// most one chunk.
func (t *tail) fill(sizeBytes int64, goOn func() bool) error {
	for t.fileSize < sizeBytes {
		from := t.fileSize
		if err := t.writeZeros(min(sizeBytes, from+fillChunk)); err != nil {
			return err
		}
		if err := startWriteback(t.file, from, t.fileSize-from); err != nil {
			return err
		}
		if !goOn() {
			return nil
		}
	}
	err := datasync(t.file)
	t.prepared = err == nil
	return err
}

// fillChunk is the number of bytes that fill passes to the device at a time.
const fillChunk = 128 << 10

// nextTail returns an open segment without frames that has no name in wal/ yet. If the next segment
// is being prepared, it is used as it is now.
func (l *Log) nextTail() (*tail, error) {
	p := l.next
	l.next = nil
	if p != nil && p.stop() == nil {
		return p.tail, nil
	}
	return createTail(l.dir, int64(l.opts.SegmentSize), &l.spinWait)
}

// discard closes a prepared segment and removes its file.
func (t *tail) discard() error { return errors.Join(t.abandon(), os.Remove(t.path)) }

// adopt moves the segment to wal/. first is the number of its first frame. The name is durable only
// after the directory is synced.
func (t *tail) adopt(wal string, first uint64) error {
	path := filepath.Join(wal, segment.Name(first))
	if err := renameToNew(t.path, path); err != nil {
		return err
	}
	t.path, t.first, t.wal.before = path, first, first-1
	return nil
}

// clearPrepared removes the segment that a killed writer had prepared. If a power cut undid the
// segment's move to wal/, the segment may have frames, none of which was acknowledged.
// clearPrepared moves such a file to quarantine/, and any other file that tidwall/wal would read.
func (r *Recovery) clearPrepared() error {
	entries, err := os.ReadDir(filepath.Join(r.dir, PreparedDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !segment.IsWALName(e.Name()) {
			continue
		}
		name := filepath.Join(PreparedDir, e.Name())
		unused, err := isUnused(filepath.Join(r.dir, name), e)
		switch {
		case err != nil:
		case unused:
			err = os.Remove(filepath.Join(r.dir, name))
		default: //mutant:prepared-bytes-kept
			err = r.quarantineFile(segment.Damage{Segment: name, Reason: "it is not a name of the log and not empty"}, moveFile)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isUnused reports whether a file in PreparedDir is an empty segment.
func isUnused(path string, e fs.DirEntry) (bool, error) {
	if !e.Type().IsRegular() || e.Name() != preparedName {
		return false, nil
	}
	return hasOnlyZeros(path)
}
