package migrationlog

import (
	"errors"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/internal/detcbor"
	"migrationlog/projection"
)

// This file turns the entries of Replica.Apply into writes. If an entry is refused here, every
// member refuses it, because the reasons depend only on the entry.

// maxOpaqueKeys is the maximum number of keys of an opaque event. The store adds two.
const maxOpaqueKeys = 21

// newEntryChain returns a list of writes, one for each entry.
func newEntryChain(entries []Entry) (first *write) {
	end := &first
	for i := range entries {
		w := newEntryWrite(&entries[i])
		*end, end = w, &w.next
	}
	return first
}

// newEntryWrite returns the write of an entry. If the entry is invalid, the write has an error.
func newEntryWrite(e *Entry) *write {
	w := newWrite(e.Options)
	w.entry = entryWrite{task: appendEvent, index: e.Index, term: e.Term}
	w.options.replicated = true
	switch {
	case e.Event != nil && e.Opaque != nil:
		w.err = fmt.Errorf("%w: the entry has both Event and Opaque: set only one of them", ErrInvalid)
	case e.Event != nil:
		w.setEntryEvent(e.Event)
	case e.Opaque != nil:
		w.setOpaque(e.Opaque)
	default:
		w.entry.task = advance
	}
	return w
}

// setEntryEvent checks the event and the options of an entry, and encodes the event.
func (w *write) setEntryEvent(e checkpoint.Event) {
	kind := checkpoint.KindOf(e)
	if kind > 0 { // otherwise setEvent returns the error
		w.err = w.checkEntry(uint64(kind), e.WallMS(), checkpoint.EpochOf(e))
	}
	if w.err == nil {
		w.setEvent(e)
	}
	if w.err == nil {
		w.err = w.checkOwner()
	}
	if kind == checkpoint.KindAbortBegun && w.err == nil && len(w.bytes) > maxAbortBytes { //mutant:abort-fits-a-row
		w.err = fmt.Errorf("%w: migration %s: the encoded abort_begun has %d bytes, and in a replicated store at most %d are allowed: shorten the reason or the compensations",
			ErrTooLarge, e.Migration(), len(w.bytes), maxAbortBytes)
	}
}

// setOpaque takes an encoded event of an unknown kind.
func (w *write) setOpaque(b []byte) {
	var unknown *checkpoint.UnknownKindError
	if _, err := checkpoint.DecodeEvent(b); !errors.As(err, &unknown) {
		w.err = fmt.Errorf("%w: Opaque is not an event of an unknown kind: pass an event of a known kind as Event", errors.Join(ErrInvalid, err))
		return
	}
	index, term, ok := checkpoint.PeekPosition(b)
	if !ok || index > 0 || term > 0 || b[0] > detcbor.MajorMap|maxOpaqueKeys {
		w.err = fmt.Errorf("%w: the opaque event of kind %d has a position already, or is not in the deterministic encoding with at most %d keys",
			ErrInvalid, unknown.Kind, maxOpaqueKeys)
		return
	}
	if len(b) > checkpoint.MaxContentBytes {
		w.err = fmt.Errorf("%w: migration %s: %d bytes encoded, at most %d", ErrTooLarge, unknown.MigrationID, len(b), checkpoint.MaxContentBytes)
		return
	}
	if w.options.hasEpoch && w.options.epoch != unknown.Epoch {
		w.err = fmt.Errorf("%w: option Epoch has epoch %d, and the opaque event has %d", ErrInvalid, w.options.epoch, unknown.Epoch)
		return
	}
	if w.err = w.checkEntry(unknown.Kind, unknown.TimestampMS, unknown.Epoch); w.err == nil {
		w.change = projection.UnknownChange(unknown.MigrationID)
		w.change.RaiseEpoch(unknown.Epoch)
		w.setBody(append(w.bytes[:0], b...), nil, 0)
		w.err = w.checkOwner()
	}
}

// checkEntry returns ErrInvalid if an option does not apply to the event, or if the event may not
// be in an entry. If the event has an epoch, it makes the write fenced.
func (w *write) checkEntry(kind, timestampMS, epoch uint64) error {
	o := &w.options
	if epoch > 0 {
		if o.hasEpoch && o.epoch != epoch {
			return fmt.Errorf("%w: option Epoch has epoch %d, and the event has epoch %d", ErrInvalid, o.epoch, epoch)
		}
		o.epoch, o.hasEpoch = epoch, true //mutant:epoch-of-event-fences
	}
	w.entry.timestampMS = timestampMS
	if err := checkTimestamp(timestampMS); err != nil {
		return err
	}
	if kind == uint64(checkpoint.KindUpserted) {
		return o.checkUpsert()
	}
	return o.checkEventOptions(fmt.Sprintf("an event of kind %d", kind))
}

// commitError returns the error of the batch, or nil. A refused entry is not an error of the batch.
func (w *write) commitError() error {
	if w.entry.failure == nil && errors.Is(w.err, ErrClosed) {
		return ErrClosed
	}
	return w.entry.failure
}
