package migrationlog

import (
	"fmt"
	"sync"
	"time"

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
// until it is queued and after it is told.
type write struct {
	change  projection.Change
	body    segment.Body
	options writeOptions

	receipt Receipt
	err     error
	told    chan verdict // holds one
	bytes   []byte       // what body lies in
}

// writes are to be used again.
var writes = sync.Pool{New: func() any { return &write{told: make(chan verdict, 1)} }}

func newWrite(opts []WriteOption) *write {
	w := writes.Get().(*write)
	for _, opt := range opts {
		opt(&w.options)
	}
	return w
}

// release makes what the write has taken free for another.
func (w *write) release() {
	*w = write{told: w.told, bytes: w.bytes[:0]}
	writes.Put(w)
}

// verdict is what the caller of a queued write waits for.
type verdict bool

const (
	decided verdict = false // the write has its receipt or its error
	leading verdict = true  // its caller decides for all that wait
)

// commit returns when the write has been decided.
func (s *Store) commit(w *write) (Receipt, error) {
	batch, err := s.queue.join(w)
	if err != nil {
		return Receipt{}, err
	}
	if batch == nil && <-w.told == leading {
		batch = s.queue.take()
	}
	if batch != nil {
		s.lead(batch, w)
	}
	return w.receipt, w.err
}

// lead decides a batch, own among it, and wakes the callers of the others: first whoever
// decides the next batch. Where that gathers, who outwaits it comes last but one: goroutines
// go on in the order in which they were woken, but for the last, which goes on at once; so
// it finds their next writes there.
func (s *Store) lead(batch []*write, own *write) {
	begun := time.Now()
	failure := s.decide(batch)
	took := time.Since(begun)
	next, gathers, round := s.queue.end(len(batch))
	if next != nil {
		next.told <- leading
	}
	for i, w := range batch {
		if gathers && i == len(batch)-1 {
			go s.outwait(round, took)
		}
		if w != own {
			w.told <- decided
		}
	}
	s.queue.giveBack(batch)
	s.logFailure(failure)
}

func (s *Store) outwait(round uint64, took time.Duration) {
	if next := s.queue.outwait(round, took); next != nil {
		next.told <- leading
	}
}

// decide appends and folds what is to be, and gives each write its receipt or error.
// One goroutine at a time runs it: its log and its next view are the leader's.
func (s *Store) decide(batch []*write) (failure error) {
	entries := s.check(batch)
	err := s.append(entries)
	failure = s.note(batch, len(entries), err)
	if err != nil { // what was refused was held against events that may not exist
		for _, w := range batch {
			w.receipt, w.err = Receipt{}, err
		}
	}
	return failure
}

// check decides, in order, which of the writes are to be appended, and adds them to the
// next view. Each is held against what that will be after the ones before it.
func (s *Store) check(batch []*write) []eventlog.Entry {
	s.next.Begin(s.view.Load())
	entries := s.entries[:0]
	seq := s.log.NextSeq()
	for _, w := range batch {
		at := s.next.Place(w.change.Migration())
		var proceed bool
		if w.receipt, proceed, w.err = w.decide(at.Latest()); !proceed {
			continue
		}
		entries = append(entries, eventlog.Entry{PrevSeq: s.next.Add(at, seq, w.change), Body: w.body})
		w.receipt.Seq = seq
		seq++
	}
	s.entries = entries
	return entries
}

// append writes the entries, folds them, during which the device may have begun with them, and
// shows the next view when they are durable.
func (s *Store) append(entries []eventlog.Entry) error {
	if len(entries) == 0 {
		return s.log.Health()
	}
	err := s.log.Write(entries)
	next := s.next.Fold()
	if err == nil {
		err = s.log.Sync()
	}
	if err == nil {
		s.view.Store(next)
		s.snapshotWhenDue(next)
	}
	return err
}

// decide holds the write against its migration's latest row, nil for none, and reports
// whether it is to be appended.
func (w *write) decide(row *projection.Row) (r Receipt, proceed bool, err error) {
	exists := row != nil
	if !exists {
		row = &noRow
	}
	id, latest, c := w.change.Migration(), &row.Checkpoint, w.change.Checkpoint()
	if c != nil && exists && !w.options.confirm && latest.Phase() == c.Phase() && latest.Attempt == c.Attempt {
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
	return r, c != nil || exists || w.options.confirm, nil // else there is nothing to abort or remove
}

var noRow projection.Row

// note counts what became of a batch. It returns a failure that is the first.
func (s *Store) note(batch []*write, appended int, failure error) (first error) {
	s.statsMu.Lock()
	if s.failed == nil {
		first = failure
	}
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
	return first
}

// logFailure tells the logger. Its caller holds nothing that a handler may want.
func (s *Store) logFailure(err error) {
	if err != nil {
		s.opts.Logger.Error("migrationlog has failed: nothing more is acknowledged until it is closed and opened again", "dir", s.dir, "error", err)
	}
}
