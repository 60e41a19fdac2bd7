package migrationlog

import (
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
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
	body    []byte
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
	err := s.append(entries)
	if err == nil {
		s.viewMu.Lock()
		change.Commit()
		s.viewMu.Unlock()
	}
	for _, w := range batch {
		if err != nil && w.err == nil {
			w.receipt, w.err = Receipt{}, err
		}
		s.count(w)
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
		if w.err = w.guard(row, exists); w.err != nil {
			continue
		}
		upsert, isUpsert := w.event.(checkpoint.Upserted)
		if !isUpsert && !exists {
			continue // nothing to abort or remove
		}
		if isUpsert && exists && sameStep(row.Checkpoint, upsert.Checkpoint) {
			w.receipt = Receipt{Duplicate: true, Differs: row.Checkpoint.Payload != upsert.Checkpoint.Payload}
			continue
		}
		prev := change.Add(seq, w.event)
		entries = append(entries, eventlog.Entry{PrevSeq: prev, Body: w.body})
		w.receipt.Seq = seq
		seq++
	}
	return entries, change
}

func sameStep(a, b checkpoint.Checkpoint) bool {
	return a.Phase() == b.Phase() && a.Attempt == b.Attempt
}

func (w *write) guard(row projection.Row, exists bool) error {
	for _, g := range w.options.guards {
		if err := g(row, exists, w); err != nil {
			return err
		}
	}
	return nil
}

func ifSeq(seq uint64, row projection.Row, exists bool, w *write) error {
	if row.Seq == seq {
		return nil
	}
	if !exists {
		return fmt.Errorf("%w: migration %s has no row, the write expected seq %d", ErrConflict, w.event.Migration(), seq)
	}
	return fmt.Errorf("%w: migration %s is at seq %d (%s, attempt %d), the write expected seq %d", ErrConflict,
		w.event.Migration(), row.Seq, row.Checkpoint.Phase(), row.Checkpoint.Attempt, seq)
}

func strict(row projection.Row, exists bool, w *write) error {
	upsert, isUpsert := w.event.(checkpoint.Upserted)
	if isUpsert && exists && sameStep(row.Checkpoint, upsert.Checkpoint) && row.Checkpoint.Payload != upsert.Checkpoint.Payload {
		return fmt.Errorf("%w: migration %s has %s, attempt %d, with another payload at seq %d", ErrConflict,
			w.event.Migration(), row.Checkpoint.Phase(), row.Checkpoint.Attempt, row.Seq)
	}
	return nil
}

// append makes the entries durable, and remembers when that failed.
func (s *Store) append(entries []eventlog.Entry) error {
	err := s.log.Health()
	if err == nil && len(entries) > 0 {
		err = s.log.Append(entries)
	}
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	if err != nil {
		if s.failed == nil {
			s.opts.Logger.Error("migrationlog has failed: nothing more is acknowledged until it is closed and opened again", "dir", s.dir, "error", err)
		}
		s.failed = err
		return err
	}
	if len(entries) > 0 {
		s.stats.Batches++
		s.stats.LastSeq = s.log.NextSeq() - 1
		s.stats.DurableThrough = s.log.DurableThrough()
	}
	return nil
}

func (s *Store) count(w *write) {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	switch {
	case w.err != nil:
		s.stats.Refused++
	case w.receipt.Duplicate:
		s.stats.Duplicates++
	case w.receipt.Seq != 0:
		s.stats.Appended++
	}
}
