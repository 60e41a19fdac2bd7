package migrationlog

import (
	"errors"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// readApplied returns the position of a log that is being opened. It returns an *UnfitError if the
// log has lost events, and ErrInvalid if it has events that do not come from a consensus engine.
func readApplied(recovery *eventlog.Recovery, fold *replay.Fold) (applied, error) {
	view, dir := fold.View, recovery.Dir()
	if view.HasUnresolvedLosses() { //mutant:unfit-after-loss
		report := fold.Report()
		return applied{}, newUnfitError(dir, report, "its log has lost "+eventCount(report.LostCount()))
	}
	last := view.LastSeq()
	r := positionReader{next: 1}
	if last > digestInterval {
		r.next = last - digestInterval
	}
	r.knowsChain = r.next == 1
	scan := segment.NewScan(recovery.FS(), recovery.Directory(), segment.ScanOptions{From: r.next, Locked: true})
	for item, err := range scan.Items() {
		if err != nil {
			return applied{}, fmt.Errorf("read %s: %w", dir, err)
		}
		if item.Damage != nil || item.Frame.Seq < r.next {
			continue
		}
		if item.Frame.Seq > r.next {
			break
		}
		if index, _ := checkpoint.PositionOf(item.Frame.Body); index == 0 {
			return applied{}, noIndexError(dir, item.Frame.Seq)
		}
		if err := r.add(item.Frame.Body); err != nil {
			return applied{}, fmt.Errorf("%s: event %d: %w", dir, item.Frame.Seq, err)
		}
	}
	switch {
	case r.next != last+1:
		return applied{}, newUnfitError(dir, fold.Report(), fmt.Sprintf("its log does not have event %d, which is needed for the digest of the history", r.next))
	case !r.knowsChain:
		return applied{}, newUnfitError(dir, fold.Report(), fmt.Sprintf("the last %d events of its log have no digest", digestInterval))
	}
	r.at.view, r.at.rows = view, newRowSum(view, r.recorded)
	return r.at, nil
}

// eventCount returns a number of events for a message.
func eventCount(n uint64) string {
	if n == 1 {
		return "1 event"
	}
	return fmt.Sprintf("%d events", n)
}

// noIndexError is the error for an event that does not come from a consensus engine.
func noIndexError(dir string, seq uint64) error {
	return fmt.Errorf("%w: %s: event %d has no index of a consensus engine, so another program has written it: restore the member from the group in another directory", ErrInvalid, dir, seq)
}

// readRemaining returns the position of a log that has lost events, with the rows that are left.
// Its index is the highest one of an intact event. The chained digest begins again.
func readRemaining(recovery *eventlog.Recovery, fold *replay.Fold) (applied, error) {
	at := applied{view: fold.View, rows: newRowSum(fold.View, nil)}
	if h := recovery.Directory().Manifest.History; h != nil {
		at.index, at.term = h.Index, h.Term
	}
	for item, err := range recovery.Scan(segment.ScanAll) {
		if err != nil {
			return applied{}, fmt.Errorf("read %s: %w", recovery.Dir(), err)
		}
		if item.Damage != nil {
			continue
		}
		record := replay.Decode(item)
		if record.Damage == nil && record.RaftIndex == 0 {
			return applied{}, noIndexError(recovery.Dir(), record.Seq)
		}
		if record.RaftTerm > 0 { // not a restored row, which belongs to the beginning of the history
			at.timestampMS = record.WallMS()
			if record.RaftIndex > at.index {
				at.index, at.term = record.RaftIndex, record.RaftTerm
			}
		}
	}
	return at, nil
}

// positionReader reads the last events of a log, from the last digest event on. All members write a
// digest event at least every digestInterval events.
type positionReader struct {
	at         applied
	next       uint64    // seq of the next event
	knowsChain bool      // a digest event was read, or the log was read from its first event
	recorded   *[32]byte // the state digest, if the last event is a digest event
}

// add reads an event.
func (r *positionReader) add(body []byte) error {
	r.next++
	index, term := checkpoint.PositionOf(body)
	event, err := checkpoint.DecodeEvent(body)
	var unknown *checkpoint.UnknownKindError
	switch e := event.(type) {
	case checkpoint.Restored: // the digest event after the restored rows has their position
		return nil
	case checkpoint.Digest:
		r.at.chain, r.knowsChain, r.recorded = e.Chain, true, &e.State
		r.at.digestIndex, r.at.timestampMS = index, e.TimestampMS
	case nil:
		if !errors.As(err, &unknown) {
			return err
		}
		r.addToChain(body, unknown.TimestampMS)
	default:
		r.addToChain(body, e.WallMS())
	}
	if index < r.at.index {
		return fmt.Errorf("%w: the event has index %d, after one with index %d", ErrInvalid, index, r.at.index)
	}
	r.at.index, r.at.term, r.at.eventIndex = index, term, index
	return nil
}

func (r *positionReader) addToChain(body []byte, timestampMS uint64) {
	r.at.chain, r.at.timestampMS, r.recorded = checkpoint.NextChain(r.at.chain, body), timestampMS, nil
}
