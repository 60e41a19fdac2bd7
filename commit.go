package migrationlog

import (
	"errors"
	"fmt"
	"iter"
	"sync"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/groupcommit"
	"migrationlog/projection"
)

// Receipt is the result of an acknowledged write. If a write appended only the event epoch_raised
// (see Epoch), its receipt is the same as if it had appended nothing.
type Receipt struct {
	Seq       uint64 // of the appended event, or of the existing row or begun abort for a Duplicate; 0: no row exists and nothing was appended
	Duplicate bool   // the row has the phase and the attempt of the write, or the abort has its list or step: the write was not appended
	Differs   bool   // the Duplicate has another payload than the row, or another reason than the abort, which stays as it is
}

// Appended reports whether the write appended its event.
func (r Receipt) Appended() bool { return r.Seq > 0 && !r.Duplicate }

// write is one queued write. The caller owns it before and after Queue.Do. The leader of its
// batch owns it in between.
type write struct {
	groupcommit.Call

	event   checkpoint.Event // nil for Upsert, because the change has the checkpoint
	change  projection.Change
	body    segment.Body
	options writeOptions
	entry   entryWrite

	receipt Receipt
	err     error
	bytes   []byte // the memory of body
	next    *write // the next write of the same call, committed in the same batch; nil: none
}

var writePool = sync.Pool{New: func() any { return new(write) }}

func newWrite(opts []WriteOption) *write {
	w := writePool.Get().(*write)
	w.options.apply(opts)
	return w
}

// A chain is the list of writes that one call queues at a time. These are its limits.
const (
	chainEvents = 1000
	chainBytes  = 256 << 10
)

