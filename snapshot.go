package migrationlog

import (
	"sync"
	"sync/atomic"

	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// snapshots says when the next snapshot is due. One is written when a segment is begun,
// beside the writers, and at Close. A log that has lost events gets none: then the
// history is read at each opening, and tells what is in doubt.
type snapshots struct {
	// The leader's.
	segment uint64 // of the last event; 0 before there is one
	grown   int64  // bytes, at least, by which the log has grown since the last snapshot

	writing   atomic.Bool
	seq       atomic.Uint64 // of the last one
	sizeBytes atomic.Int64
	done      sync.WaitGroup
}

// snapshotWhenDue begins to write a snapshot if the log has grown by a segment, and
// by as much as the last snapshot was large. The leader calls it.
func (s *Store) snapshotWhenDue(view *projection.View) {
	last, due := s.log.Last(), &s.snapshots
	if first := due.segment == 0; first || last.Segment == due.segment {
		due.segment = last.Segment
		return
	}
	due.segment = last.Segment
	due.grown += int64(s.opts.SegmentSize)
	if !view.Whole() || due.grown < due.sizeBytes.Load() || !due.writing.CompareAndSwap(false, true) {
		return
	}
	due.grown = 0
	due.done.Go(func() {
		s.writeSnapshot(view, last)
		due.writing.Store(false)
	})
}

// snapshotAtEnd writes the last snapshot, when nobody writes any more.
func (s *Store) snapshotAtEnd() {
	s.snapshots.done.Wait()
	view, last := s.view.Load(), s.log.Last()
	if view.Whole() && last.Seq == view.LastSeq() && last.Seq != s.snapshots.seq.Load() {
		s.writeSnapshot(view, last)
	}
}

// writeSnapshot writes a snapshot of a view whose last event is in that frame. One
// that cannot be written is told to the logger; the log is as good without it.
func (s *Store) writeSnapshot(view *projection.View, last segment.FrameID) {
	body, err := view.Snapshot()
	if err == nil {
		err = s.log.SaveSnapshot(segment.Snapshot{Last: last, Body: body})
	}
	if err != nil {
		s.opts.Logger.Warn("migrationlog's snapshot was not written: the next opening takes longer", "dir", s.dir, "error", err)
		return
	}
	s.snapshots.seq.Store(last.Seq)
	s.snapshots.sizeBytes.Store(int64(len(body)))
}
