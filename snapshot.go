package migrationlog

import (
	"sync"
	"sync/atomic"
	"time"

	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// snapshots decides when the next snapshot is due. The store writes one in the background after a
// new segment was started, and one in Close. If the log has lost events that no snapshot covers, it
// writes none. Each Open then reads the whole log, so that the doubt stays visible.
type snapshots struct {
	segment uint64        // segment of the last event, 0 before the first event; only the leader uses it
	writing atomic.Bool   // held while a snapshot is written; guards the fields after it
	ended   time.Time     // when the newest snapshot was written
	took    time.Duration // how long that took
	seq     uint64        // last event of the newest snapshot
	done    sync.WaitGroup
}

// pausePerSnapshot limits the cost of background snapshots. After one, the store waits for at least
// this many times the time that it took. If many events were written since, pauseAfterGap applies.
// Readers need a snapshot there to rebuild an earlier state in less than a second.
const (
	pausePerSnapshot = 50
	pauseAfterGap    = 10
)

// snapshotWhenDue starts to write a snapshot if the log has started another segment and the pause
// after the last snapshot is over. Only the leader calls it.
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
	pause := time.Duration(pausePerSnapshot)
	if last.Seq-due.seq > eventlog.SnapshotGapEvents {
		pause = pauseAfterGap
	}
	if time.Since(due.ended) < pause*due.took {
		due.writing.Store(false)
		return
	}
	due.done.Add(1)
	go func() {
		started := time.Now()
		err := s.writeSnapshot(view, last)
		due.ended, due.took = time.Now(), time.Since(started)
		due.writing.Store(false)
		due.done.Done()
		s.logSnapshot(err)
	}()
}

// snapshotAtEnd writes a snapshot of the last event, unless there is one. The queue must be closed.
func (s *Store) snapshotAtEnd() error {
	view, last := s.view.Load(), s.log.Last()
	if !view.Complete() || last.Seq != view.LastSeq() || last.Seq == s.snapshots.seq {
		return nil
	}
	return s.writeSnapshot(view, last)
}

// writeSnapshot writes a snapshot of the view. Last is the frame of the view's last event.
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

// logSnapshot logs a snapshot's error, if there is one. The log does not need the snapshot. As for
// logFailure, the caller must hold no lock and must not be in commitBatch.
func (s *Store) logSnapshot(err error) {
	if err != nil {
		s.opts.Logger.Warn("migrationlog could not write a snapshot: the next Open reads more of the log and takes longer", "dir", s.dir, "error", err)
	}
}
