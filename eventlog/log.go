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

// Log is a log that is open for appending. One goroutine at a time may use it, but for
// SaveSnapshot.
type Log struct {
	dir       string
	opts      Options
	uuid      uuid.UUID
	lock      *heldLock
	watermark *watermark

	tail           *tail
	nextSeq        uint64
	last           segment.FrameID
	durableThrough uint64 // what the next frame's header says
	spinWait       spinWait
	failed         error
	closed         bool

	// Of one write.
	frames [][]byte
	buffer []byte // what the frames lie in
	prefix [binary.MaxVarintLen64]byte
}

// Entry is what becomes one frame.
type Entry struct {
	PrevSeq uint64 // the frame of the same migration before this one; 0 for the first of a life
	Body    segment.Body
}

// NextSeq is the number that the next appended entry gets. It is segment.MaxSeq+1 if no number is
// left.
func (l *Log) NextSeq() uint64 { return l.nextSeq }

// DurableThrough is the number of the last frame that is known to be on the device, with
// all before it.
func (l *Log) DurableThrough() uint64 { return l.durableThrough }

// Last is the last frame that was written, or that Finish was told of; zero where there
// is none.
func (l *Log) Last() segment.FrameID { return l.last }

// Health is nil, or the ErrFailed that every write and sync returns.
func (l *Log) Health() error { return l.failed }

// Write writes the entries with consecutive numbers, from NextSeq on, and where that is faster
// has the device begin with them: then what the caller does until it calls Sync takes no time. If
// fewer numbers are left than there are entries, it writes nothing and returns ErrNeedsRepair: the
// log stays usable. Any other error is an ErrFailed: it is unknown how many of the entries are in
// the log, and the log takes no more.
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

// Sync returns when all that was written is durable; with Options.NoSync it does nothing.
// Its error is an ErrFailed.
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

// fail ends the log's life: after a failed write the file holds what nobody
// knows, and after a failed sync the kernel may have dropped what it could not
// write and report success from then on.
func (l *Log) fail(err error) error {
	l.failed = fmt.Errorf("%w (%w)", ErrFailed, err) //mutant:failure-sticky
	return l.failed
}

// checkLockHeld returns an error if another writer may have the log open: LOCK is no longer the
// file that this writer locked.
func (l *Log) checkLockHeld() error {
	ours, err := l.lock.isCurrent()
	if err == nil && !ours { //mutant:lock-file-ours
		err = fmt.Errorf("%s was replaced: another writer may have the log", l.lock.Path())
	}
	return err
}

// write appends as many of the entries as the last segment takes, and returns
// their number.
func (l *Log) write(entries []Entry) (int, error) {
	l.buffer, l.frames = l.buffer[:0], l.frames[:0]
	var sizeBytes int64
	for i, e := range entries {
		n := e.Body.FrameBytes()
		if n > segment.HeaderBytes+segment.MaxBodyBytes {
			return 0, fmt.Errorf("a frame of %d bytes, at most %d", n, segment.HeaderBytes+segment.MaxBodyBytes)
		}
		if sizeBytes >= l.tail.remaining() {
			break
		}
		h := segment.Header{Seq: l.nextSeq + uint64(i), PrevSeq: e.PrevSeq, DurableThrough: l.durableThrough}
		l.buffer = slices.Grow(l.buffer, n) // where it moves, the frames before stay
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

// rotate seals the last segment and begins the next. The watermark lags no more
// than a segment.
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

// markDurable notes, and syncs, that all that was written is on the device.
func (l *Log) markDurable() error {
	l.durableThrough = l.nextSeq - 1
	return errors.Join(l.watermark.set(l.durableThrough), l.watermark.sync())
}

// startSegment makes an empty segment for the next frame and opens it.
func (l *Log) startSegment() error {
	path := l.nextPath()
	if err := createEmpty(path); err != nil {
		return err
	}
	return l.openNewSegment(path)
}

// nextPath is the path of the segment that the next frame would begin.
func (l *Log) nextPath() string {
	return filepath.Join(l.dir, segment.WALDir, segment.Name(l.nextSeq))
}

// openNewSegment opens a segment that was made. Its name is durable before anything is
// written to it.
func (l *Log) openNewSegment(path string) error {
	if err := syncDir(filepath.Dir(path)); err != nil { //mutant:new-segment-name-synced
		return err
	}
	return l.openSegment(path, 0)
}

// openSegment appends to the segment at path, the last one, from its end on.
func (l *Log) openSegment(path string, sizeBytes int64) error {
	t, err := openTail(path, l.nextSeq-1, sizeBytes, int64(l.opts.SegmentSize), &l.spinWait)
	if err == nil {
		l.tail = t
	}
	return err
}

// Close makes everything durable and lets go of the lock. After an error that is
// an ErrFailed, what was written since the last sync may be lost. A second Close
// does nothing.
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
