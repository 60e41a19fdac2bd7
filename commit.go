package migrationlog

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

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
	change  projection.Change
	body    segment.Body
	options writeOptions

	receipt Receipt
	err     error
	told    chan verdict // holds one
	bytes   []byte       // what body lies in
	next    *write       // the one after it of the same call, decided with it; nil for none
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

// What one call hands to the queue at a time, at most.
const (
	chainEvents = 1000
	chainBytes  = 256 << 10
)

// newChain returns the first of as many events as go together, nil for none, and the error of
// the one after them, if it is that which ends them.
func newChain(events []checkpoint.Event, opts []WriteOption) (first *write, refused error) {
	end, sizeBytes := &first, 0
	for _, e := range events[:min(len(events), chainEvents)] {
		w := newWrite(opts)
		if upserted, ok := e.(checkpoint.Upserted); ok {
			w.upserts(upserted.Checkpoint)
		} else {
			w.ends(e)
		}
		if w.err != nil {
			refused = w.err
			w.release()
			return first, refused
		}
		*end, end = w, &w.next
		if sizeBytes += len(w.bytes); sizeBytes >= chainBytes {
			break
		}
	}
	return first, nil
}

func (w *write) upserts(c checkpoint.Checkpoint) {
	w.change = projection.Upserts(c)
	w.encoded(checkpoint.AppendUpserted(w.bytes, w.change.Checkpoint()))
}

// ends makes it an event after which its migration has no row.
func (w *write) ends(e checkpoint.Event) {
	if w.encoded(checkpoint.AppendEvent(w.bytes, e)); w.err == nil {
		w.change = projection.Ends(e.Migration())
	}
}

func (w *write) encoded(event []byte, err error) {
	w.bytes = event
	switch {
	case err == nil:
		w.body = segment.NewBody(event)
	case errors.Is(err, ErrTooLarge):
		w.err = err
	default:
		w.err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
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

// commit returns when the write has been decided, and those after it of the same call.
func (s *Store) commit(w *write) {
	batch, err := s.queue.join(w)
	if err != nil {
		w.err = err
		return
	}
	if batch == nil && <-w.told == leading {
		batch = s.queue.take()
	}
	if batch != nil {
		s.lead(batch, w)
	}
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
		for w := range each(batch) {
			w.receipt, w.err = Receipt{}, err
		}
	}
	return failure
}

// check decides, in order, which of the writes are to be appended, and adds them to the
// next view. Each is held against what that will be after the ones before it. A call's end
// with the first that is refused.
func (s *Store) check(batch []*write) []eventlog.Entry {
	s.next.Begin(s.view.Load())
	entries := s.entries[:0]
	seq := s.log.NextSeq()
	for _, w := range batch {
		for ; w != nil; w = w.next {
			at := s.next.Place(w.change.Migration())
			var proceed bool
			w.receipt, proceed, w.err = w.decide(at.Latest())
			if proceed && w.options.ifFree {
				w.err = s.isFree(w.change)
			}
			if proceed && w.err == nil {
				w.err = eventlog.CheckSeq(seq)
			}
			if w.err != nil {
				break
			}
			if !proceed {
				continue
			}
			entries = append(entries, eventlog.Entry{PrevSeq: s.next.Add(at, seq, w.change), Body: w.body})
			w.receipt.Seq = seq
			seq++
		}
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
	if c != nil && exists && latest.Phase() == c.Phase() && latest.Attempt == c.Attempt {
		duplicate := Receipt{Duplicate: true, Differs: latest.Payload != c.Payload}
		if duplicate.Differs && w.options.strict {
			return Receipt{}, false, fmt.Errorf("%w: migration %s has %s, attempt %d, with another payload at seq %d",
				ErrConflict, id, latest.Phase(), latest.Attempt, row.Seq)
		}
		if !w.options.confirm {
			return duplicate, false, nil
		}
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

// isFree returns an error where another migration of the vShard that an upsert is about has a
// row.
func (s *Store) isFree(c projection.Change) error {
	if c.Checkpoint() == nil {
		return nil
	}
	vshardID := c.Checkpoint().Payload.Shard()
	other, found := s.next.Other(vshardID, c.Migration())
	if !found {
		return nil
	}
	return fmt.Errorf("%w: vShard %d is moved by migration %s, which is at seq %d (%s, attempt %d)",
		ErrMigrationInProgress, vshardID, other.Checkpoint.MigrationID, other.Seq, other.Checkpoint.Phase(), other.Checkpoint.Attempt)
}

// each yields all writes of a batch's calls, in their order.
func each(batch []*write) iter.Seq[*write] {
	return func(yield func(*write) bool) {
		for _, w := range batch {
			for ; w != nil; w = w.next {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// note counts what became of a batch. It returns a failure that is the first.
func (s *Store) note(batch []*write, appended int, failure error) (first error) {
	s.statsMu.Lock()
	if s.failed == nil {
		first = failure
	}
	s.failed = failure
	for w := range each(batch) {
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
