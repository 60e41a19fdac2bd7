package migrationlog

import (
	"sync"
	"sync/atomic"
	"time"

	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// snapshots says when the next snapshot is due. One is written beside the writers when a
// segment has been begun, and at Close. A log that has lost events gets none: then the
// history is read at each opening, and tells what is in doubt.
type snapshots struct {
	segment uint64      // of the last event, 0 before there is one; the leader's
	writing atomic.Bool // who sets it has what follows
	next    time.Time   // not before
	seq     uint64      // of the last one
	done    sync.WaitGroup
}

// snapshotShare bounds the time that goes into snapshots while others write: one part
// in so many.
const snapshotShare = 50

// snapshotWhenDue begins to write a snapshot if the log has come to another segment,
// and the last one was long enough ago. The leader calls it.
func (s *Store) snapshotWhenDue(view *projection.View) {
	last, due := s.log.Last(), &s.snapshots
	first := due.segment == 0
	if last.Segment == due.segment {
		return
	}
	due.segment = last.Segment
	if first || !view.Complete() || !due.writing.CompareAndSwap(false, true) {
		return
	}
	if time.Now().Before(due.next) {
		due.writing.Store(false)
		return
	}
	due.done.Add(1)
	go func() {
		begun := time.Now()
		err := s.writeSnapshot(view, last)
		due.next = time.Now().Add(snapshotShare * time.Since(begun))
		due.writing.Store(false)
		due.done.Done()
		s.logSnapshot(err)
	}()
}

// snapshotAtEnd writes the last snapshot, when nobody writes any more.
func (s *Store) snapshotAtEnd() error {
	view, last := s.view.Load(), s.log.Last()
	if !view.Complete() || last.Seq != view.LastSeq() || last.Seq == s.snapshots.seq {
		return nil
	}
	return s.writeSnapshot(view, last)
}

// writeSnapshot writes a snapshot of a view whose last event is in that frame.
func (s *Store) writeSnapshot(view *projection.View, last segment.FrameID) error {
	body, err := view.Snapshot()
	if err == nil {
		err = s.log.SaveSnapshot(segment.Snapshot{Version: segment.SnapshotVersion, Last: last, Synced: !s.opts.NoSync, Body: body})
	}
	if err == nil {
		s.snapshots.seq = last.Seq
	}
	return err
}

// logSnapshot tells the logger that a snapshot could not be written. The log is as good
// without it. As with logFailure, its caller holds nothing that a handler may want.
func (s *Store) logSnapshot(err error) {
	if err != nil {
		s.opts.Logger.Warn("migrationlog's snapshot was not written: the next opening takes longer", "dir", s.dir, "error", err)
	}
}
