package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// Log is a log that is open for appending. One goroutine at a time may use it.
type Log struct {
	dir       string
	opts      Options
	uuid      uuid.UUID
	lock      *flock.Flock
	watermark *watermark

	wal            *appender
	tail           string // path of the last segment
	tailFile       os.FileInfo
	tailBytes      int64 // what it holds, as far as we know
	nextSeq        uint64
	durableThrough uint64 // what the next frame's header says
	failed         error
	closed         bool
}

// Entry is what becomes one frame.
type Entry struct {
	PrevSeq uint64 // the frame of the same migration before this one; 0 for the first of a life
	Body    []byte // at most segment.MaxBodyBytes
}

// NextSeq is the number that the next appended entry gets.
func (l *Log) NextSeq() uint64 { return l.nextSeq }

// DurableThrough is the number of the last frame of a finished Append that is
// known to be on the device, with all before it.
func (l *Log) DurableThrough() uint64 { return l.durableThrough }

// Health is nil, or the ErrFailed that every append returns.
func (l *Log) Health() error { return l.failed }

// Append writes the entries with consecutive numbers, from NextSeq on, and
// returns when they are durable (with Options.NoSync: when they are written).
// On an error, an ErrFailed, it is unknown how many of them are in the log, and
// the log takes no more.
func (l *Log) Append(entries []Entry) error {
	if l.failed != nil {
		return l.failed
	}
	if err := l.isOurs(); err != nil {
		return l.fail(err)
	}
	for len(entries) > 0 {
		if l.tailBytes >= int64(l.opts.SegmentSize) {
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
	if err := l.wal.sync(); err != nil {
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
	l.failed = fmt.Errorf("%w (%w)", ErrFailed, err)
	return l.failed
}

// isOurs returns an error where another writer may have the log.
func (l *Log) isOurs() error {
	ours, err := stillThere(l.lock)
	if err == nil && !ours {
		err = fmt.Errorf("%s was replaced: another writer may have the log", l.lock.Path())
	}
	return err
}

// write appends as many of the entries as the last segment takes, and returns
// their number.
func (l *Log) write(entries []Entry) (int, error) {
	info, err := os.Stat(l.tail)
	if err != nil {
		return 0, err
	}
	if !os.SameFile(info, l.tailFile) {
		return 0, fmt.Errorf("segment %s was replaced: somebody else writes to it", l.tail)
	}
	if info.Size() != l.tailBytes {
		return 0, fmt.Errorf("segment %s has %d bytes where %d were written: somebody else writes to it", l.tail, info.Size(), l.tailBytes)
	}
	var frames [][]byte
	bytes := l.tailBytes
	for i, e := range entries {
		if len(e.Body) > segment.MaxBodyBytes {
			return 0, fmt.Errorf("a body of %d bytes, at most %d", len(e.Body), segment.MaxBodyBytes)
		}
		if bytes >= int64(l.opts.SegmentSize) {
			break
		}
		h := segment.Header{Seq: l.nextSeq + uint64(i), PrevSeq: e.PrevSeq, DurableThrough: l.durableThrough}
		frame := segment.AppendFrame(nil, l.uuid, h, e.Body)
		frames = append(frames, frame)
		bytes += int64(len(binary.AppendUvarint(nil, uint64(len(frame)))) + len(frame))
	}
	if err := l.wal.write(l.nextSeq, frames); err != nil {
		return 0, err
	}
	l.tailBytes = bytes
	l.nextSeq += uint64(len(frames))
	return len(frames), nil
}

// rotate seals the last segment and begins the next. The watermark lags no more
// than a segment.
func (l *Log) rotate() error {
	if err := l.wal.close(); err != nil {
		return err
	}
	if err := l.markDurable(); err != nil {
		return err
	}
	return l.begin()
}

// markDurable notes, and syncs, that all that was written is on the device.
func (l *Log) markDurable() error {
	l.durableThrough = l.nextSeq - 1
	return errors.Join(l.watermark.set(l.durableThrough), l.watermark.sync())
}

// begin makes an empty segment for the next frame and opens it. The new name is
// durable before anything is written to it.
func (l *Log) begin() error {
	path := filepath.Join(l.dir, segment.WALDir, segment.Name(l.nextSeq))
	if err := createFile(path, nil); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return l.open(path, 0)
}

// open appends to the segment at path, the last one, from its end on. What has come
// into the directory since it was judged may be what tidwall/wal deletes segments
// for.
func (l *Log) open(path string, sizeBytes int64) error {
	strays, err := segment.Strays(os.DirFS(l.dir))
	if err != nil {
		return err
	}
	if len(strays) > 0 {
		return fmt.Errorf("%s: somebody else writes into the log's directory", strays[0])
	}
	file, err := os.Stat(path)
	if err != nil {
		return err
	}
	wal, err := openAppender(filepath.Dir(path), l.nextSeq-1)
	if err != nil {
		return err
	}
	l.wal, l.tail, l.tailFile, l.tailBytes = wal, path, file, sizeBytes
	return nil
}

// Close makes everything durable and lets go of the lock. After an error that is
// an ErrFailed, what was written since the last sync may be lost. A second Close
// does nothing.
func (l *Log) Close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	err := errors.Join(l.isOurs(), l.wal.close())
	if err == nil && l.failed == nil {
		err = l.markDurable()
	}
	if err = errors.Join(err, l.watermark.close()); err != nil && l.failed == nil {
		l.fail(err)
	}
	return errors.Join(l.failed, unlock(l.lock))
}