// newChain encodes the first events into a linked list of writes. It stops after chainEvents
// events, or after the event that reaches chainBytes. If an event cannot be encoded, the chain ends
// before it and its error is returned. If the chain is empty, first is nil.
func newChain(events []checkpoint.Event, opts []WriteOption) (first *write, refused error) {
	end, sizeBytes := &first, 0
	for _, e := range events[:min(len(events), chainEvents)] {
		w := newWrite(opts)
		w.options.reproduces = !w.options.guarded()
		w.setEvent(e)
		if w.err == nil {
			w.err = w.checkOwner()
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

// setUpsert encodes the event of an upsert.
func (w *write) setUpsert(c checkpoint.Checkpoint) {
	w.change = projection.UpsertChange(c)
	body, err := checkpoint.AppendUpserted(w.bytes[:0], w.change.Checkpoint())
	w.setBody(body, err, w.options.epoch)
}

// setEvent encodes an event of any kind. The write must not be in a view yet.
func (w *write) setEvent(e checkpoint.Event) {
	body, err := checkpoint.AppendEvent(w.bytes[:0], e)
	if err == nil {
		err = checkpoint.CheckContentSize(e, len(body)) //mutant:content-size
	}
	if err == nil {
		w.event, w.change = e, projection.ChangeOf(e)
	}
	epoch := w.options.epoch
	if checkpoint.EpochOf(e) > 0 {
		epoch = 0 // the event has it already, see checkEpochs
	}
	w.setBody(body, err, epoch)
}

// checkOwner returns ErrInvalid for an event that only the store itself writes, and for a row with the
// id of the store's own events. A write that reproduces a history may have them.
func (w *write) checkOwner() error {
	if w.options.reproduces {
		return nil
	}
	switch e := w.event.(type) {
	case checkpoint.Digest, checkpoint.Restored:
		return fmt.Errorf("%w: only the store writes events of the kind %s", ErrInvalid, checkpoint.KindOf(e))
	}
	if c := w.change.Checkpoint(); c != nil && c.MigrationID == checkpoint.StoreID { //mutant:id-reserved
		return fmt.Errorf("%w: %w", ErrInvalid, checkpoint.CheckMigrationID(c.MigrationID))
	}
	return nil
}

// setBody takes an encoded event. It adds the epoch to it, unless the epoch is 0, and the position of
// an entry of Replica.Apply.
func (w *write) setBody(body []byte, err error, epoch uint64) {
	w.bytes = body
	switch {
	case err == nil:
		w.bytes = checkpoint.AppendEpoch(body, epoch)
		w.change.RaiseEpoch(epoch)
		if w.entry.task != noEntry {
			w.bytes = checkpoint.AppendPosition(w.bytes, w.entry.index, w.entry.term)
			w.change.SetIndex(w.entry.index)
		}
		w.body = segment.NewBody(w.bytes)
	case errors.Is(err, ErrTooLarge):
		w.err = err
	default:
		w.err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
}

// setEpochRaised replaces the event of a write that appends none.
func (w *write) setEpochRaised() {
	e := checkpoint.EpochRaised{MigrationID: w.change.Migration(), Epoch: w.options.epoch}
	if c := w.change.Checkpoint(); c != nil {
		e.TimestampMS = c.TimestampMS
	} else {
		e.TimestampMS = w.event.WallMS()
	}
	w.setEvent(e)
}

// release returns the write, its Call and its memory to the pool.
func (w *write) release() {
	*w = write{Call: w.Call, bytes: w.bytes[:0]}
	writePool.Put(w)
}

// commit queues a chain of writes and returns after their batch was committed. Each write then has
// a receipt or an error, unless an earlier write of the chain was refused.
func (s *Store) commit(w *write) {
	if s.queue.Do(w, w.next != nil) != nil {
		w.err = ErrClosed
	}
}

// commitBatch checks the writes of a batch, appends their events, and gives each write its receipt
// or error. The queue calls it on one goroutine at a time, so s.log, s.next and s.entries need no
// lock. If this batch is the first to fail, commitBatch returns a function that logs the failure.
// Otherwise it returns nil.
func (s *Store) commitBatch(batch []*write) (after func()) {
	s.watchCommit()
	entries := s.checkBatch(batch)
	appended, err := len(entries), s.append(entries)
	if s.member != nil {
		appended, err = appended-s.member.digests, s.finishEntries(batch, err)
	}
	failure := s.recordOutcome(batch, appended, err)
	// If the batch failed, the refused writes get its error too. They were checked against events
	// of this batch that may not be in the log.
	if err != nil {
		for w := range allWrites(batch) {
			w.receipt, w.err = Receipt{}, err
			w.entry.failure = err
		}
	}
	if failure == nil {
		return nil
	}
	return func() { s.logFailure(failure) }
}

// checkBatch decides, in order, which of the writes are appended, and adds them to the next view.
// Each write is checked against a view that already has the earlier writes of the batch. If a write
// is refused, the later writes of the same call are skipped. The entries of a Replica do not depend
// on each other, so all of them are checked.
func (s *Store) checkBatch(batch []*write) []eventlog.Entry {
	s.next.Begin(s.view.Load())
	s.entries = s.entries[:0]
	if s.member != nil {
		s.checkEntries(batch)
		return s.entries
	}
	for _, w := range batch {
		for ; w != nil; w = w.next {
			s.checkWrite(w)
			if w.err != nil { //mutant:refused-write-ends-call
				break
			}
		}
	}
	return s.entries
}

// checkWrite decides whether a write is appended, and adds it to the next view. The write then has a
// receipt or an error.
func (s *Store) checkWrite(w *write) {
	at, seq := s.next.Lookup(w.change.Migration()), s.nextSeq()
	var proceed bool
	w.receipt, proceed, w.err = w.check(at, s.next.Epoch())
	if proceed && w.options.ifFree {
		w.err = s.checkVShardFree(w)
	}
	raises := w.err == nil && !proceed && w.options.epoch > s.next.Epoch() //mutant:epoch-raised
	if raises {
		w.setEpochRaised()
	}
	if (proceed || raises) && w.err == nil {
		w.err = eventlog.CheckSeq(seq) //mutant:number-left
	}
	if w.err != nil {
		w.receipt = Receipt{}
		return
	}
	if !proceed && !raises {
		return
	}
	s.entries = append(s.entries, eventlog.Entry{PrevSeq: s.next.Add(at, seq, w.change), Body: w.body})
	if proceed { // otherwise the event is not the one of the receipt
		w.receipt.Seq = seq
	}
}

// nextSeq returns the seq of the next event of the batch that is being checked.
func (s *Store) nextSeq() uint64 { return s.log.NextSeq() + uint64(len(s.entries)) }

// append writes the entries, builds the next view while the device flushes them, and publishes the
// view after the sync.
func (s *Store) append(entries []eventlog.Entry) error {
	if len(entries) == 0 {
		return s.log.Health()
	}
	err := s.log.Write(entries)
	next := s.next.Fold()
	if err == nil {
		err = s.log.Sync()
	}
	if err == nil { //mutant:published-if-durable
		s.view.Store(next)
		s.snapshotWhenDue(next)
		s.summarizeWhenDue()
	}
	return err
}

// allWrites yields the writes of a batch's calls in order.
func allWrites(batch []*write) iter.Seq[*write] {
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

// recordOutcome adds a batch to the statistics. If the store had not failed before, it returns
// failure. Otherwise it returns nil.
func (s *Store) recordOutcome(batch []*write, appended int, failure error) (first error) {
	s.statsMu.Lock()
	if s.failed == nil {
		first = failure
	}
	s.failed = failure
	for w := range allWrites(batch) {
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

// logFailure logs a failure, if there is one. The log handler may call any method of the store. The
// caller must therefore hold no lock and must not be in commitBatch.
func (s *Store) logFailure(err error) {
	if err != nil {
		s.opts.Logger.Error("migrationlog has failed: nothing more is acknowledged until it is closed and opened again", "dir", s.dir, "error", err)
	}
}
