package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// ErrNotKept is returned, as a *NotKeptError, for a point before the beginning of the history that a
// log keeps.
var ErrNotKept = errors.New("not kept here")

// Beginning describes the state with which the history of a log begins, if that is not the empty
// one. A member of a consensus group that received its state from another member has the rows of
// that state as its first events. The events before them are in the logs of other members.
type Beginning struct {
	// Index and Term are those of the last entry of the consensus log before the history. They are 0 if
	// the log has all of its history, or if they are not known.
	Index, Term uint64
	Origin      string // the reason: segment.History.Origin; "" if it is not known
	Rows        uint64 // number of restored rows; they are the events 1 to Rows
	TimeMS      uint64 // clock of the last event before the history, Unix milliseconds; 0 if it is not known
}

// IsWhole reports whether the log has all of its history.
func (b Beginning) IsWhole() bool { return b.Index == 0 && b.Rows == 0 }

// NotKeptError is the error for a point before the beginning of the history.
type NotKeptError struct{ Beginning Beginning }

func (e *NotKeptError) Error() string {
	b := e.Beginning
	if b.Index == 0 {
		return fmt.Sprintf("%v: the history in this directory begins with %d restored rows", ErrNotKept, b.Rows)
	}
	text := fmt.Sprintf("%v: the history in this directory begins at raft index %d (term %d", ErrNotKept, b.Index, b.Term)
	if b.TimeMS > 0 && b.TimeMS <= checkpoint.MaxTimestampMS {
		text += time.UnixMilli(int64(b.TimeMS)).UTC().Format(", 2006-01-02T15:04:05.000Z")
	}
	return text + "). Another member of the group may have the events before that"
}

// Unwrap returns ErrNotKept.
func (e *NotKeptError) Unwrap() error { return ErrNotKept }

// Beginning returns the beginning of the history that the log keeps. It reads few segments, and only
// once.
func (r *Reader) Beginning() (Beginning, error) { return r.beginning() }

func (r *Reader) readBeginning() (b Beginning, err error) {
	h := r.dir.Manifest.History
	p, err := r.newPositions()
	if err != nil {
		return b, err
	}
	first, err := p.first()
	// If the first event is lost, it is not known if the history begins with a restored row.
	if err != nil || h == nil && !(first.restored && first.seq == 1) {
		return b, err
	}
	var d Digest
	hasDigest := false
	if h != nil {
		b = Beginning{Index: h.Index, Term: h.Term, Origin: h.Origin}
		if d, hasDigest, err = p.DigestBelow(h.Index); err != nil {
			return b, err
		}
		hasDigest = hasDigest && d.Index == h.Index
	}
	if hasDigest {
		b.Rows = d.Seq - 1
	} else if b.Rows, d, hasDigest, err = p.restoredRows(); err != nil { // the manifest or the digest is lost
		return b, err
	}
	if hasDigest {
		b.Index, b.Term, b.TimeMS = d.Index, d.Term, d.TimestampMS
	}
	return b, nil
}

// restoredRows returns the number of the last restored row, and the digest after it. It reads the
// segments that begin with a restored row.
func (p *Positions) restoredRows() (rows uint64, d Digest, hasDigest bool, err error) {
	for i := range p.names {
		isLast := false
		err := p.walk(i, func(h segment.Header, body []byte) bool {
			kind, _ := checkpoint.PeekKind(body)
			if isLast = kind != checkpoint.KindRestored; !isLast {
				rows = h.Seq
				return true
			}
			d, hasDigest = digestOf(h.Seq, body)
			return false
		})
		if err != nil || isLast {
			return rows, d, hasDigest && rows > 0, err
		}
	}
	return rows, d, false, nil
}

// Resolve returns the same point without a raft index. It returns a *NotKeptError if the point is
// before the beginning of the history that the log keeps, or within the restored rows with which it
// begins, and ErrNoPositions for a raft index in a log without them. A point before the first event
// has no number: Resolve returns it as it is.
func (r *Reader) Resolve(ctx context.Context, p Point) (Point, error) {
	if p == (Point{}) {
		return p, nil
	}
	b, err := r.Beginning()
	if err != nil || p.Index == 0 && b.IsWhole() {
		return p, err
	}
	last := uint64(math.MaxUint64)
	if p.Seq > 0 {
		last = p.Seq
	}
	if p.Index > 0 {
		seq, err := r.seqOf(p.Index)
		if err != nil {
			return p, err
		}
		if p.Index < b.Index {
			return p, &NotKeptError{b}
		}
		last = min(last, seq)
	}
	first := b.Rows // the lowest number of a point in the history
	if p.TimeMS > 0 && !b.IsWhole() {
		later, err := r.firstLater(ctx, Point{TimeMS: p.TimeMS})
		if err != nil {
			return p, err
		}
		if later > 0 && later-1 < last {
			last = later - 1
			if b.TimeMS > 0 {
				first++ // the digest has the clock of the beginning
			}
		}
	}
	switch {
	case last < first:
		return p, &NotKeptError{b}
	case p.Index == 0 || last == 0:
		return p, nil
	}
	return Point{Seq: last, TimeMS: p.TimeMS}, nil
}

func (r *Reader) seqOf(index uint64) (uint64, error) {
	positions, err := r.Positions()
	if err != nil {
		return 0, err
	}
	return positions.SeqOf(index)
}
