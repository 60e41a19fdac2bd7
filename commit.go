package migrationlog

import (
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Receipt says what became of an acknowledged write.
type Receipt struct {
	Seq       uint64 // the event's number; 0: nothing was appended
	Duplicate bool   // the latest row has this phase and attempt already
	Differs   bool   // a duplicate with another payload than that row: it was not written
}

// write is one call on its way through the commit queue. Its caller owns it
// until it is queued and after done is closed.
type write struct {
	event   checkpoint.Event
	body    segment.Body
	options writeOptions

	receipt Receipt
	err     error
	done    chan struct{}
}

// commit queues a write and returns when it has been decided. Whoever of the
// waiting callers gets s.lead decides for all that wait at that moment, with one
// append and one sync.
func (s *Store) commit(w *write) (Receipt, error) {
	w.done = make(chan struct{})
	s.queueMu.Lock()
	if s.closed {
		s.queueMu.Unlock()
		return Receipt{}, ErrClosed
	}
	s.queue = append(s.queue, w)
	s.queueMu.Unlock()

	select {
	case <-w.done:
	case s.lead <- struct{}{}:
		s.commitQueue()
		<-s.lead
		<-w.done
	}
	return w.receipt, w.err
}

// commitQueue decides all writes that wait. Its caller holds s.lead, and with it
// the log and the right to change the view.
func (s *Store) commitQueue() {
	s.queueMu.Lock()
	batch := s.queue
	s.queue = nil
	s.queueMu.Unlock()

	entries, change := s.check(batch)
	err := s.log.Health()
	if err == nil && len(entries) > 0 {
		err = s.log.Append(entries)
	}
	if err == nil {
		s.viewMu.Lock()
		change.Commit()
		s.viewMu.Unlock()
	}
	s.note(batch, len(entries), err)
	for _, w := range batch {
		if err != nil { // what was refused was held against events that may not exist
			w.receipt, w.err = Receipt{}, err
		}
		close(w.done)
	}
}

// check decides, in order, which of the writes are to be appended. Each is held
// against what the view will be after the ones before it.
func (s *Store) check(batch []*write) ([]eventlog.Entry, *projection.Change) {
	change := s.view.Begin()
	var entries []eventlog.Entry
	seq := s.log.NextSeq()
	for _, w := range batch {
		row, exists := change.Get(w.event.Migration())
		var proceed bool
		if w.receipt, proceed, w.err = w.decide(row, exists); !proceed {
			continue
		}
		prev := change.Add(seq, w.event)
		entries = append(entries, eventlog.Entry{PrevSeq: prev, Body: w.body})
		w.receipt.Seq = seq
		seq++
	}
	return entries, change
}

// decide holds the write against its migration's latest row and reports whether
// it is to be appended.
func (w *write) decide(row projection.Row, exists bool) (r Receipt, proceed bool, err error) {
	id, latest := w.event.Migration(), row.Checkpoint
	upsert, isUpsert := w.event.(checkpoint.Upserted)
	if c := upsert.Checkpoint; isUpsert && exists && !w.options.confirm && latest.Phase() == c.Phase() && latest.Attempt == c.Attempt {
		r = Receipt{Duplicate: true, Differs: latest.Payload != c.Payload}
		if r.Differs && w.options.strict {
			return Receipt{}, false, fmt.Errorf("%w: migration %s has %s, attempt %d, with another payload at seq %d",
				ErrConflict, id, latest.Phase(), latest.Attempt, row.Seq)
		}
		return r, false, nil
	}
	if want := w.options.ifSeq; want != nil && *want != row.Seq {
		if !exists {
			return r, false, fmt.Errorf("%w: migration %s has no row, the write expects seq %d", ErrConflict, id, *want)
		}
		return r, false, fmt.Errorf("%w: migration %s is at seq %d (%s, attempt %d), the write expects seq %d",
			ErrConflict, id, row.Seq, latest.Phase(), latest.Attempt, *want)
	}
	return r, isUpsert || exists || w.options.confirm, nil // else there is nothing to abort or remove
}

// note counts what became of a batch and, once, tells the logger of a failure.
func (s *Store) note(batch []*write, appended int, failure error) {
	s.statsMu.Lock()
	isNew := failure != nil && s.failed == nil
	s.failed = failure
	for _, w := range batch {
		switch {
		case failure != nil, w.err != nil:
			s.stats.Refused++
		case w.receipt.Duplicate:
			s.stats.Duplicates++
		}
	}
	if failure == nil {
		if appended > 0 {
			s.stats.Appended += uint64(appended)
			s.stats.Batches++
		}
		s.stats.LastSeq = s.log.NextSeq() - 1
		s.stats.DurableThrough = max(s.stats.DurableThrough, s.log.DurableThrough())
	}
	s.statsMu.Unlock()
	if isNew { // outside the lock: a handler may ask the store how it is
		s.opts.Logger.Error("migrationlog has failed: nothing more is acknowledged until it is closed and opened again", "dir", s.dir, "error", failure)
	}
}
