package migrationlog

import (
	"fmt"
	"runtime"
	"sync"

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
// until it is queued and after it is told.
type write struct {
	event   checkpoint.Event
	body    segment.Body
	options writeOptions

	receipt Receipt
	err     error
	told    chan verdict // holds one
	bytes   []byte       // what body lies in
}

// writes are to be used again.
var writes = sync.Pool{New: func() any { return &write{told: make(chan verdict, 1)} }}

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

// queue holds the writes that wait. Whoever comes when nobody leads becomes the
// leader, decides for all that wait at that moment, with one append and one sync,
// and makes the first of those that came meanwhile the next.
type queue struct {
	mu       sync.Mutex
	waiting  []*write
	spare    []*write // a batch's memory
	led      bool
	closed   bool
	rests    sync.Cond // nobody leads
	expected int       // how many writes there may soon be: whose callers were woken, and who waited then
}

// join queues a write and reports whether its caller leads.
func (q *queue) join(w *write) (leads bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, ErrClosed
	}
	q.waiting = append(q.waiting, w)
	leads = !q.led
	q.led = true
	return leads, nil
}

// take returns all writes that wait. The callers of the batch before have just been
// woken, and are about to write again: as long as more come, one sync may be for all
// of them.
func (q *queue) take() []*write {
	q.mu.Lock()
	defer q.mu.Unlock()
	for seen, yields := 0, 0; len(q.waiting) < q.expected && yields < patience; yields++ {
		if n := len(q.waiting); n > seen {
			seen, yields = n, 0
		}
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
	}
	batch := q.waiting
	q.waiting, q.spare = q.spare, nil
	return batch
}

// handOver ends a lead.
func (q *queue) handOver(woken int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expected = min(woken+len(q.waiting), worthWaiting)
	if len(q.waiting) > 0 {
		q.waiting[0].told <- leading
		return
	}
	q.led = false
	q.rests.Broadcast()
}

// giveBack takes a batch's memory when its writes are their callers' again.
func (q *queue) giveBack(batch []*write) {
	clear(batch)
	q.mu.Lock()
	q.spare = batch[:0]
	q.mu.Unlock()
}

// close ends the queue and waits until all in it are decided.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.led {
		q.rests.Wait()
	}
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

const (
	// worthWaiting is for how many writes a leader waits that may be about to come: of more,
	// enough have come while the device was busy.
	worthWaiting = 64
	// patience is how often a leader lets others go first until one more has come: about
	// 20 µs, where nobody else is to be let.
	patience = 100
)

// commit returns when the write has been decided.
func (s *Store) commit(w *write) (Receipt, error) {
	leads, err := s.queue.join(w)
	if err != nil {
		return Receipt{}, err
	}
	if leads || <-w.told == leading {
		s.lead(w)
	}
	return w.receipt, w.err
}

// lead decides all writes that wait, own among them. The next leader goes on while
// this one wakes the others.
func (s *Store) lead(own *write) {
	batch := s.queue.take()
	failure := s.decide(batch)
	for _, w := range batch {
		if w != own {
			w.told <- decided
		}
	}
	s.queue.handOver(len(batch))
	s.queue.giveBack(batch)
	s.logFailure(failure)
}

// decide appends and folds what is to be, and gives each write its receipt or error.
// One goroutine at a time runs it: its log and its next view are the leader's.
func (s *Store) decide(batch []*write) (failure error) {
	entries, next := s.check(batch)
	err := s.log.Health()
	if err == nil && len(entries) > 0 {
		err = s.log.Append(entries)
	}
	if err == nil && len(entries) > 0 {
		s.view.Store(next)
		s.snapshotWhenDue(next)
	}
	failure = s.note(batch, len(entries), err)
	if err != nil { // what was refused was held against events that may not exist
		for _, w := range batch {
			w.receipt, w.err = Receipt{}, err
		}
	}
	return failure
}

// check decides, in order, which of the writes are to be appended, and returns the
// view with them. Each is held against what the view will be after the ones before it.
func (s *Store) check(batch []*write) ([]eventlog.Entry, *projection.View) {
	next := s.view.Load().Begin()
	entries := s.entries[:0]
	seq := s.log.NextSeq()
	for _, w := range batch {
		at := next.Place(w.event.Migration())
		var proceed bool
		if w.receipt, proceed, w.err = w.decide(at.Latest()); !proceed {
			continue
		}
		entries = append(entries, eventlog.Entry{PrevSeq: at.Add(seq, w.event), Body: w.body})
		w.receipt.Seq = seq
		seq++
	}
	s.entries = entries
	return entries, next
}

// decide holds the write against its migration's latest row, nil for none, and reports
// whether it is to be appended.
func (w *write) decide(row *projection.Row) (r Receipt, proceed bool, err error) {
	exists := row != nil
	if !exists {
		row = &noRow
	}
	id, latest := w.event.Migration(), &row.Checkpoint
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
