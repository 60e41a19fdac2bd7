package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// Log is a log that is open for appending. Only one goroutine at a time may use it, except for
// SaveSnapshot.
type Log struct {
	dir       string // absolute
	opts      Options
	uuid      uuid.UUID
	lock      *heldLock
	watermark *watermark

	tail           *tail
	nextSeq        uint64
	last           segment.FrameID
	durableThrough uint64 // all frames up to this number are durable
	spinWait       spinWait
	failed         error
	closed         bool

	// Memory that each write reuses.
	frames [][]byte
	buffer []byte // contains the frames
	prefix [binary.MaxVarintLen64]byte
}

// Entry is the content of a new frame.
type Entry struct {
	PrevSeq uint64 // previous frame of the same migration; 0 for the first one of an incarnation
	Body    segment.Body
}

// NextSeq returns the sequence number of the next entry. It is segment.MaxSeq+1 if no number is
// left.
func (l *Log) NextSeq() uint64 { return l.nextSeq }

// DurableThrough returns the highest sequence number up to which all frames are known to be
// durable.
func (l *Log) DurableThrough() uint64 { return l.durableThrough }

// Last returns the last written frame, or the argument of Finish if nothing was written since. It
// is zero if there is no frame.
func (l *Log) Last() segment.FrameID { return l.last }

// Health returns nil, or the ErrFailed that every Write and Sync returns after the first failure.
func (l *Log) Health() error { return l.failed }

// Write writes the entries with consecutive sequence numbers, from NextSeq on. It may make the
// device start to write them, so that the caller's work before Sync overlaps with the device's.
//
// If fewer numbers are left than there are entries, Write writes nothing and returns
// ErrNeedsRepair. The log stays usable. Any other error is an ErrFailed. It is then unknown how
// many of the entries are in the log, and every later Write fails.
func (l *Log) Write(entries []Entry) error {
	if l.failed != nil {
		return l.failed
	}
	if err := CheckSeq(l.nextSeq - 1 + uint64(len(entries))); err != nil {
		return err
	}
	if err := l.checkLockHeld(); err != nil {
		return l.fail(err)
	}
	for len(entries) > 0 {
		if l.tail.remaining() <= 0 {
			if err := l.rotate(); err != nil {
				return l.fail(err)
			}
		}
		n, err := l.write(entries)
		if err != nil {
			return l.fail(err)
		}
		entries = entries[n:]
	}
	if l.opts.NoSync {
		return nil
	}
	if err := l.tail.startSync(l.nextSeq-1 == l.durableThrough+1); err != nil {
		return l.fail(err)
	}
	return nil
}

// Sync makes all written entries durable. With Options.NoSync it does nothing. Its error is an
// ErrFailed.
func (l *Log) Sync() error {
	if l.failed != nil || l.opts.NoSync {
		return l.failed
	}
	if err := l.tail.sync(); err != nil { //mutant:append-synced
		return l.fail(err)
	}
	l.durableThrough = l.nextSeq - 1
	if err := l.watermark.set(l.durableThrough); err != nil {
		return l.fail(err)
	}
	return nil
}

// fail makes all later writes and syncs return ErrFailed. After a failed write, the content of the
// file is unknown. After a failed sync, the kernel may have dropped the pages that it could not
// write, and a later sync may still report success.
func (l *Log) fail(err error) error {
	l.failed = fmt.Errorf("%w (%w)", ErrFailed, err) //mutant:failure-sticky
	return l.failed
}

// checkLockHeld returns an error if LOCK is no longer the file that this writer locked. Another
// writer may then have the log open.
func (l *Log) checkLockHeld() error {
	change, err := l.lock.change()
	if err == nil && change != "" { //mutant:lock-file-ours
		err = fmt.Errorf("%s was %s: another writer may own the log", l.lock.Path(), change)
	}
	return err
}

// write appends entries until the last segment is full, and returns their number.
func (l *Log) write(entries []Entry) (int, error) {
	l.buffer, l.frames = l.buffer[:0], l.frames[:0]
	var sizeBytes int64
	for i, e := range entries {
		n := e.Body.FrameBytes()
		if n > segment.HeaderBytes+segment.MaxBodyBytes {
			return 0, fmt.Errorf("a frame has %d bytes, the maximum is %d", n, segment.HeaderBytes+segment.MaxBodyBytes)
		}
		if sizeBytes >= l.tail.remaining() {
			break
		}
		h := segment.Header{Seq: l.nextSeq + uint64(i), PrevSeq: e.PrevSeq, DurableThrough: l.durableThrough}
		l.buffer = slices.Grow(l.buffer, n) // if this reallocates, the earlier frames keep the old memory
		l.buffer = segment.AppendFrame(l.buffer, &l.uuid, h, e.Body)
		l.frames = append(l.frames, l.buffer[len(l.buffer)-n:])
		sizeBytes += int64(len(binary.AppendUvarint(l.prefix[:0], uint64(n))) + n)
	}
	if err := l.tail.write(l.nextSeq, l.frames, sizeBytes); err != nil {
		return 0, err
	}
	l.nextSeq += uint64(len(l.frames))
	l.last = segment.FrameIDOf(l.frames[len(l.frames)-1], l.tail.first)
	return len(l.frames), nil
}

// rotate seals the last segment and starts the next one. It also syncs the watermark, which
// therefore lags by at most one segment after a power cut.
func (l *Log) rotate() error {
	if err := l.checkLockHeld(); err != nil { //mutant:rotation-lock-checked
		return err
	}
	if err := l.tail.close(); err != nil { //mutant:sealed-segment-closed
		return err
	}
	if err := l.markDurable(); err != nil {
		return err
	}
	return l.startSegment()
}

// markDurable raises the watermark to the last written frame and syncs it. All frames must be
// durable.
func (l *Log) markDurable() error {
	l.durableThrough = l.nextSeq - 1
	return errors.Join(l.watermark.set(l.durableThrough), l.watermark.sync())
}

// startSegment creates an empty segment for the next frame and opens it.
func (l *Log) startSegment() error {
	path := l.nextPath()
	if err := createEmpty(path); err != nil {
		return err
	}
	return l.openNewSegment(path)
}

// nextPath returns the path of a segment that starts with the next frame.
func (l *Log) nextPath() string {
	return filepath.Join(l.dir, segment.WALDir, segment.Name(l.nextSeq))
}

// openNewSegment opens a segment that was just created. It first makes the segment's name durable.
func (l *Log) openNewSegment(path string) error {
	if err := syncDir(filepath.Dir(path)); err != nil { //mutant:new-segment-name-synced
		return err
	}
	return l.openSegment(path, 0)
}

// openSegment opens the last segment, at path, to append entries after its first sizeBytes.
func (l *Log) openSegment(path string, sizeBytes int64) error {
	t, err := openTail(path, l.nextSeq-1, sizeBytes, int64(l.opts.SegmentSize), &l.spinWait)
	if err == nil {
		l.tail = t
	}
	return err
}

// Close makes everything durable and releases the lock. If it returns an ErrFailed, entries written
// after the last successful sync may be lost. A second Close does nothing.
func (l *Log) Close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	err := l.checkLockHeld() //mutant:close-lock-checked
	if err == nil && l.failed == nil {
		if err = l.tail.close(); err == nil {
			err = l.markDurable()
		}
	} else {
		err = errors.Join(err, l.tail.abandon()) //mutant:failed-tail-left
	}
	if err = errors.Join(err, l.watermark.close()); err != nil && l.failed == nil {
		l.fail(err)
	}
	return errors.Join(l.failed, unlock(l.lock))
}
