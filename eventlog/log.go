package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/fault"
)

// Log is a log that is open for appending. Only one goroutine at a time may use it, except for
// SaveSnapshot and SaveSummary.
type Log struct {
	dir       string // absolute
	opts      Options
	uuid      uuid.UUID
	lock      *heldLock
	watermark *watermark

	tail     *tail
	next     *preparation // of the next segment; nil: not started
	nameSync *background  // sync of wal/ that makes the tail's name durable; nil: awaited
	full     *tail        // the segment before the tail, if its close has not started; otherwise nil
	closing  *background  // close of the segment before the tail; nil: awaited, or not started

	sealedBefore uint64 // see SealedBefore

	nextSeq        uint64
	last           segment.FrameID
	durableThrough uint64 // all frames up to this number are durable
	spinWait       spinWait
	failed         error
	closed         bool
	hook           fault.Hook // nil except in tests with package storetest

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
	if err := l.callHook(fault.BeforeWrite); err != nil {
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

// Sync makes all written entries durable. With Options.NoSync it does nothing: see MakeDurable. Its
// error is an ErrFailed.
func (l *Log) Sync() error {
	if l.failed != nil {
		return l.failed
	}
	err := l.callHook(fault.BeforeSync)
	if err == nil && !l.opts.NoSync {
		err = l.sync()
	}
	if err == nil {
		err = l.callHook(fault.AfterSync)
	}
	if err != nil {
		return l.fail(err)
	}
	if l.opts.NoSync {
		return nil
	}
	if err := l.advanceBackground(); err != nil {
		l.fail(err) // the entries of this sync are durable, so only later writes fail
	}
	return nil
}

// MakeDurable makes all written entries and the watermark durable, also with Options.NoSync. The
// next opening has these entries, even after a power cut and with Options.Replicated. Its error is
// an ErrFailed.
func (l *Log) MakeDurable() error {
	if l.failed != nil {
		return l.failed
	}
	if err := l.makeDurable(); err != nil {
		return l.fail(err)
	}
	if err := l.advanceBackground(); err != nil {
		l.fail(err) // the entries are durable, so only later writes fail
	}
	return nil
}

func (l *Log) makeDurable() error {
	if err := l.checkLockHeld(); err != nil {
		return err
	}
	if err := l.callHook(fault.BeforeSync); err != nil {
		return err
	}
	if l.durableThrough < l.nextSeq-1 { //mutant:made-durable
		if err := l.sync(); err != nil {
			return err
		}
	}
	if err := l.markDurable(); err != nil {
		return err
	}
	return l.callHook(fault.AfterSync)
}

// callHook calls the hook, if there is one.
func (l *Log) callHook(at fault.Point) error {
	if l.hook == nil {
		return nil
	}
	return l.hook(at, l.nextSeq-1)
}

// sync makes all written entries and the name of their segment durable, and sets the watermark.
func (l *Log) sync() error {
	if err := l.tail.sync(); err != nil { //mutant:append-synced
		return err
	}
	if err := l.awaitName(); err != nil { //mutant:new-segment-name-synced
		return err
	}
	l.durableThrough = l.nextSeq - 1
	return l.watermark.set(l.durableThrough)
}

// advanceBackground starts the background work that is due. It returns the error of a close that
// has ended.
func (l *Log) advanceBackground() error {
	switch {
	case l.next != nil:
		l.next.poll()
	case l.tail.needsNext():
		l.next = l.startPreparation()
	}
	if l.closing != nil && l.closing.poll() {
		return l.awaitClose()
	}
	l.startClose()
	return nil
}

// awaitName waits until the name of the last segment is durable.
func (l *Log) awaitName() error { return await(&l.nameSync) }

// startClose starts to close the full segment before the last one, and to sync the watermark. Sync
// calls it after the first sync of the last segment, which therefore does not wait for the close.
func (l *Log) startClose() {
	if l.full == nil {
		return
	}
	full := l.full
	l.full = nil
	l.closing = inBackground(func(pause func() bool) error {
		err := full.close()
		pause()
		return errors.Join(err, l.watermark.sync())
	})
}

// awaitClose waits until the full segment before the last one is closed.
func (l *Log) awaitClose() error {
	l.startClose()
	err := await(&l.closing)
	if err == nil {
		l.sealedBefore = l.tail.first
	}
	return err
}

// await waits for background work, if there is any, and returns its error.
func await(b **background) error {
	if *b == nil {
		return nil
	}
	err := (*b).wait()
	*b = nil
	return err
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

// write appends as many of the entries as fit into the last segment, and returns their number.
func (l *Log) write(entries []Entry) (int, error) {
	l.buffer, l.frames = l.buffer[:0], l.frames[:0]
	var sizeBytes int64
	for i, e := range entries {
		n := e.Body.FrameBytes()
		if n > segment.HeaderBytes+segment.MaxBodyBytes {
			return 0, fmt.Errorf("a frame has %d bytes, the maximum is %d", n, segment.HeaderBytes+segment.MaxBodyBytes)
		}
		entryBytes := int64(len(binary.AppendUvarint(l.prefix[:0], uint64(n))) + n)
		if !l.tail.fits(sizeBytes, entryBytes) {
			break
		}
		h := segment.Header{Seq: l.nextSeq + uint64(i), PrevSeq: e.PrevSeq, DurableThrough: l.durableThrough}
		l.buffer = slices.Grow(l.buffer, n) // if this reallocates, the earlier frames keep the old memory
		l.buffer = segment.AppendFrame(l.buffer, &l.uuid, h, e.Body)
		l.frames = append(l.frames, l.buffer[len(l.buffer)-n:])
		sizeBytes += entryBytes
	}
	if err := l.preallocate(sizeBytes); err != nil {
		return 0, err
	}
	if err := l.tail.write(l.nextSeq, l.frames, sizeBytes); err != nil {
		return 0, err
	}
	l.nextSeq += uint64(len(l.frames))
	l.last = segment.FrameIDOf(l.frames[len(l.frames)-1], l.tail.first)
	return len(l.frames), nil
}

// preallocate makes space for sizeBytes of entries in the last segment. If the disk is full, it
// removes the prepared segment, which may occupy the missing space, and tries again. The log prepares
// no other segment before the next rotation.
func (l *Log) preallocate(sizeBytes int64) error {
	err := l.tail.preallocate(sizeBytes)
	if !isFull(err) || l.next == nil { //mutant:prepared-space-given-back
		return err
	}
	if next := l.next.take(); next != nil {
		if err := next.discard(); err != nil {
			return err
		}
	}
	return l.tail.preallocate(sizeBytes)
}

// rotate starts the next segment. It first makes all frames durable, because readers take the name of
// a segment as evidence that all earlier frames were durable.
func (l *Log) rotate() error {
	if err := l.checkLockHeld(); err != nil { //mutant:rotation-lock-checked
		return err
	}
	if l.durableThrough < l.nextSeq-1 { //mutant:sealed-segment-synced
		if err := l.sync(); err != nil {
			return err
		}
	}
	if err := l.awaitClose(); err != nil { //mutant:sealed-segment-closed
		return err
	}
	full := l.tail
	if err := l.startSegment(); err != nil {
		return err
	}
	l.full = full
	return nil
}

// markDurable raises the watermark to the last written frame and syncs it. All frames must be
// durable. It writes the watermark even if it has the same content, because a sync after one that
// has failed may skip it otherwise.
func (l *Log) markDurable() error {
	l.durableThrough = l.nextSeq - 1
	if err := l.watermark.set(l.durableThrough); err != nil { //mutant:watermark-set-again
		return err
	}
	return l.watermark.sync() //mutant:marked-durable
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
		err = l.closeSegments()
	} else {
		err = errors.Join(err, l.abandonSegments())
	}
	if err = errors.Join(err, l.watermark.close()); err != nil && l.failed == nil {
		l.fail(err)
	}
	return errors.Join(l.failed, unlock(l.lock))
}

// closeSegments closes all segments, makes everything durable, and removes the prepared segment.
func (l *Log) closeSegments() error {
	if err := errors.Join(l.awaitClose(), l.awaitName()); err != nil {
		return errors.Join(err, l.abandonSegments())
	}
	err := l.tail.close()
	if err == nil {
		err = l.markDurable()
	}
	if next := l.next.take(); next != nil {
		err = errors.Join(err, next.discard())
	}
	l.removePreparedDir()
	return err
}

// abandonSegments closes all segments and leaves the bytes of the last one unchanged, for the next
// opening to inspect. Background work that already runs may still change unused space.
func (l *Log) abandonSegments() error {
	err := l.tail.abandon() //mutant:failed-tail-left
	err = errors.Join(err, await(&l.closing), l.awaitName())
	for _, other := range []*tail{l.full, l.next.take()} {
		if other != nil {
			err = errors.Join(err, other.abandon())
		}
	}
	return err
}
