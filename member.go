package migrationlog

import (
	"errors"
	"fmt"
	"sync/atomic"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// This file is the part of the commit path that only the store of a Replica has. It must not call a
// clock: the same entries give the same events on every member.

// digestInterval is the number of indexes between two digest events. It is a part of the format,
// because all members must have digest events at the same indexes.
const digestInterval = 1024

// maxAbortBytes is the maximum length of a replicated abort_begun event. The row's restored event
// has the abort too, and the facts, and must fit into checkpoint.MaxEventBytes.
const maxAbortBytes = 60 << 10

// member is the position of a replicated Store in the log of the consensus engine.
type member struct {
	relaxedSync bool
	published   atomic.Pointer[applied] // of all entries whose batch was committed
	durable     atomic.Uint64           // index of the last durable event

	// Only the leader of the queue uses these.
	next    applied // with the entries of the batch that is being committed
	digests int     // digest events in that batch
	failure error   // no entry is applied after it; the log can also fail
	memory  []byte  // for the encoded rows
}

// applied is the position after an entry, with the digests. It does not change after its
// publication.
type applied struct {
	view        *projection.View
	index, term uint64 // of the last applied entry
	eventIndex  uint64 // of the last event in the log
	digestIndex uint64 // of the last digest event in the log
	timestampMS uint64 // of the last event that an entry appended
	chain       [32]byte
	rows        rowSum
}

// entryTask selects the work of the commit path for a write of a Replica.
type entryTask uint8

const (
	noEntry     entryTask = iota // the write is not from a Replica
	appendEvent                  // append the event of an entry, unless a check refuses it
	advance                      // the entry has no event
	makeDurable                  // no entry: make all events durable
	recordNow                    // no entry: the same, and append a digest event if the last event is older
)

// entryWrite is the part of a write that comes from a Replica. It is zero in other writes.
type entryWrite struct {
	task        entryTask
	index, term uint64 // of the entry
	timestampMS uint64 // of the event

	skipped   bool
	lastIndex uint64 // see Applied.Index
	failure   error  // of the batch
}

// newMember returns the position of a log that was opened.
func newMember(at applied, relaxedSync bool) *member {
	m := &member{relaxedSync: relaxedSync}
	m.published.Store(&at)
	m.durable.Store(at.eventIndex)
	return m
}

// checkEntries decides which entries of a batch append an event, in the order of their indexes.
func (s *Store) checkEntries(batch []*write) {
	m := s.member
	m.next, m.digests = *m.published.Load(), 0
	if err := m.next.rows.base.peek(); err != nil && m.failure == nil {
		m.failure = err
	}
	for w := range allWrites(batch) {
		if m.failure != nil {
			break
		}
		s.checkEntry(w)
	}
	if m.failure != nil {
		s.next.Fold()
		s.entries = s.entries[:0]
	}
}

// checkEntry carries out the task of a write, up to the events that it appends.
func (s *Store) checkEntry(w *write) {
	m, e := s.member, &w.entry
	switch e.task {
	case makeDurable:
		return
	case recordNow:
		if m.next.eventIndex < m.next.index { //mutant:applied-index-recorded
			s.appendDigest(m.next.index)
		}
		return
	}
	if e.index <= m.next.index { //mutant:applied-entry-skipped
		e.skipped, w.err = true, nil
		return
	}
	// The last index before the next multiple of digestInterval.
	end := m.next.index | (digestInterval - 1)
	if m.next.index > 0 && e.index > end && m.next.digestIndex < end { //mutant:digest-once
		s.appendDigest(end)
	}
	if e.task == appendEvent && w.err == nil && m.failure == nil {
		s.checkEntryEvent(w)
	}
	m.next.index, m.next.term = e.index, e.term
}

// checkEntryEvent appends the event of an entry, unless a check refuses it.
func (s *Store) checkEntryEvent(w *write) {
	m, e, before := s.member, &w.entry, len(s.entries)
	s.checkWrite(w)
	appended := len(s.entries) > before
	switch {
	case errors.Is(w.err, ErrNeedsRepair): // only this member has no number left, so it must stop
		m.failure = w.err
	case appended:
		m.next.chain = checkpoint.NextChain(m.next.chain, w.bytes)
		m.next.eventIndex, m.next.timestampMS = e.index, e.timestampMS
	}
	switch {
	case w.receipt.Seq == 0 && !w.receipt.Duplicate: // refused, or the end of a migration without a row
	case appended:
		e.lastIndex = e.index
	default:
		e.lastIndex = s.next.Lookup(w.change.Migration()).LastIndex()
	}
}

// appendDigest adds a digest event with the state and the history before the next entry.
func (s *Store) appendDigest(index uint64) {
	m, seq := s.member, s.nextSeq()
	s.next.ApplyAdded() // so that m.next.rows has all events
	d := m.next.digest(s.next.Epoch())
	event := checkpoint.Digest{State: d.State, Chain: d.Chain, TimestampMS: m.next.timestampMS, Epoch: s.next.Epoch()}
	body, err := encodeAt(event, index, m.next.term)
	if err == nil {
		err = eventlog.CheckSeq(seq)
	}
	if err != nil {
		m.failure = err
		return
	}
	change := projection.ChangeOf(event)
	change.SetIndex(index)
	at := s.next.Lookup(checkpoint.StoreID)
	s.entries = append(s.entries, eventlog.Entry{PrevSeq: s.next.Add(at, seq, change), Body: segment.NewBody(body)})
	m.next.eventIndex, m.next.digestIndex = index, index
	m.digests++
}

// encodeAt encodes an event with its position in the log of the consensus engine.
func encodeAt(e checkpoint.Event, index, term uint64) ([]byte, error) {
	body, err := checkpoint.EncodeEvent(e)
	if err != nil {
		return nil, err
	}
	return checkpoint.AppendPosition(body, index, term), nil
}

// changeRow updates the sum of the row hashes. The batch calls it for each event that it applies.
func (m *member) changeRow(before, after projection.Slot) {
	if b := appendRestored(m.memory[:0], before); b != nil {
		m.memory = b
		m.next.rows.remove(b)
	}
	if b := appendRestored(m.memory[:0], after); b != nil {
		m.memory = b
		m.next.rows.add(b)
	}
}

// finishEntries publishes the position after a batch, and makes it durable if a write of the batch
// requires it. err is the error of the batch so far. finishEntries returns the error of the batch.
func (s *Store) finishEntries(batch []*write, err error) error {
	m := s.member
	if m.failure != nil {
		return fmt.Errorf("%w: %w", ErrFailed, m.failure)
	}
	if err != nil {
		return err
	}
	synced := !m.relaxedSync
	for w := range allWrites(batch) {
		if task := w.entry.task; task == makeDurable || task == recordNow {
			if err := s.log.MakeDurable(); err != nil { //mutant:record-durable
				return err
			}
			synced = true
			break
		}
	}
	at := m.next
	at.view = s.view.Load()
	m.published.Store(&at)
	if synced {
		m.durable.Store(at.eventIndex)
	}
	return nil
}
