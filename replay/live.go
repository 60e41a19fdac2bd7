package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// ErrReplaced is returned by LiveReader.New if the directory now has another log, or if the log no
// longer has the last event that was read.
var ErrReplaced = errors.New("the log was replaced, was restored from a backup, or lost its last events in a power cut")

// LiveReader reads the records that a writer appends to a log. It is not safe for concurrent use.
type LiveReader struct {
	fsys fs.FS
	log  uuid.UUID
	last segment.Place // of the last event that was read; zero if there is none
	next uint64        // every lower number was read or was reported as lost
}

// Live returns a reader that continues after the records that the caller has read. The argument
// last is the last event among them, or a zero Record. The argument next is the number after the
// last one that was read or lost.
func (r *Reader) Live(last Record, next uint64) *LiveReader {
	return &LiveReader{fsys: r.fsys, log: r.dir.Manifest.UUID, last: last.place(), next: max(next, 1)}
}

// New yields the records that were appended since the last call. It reads the log only if bytes
// follow the last event or a later segment exists. It does not yield a torn tail, because that may
// be a write in progress. It does not yield damage that lost no event. If the log was replaced,
// ErrReplaced is yielded last. The records of the same call may then be those of another history.
func (l *LiveReader) New(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		followed, err := l.check()
		if err != nil {
			yield(Record{}, err)
			return
		}
		if !followed {
			return
		}
		for rec, err := range l.appended(ctx) {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if d := rec.Damage; d != nil {
				if d.Torn || d.FirstSeq < l.next {
					continue
				}
				l.next = d.LastSeq + 1
			} else {
				l.last, l.next = rec.place(), rec.Seq+1
			}
			if !yield(rec, nil) {
				return
			}
		}
		if _, err := l.check(); err != nil {
			yield(Record{}, err)
		}
	}
}

// check returns ErrReplaced if the log is not the one that was read before. Otherwise it reports
// whether anything follows the last event.
func (l *LiveReader) check() (followed bool, err error) {
	m, _, err := segment.ReadManifest(l.fsys)
	if err != nil {
		return false, err
	}
	if m.UUID != l.log {
		return false, fmt.Errorf("%w: its id was %s and is now %s", ErrReplaced, l.log, m.UUID)
	}
	if l.last == (segment.Place{}) {
		return true, nil
	}
	present, followed, err := l.last.Check(l.fsys, l.log)
	if err == nil && !present {
		err = fmt.Errorf("%w: event #%d is no longer in segment %s at byte %d", ErrReplaced, l.last.Seq, l.last.Segment, l.last.Offset)
	}
	return followed, err
}

// appended yields the records after the last event.
func (l *LiveReader) appended(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		dir, err := segment.ReadDirectory(l.fsys)
		if err != nil {
			yield(Record{}, err)
			return
		}
		dir.Manifest.UUID = l.log // frames of another log are not intact
		var after segment.Position
		if l.last != (segment.Place{}) {
			after = l.last.Position()
		}
		for item, err := range segment.NewScan(l.fsys, dir, segment.ScanOptions{After: after}).Items() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(Decode(item), nil) {
				return
			}
		}
	}
}
