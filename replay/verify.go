package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/intact"
	"migrationlog/projection"
)

// Verify reads every frame and every snapshot of the log, and reports all damage. It returns an I/O
// error or ctx's error.
func (r *Reader) Verify(ctx context.Context) (Report, error) {
	v, err := r.VerifyAll(ctx, nil)
	return v.Report, err
}

// FoldAll returns the fold at the end of the history, as FoldTo does for a zero Point, but in less
// time if the log is intact. It calls progress, unless that is nil, with the number of events that
// were read so far. It returns the same errors as FoldTo.
//
// An intact log is read in parallel, and only the events that the rows need are decoded. At the
// first irregularity FoldAll begins again and folds every record. Both ways lead to the same report.
func (r *Reader) FoldAll(ctx context.Context, progress func(events uint64)) (*Fold, error) {
	return r.foldAll(ctx, progress, func(*projection.View) {})
}

// foldAll is FoldAll. It calls prepare with the view before it folds every record into it.
func (r *Reader) foldAll(ctx context.Context, progress func(events uint64), prepare func(*projection.View)) (*Fold, error) {
	if progress == nil {
		progress = func(uint64) {}
	}
	fold, err := r.foldIntact(ctx, progress)
	if err == nil {
		return fold, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r.foldEach(ctx, progress, prepare)
}

// progressEvents is the number of events after which foldEach calls progress.
const progressEvents = 4096

// foldEach folds every record.
func (r *Reader) foldEach(ctx context.Context, progress func(events uint64), prepare func(*projection.View)) (*Fold, error) {
	fold := r.NewFold()
	prepare(fold.View)
	var n uint64
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{})
	for rec, err := range ReadAhead(all(ctx, scan)) {
		if err != nil {
			return nil, err
		}
		fold.Add(rec)
		if n++; n%progressEvents == 0 {
			progress(n)
			if err := ctx.Err(); err != nil { // the read-ahead does not return it
				return nil, err
			}
		}
	}
	fold.coverage = coverageOf(scan)
	fold.AttributeLosses(r.fsys)
	return fold, nil
}

// foldIntact returns the fold of an intact log. It returns an error if the log is not intact, if
// the rows of a snapshot differ from those of the events, or if reading fails. Findings outside the
// segments and a torn tail are not errors.
func (r *Reader) foldIntact(ctx context.Context, progress func(events uint64)) (*Fold, error) {
	v := intactFold{fold: r.NewFold(), live: intact.NewLiveEvents(projection.New()), next: 1}
	names, err := segment.Names(r.fsys)
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("%w: no segment can be read: %v", intact.ErrNotIntact, err)
	}
	last := len(names) - 1
	for s, err := range intact.Segments(r.fsys, r.dir.Manifest.UUID, names[:last], intact.Options{CheckBodies: true}) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = v.add(s)
		}
		if err != nil {
			return nil, err
		}
		progress(v.fold.report.FramesOK)
	}
	if number, _ := segment.ParseName(names[last]); number != v.next {
		return nil, fmt.Errorf("%w: segment %d follows seq %d", intact.ErrNotIntact, number, v.next-1)
	}
	// If a writer has begun more segments since, the scan reads them too.
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{From: v.next})
	if err := v.addTail(ctx, scan); err != nil {
		return nil, err
	}
	if err := v.end(); err != nil {
		return nil, err
	}
	_, segments := scan.Read()
	v.fold.coverage = Coverage{Read: segments}
	return v.fold, nil
}

// intactFold is the fold of an intact log, segment by segment.
type intactFold struct {
	fold         *Fold
	live         *intact.LiveEvents
	base         segment.FrameID // the last frame of the snapshot from which live starts, or zero
	to           Point           // addTail ends there
	next         uint64          // seq of the next frame
	unknownKinds uint64          // in the events before those of live
	lastBody     []byte          // of the last frame
	torn         *Damage
}

// add adds the next segment.
func (v *intactFold) add(s *intact.Segment) error {
	if s.Number() != v.next {
		return fmt.Errorf("%w: segment %d follows seq %d", intact.ErrNotIntact, s.Number(), v.next-1)
	}
	if s.Number() == v.base.Segment && !s.Has(v.base) { //mutant:point-snapshot-last-frame
		return fmt.Errorf("%w: the log does not have the snapshot's last frame, seq %d", intact.ErrNotIntact, v.base.Seq)
	}
	added := max(v.next-1, v.base.Seq)
	for _, snapshot := range slices.Backward(v.fold.snapshots) { // the oldest first
		if snapshot.Version < segment.SnapshotVersion || !s.Has(snapshot.Last) { // see Fold.adoptSnapshot
			continue
		}
		if err := v.live.AddAll(s, added, snapshot.Last.Seq); err != nil {
			return err
		}
		added = snapshot.Last.Seq
		if err := v.compare(snapshot); err != nil {
			return err
		}
	}
	if err := v.live.AddAll(s, added, s.Next()-1); err != nil {
		return err
	}
	if last, body, ok := s.Last(); ok {
		v.fold.Count(s.Number(), last, s.Next()-s.Number())
		v.lastBody = append(v.lastBody[:0], body...)
	}
	v.next = s.Next()
	return nil
}

// compare compares the rows of a snapshot with those of the events, up to the snapshot's last event.
func (v *intactFold) compare(s segment.Snapshot) error {
	view, err := v.view(s.Last.Seq)
	if err != nil {
		return err
	}
	restored, err := Restore(s)
	differs := err == nil && !view.Equal(restored)
	if differs { //mutant:snapshot-of-intact-log
		return fmt.Errorf("%w: the rows of snapshot %s differ", intact.ErrNotIntact, s.Name())
	}
	v.live = intact.NewLiveEvents(view)
	return nil
}

// view returns the view after the events so far, of which the last one has that number.
func (v *intactFold) view(lastSeq uint64) (*projection.View, error) {
	v.unknownKinds += v.live.UnknownKinds()
	return v.live.Fold(lastSeq)
}

// addTail adds the segment whose name has the next number, and the segments after it. It returns
// ErrNotIntact for damage in a segment and for lost events, but not for a torn write.
func (v *intactFold) addTail(ctx context.Context, scan *segment.Scan) error {
	first := v.next
	tail := intact.NewSegment(first)
	for item, err := range scan.Items() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if v.ends(item) {
			break
		}
		if item.Damage != nil {
			if err := v.addDamage(*item.Damage); err != nil {
				return err
			}
			continue
		}
		id := item.Frame.ID()
		if id.Segment < first { // the scan begins with a segment that was read already
			continue
		}
		if id.Segment != tail.Number() {
			if err := v.add(tail); err != nil {
				return err
			}
			tail = intact.NewSegment(id.Segment)
		}
		if id.Seq != tail.Next() {
			return fmt.Errorf("%w: seq %d follows seq %d", intact.ErrNotIntact, id.Seq, tail.Next()-1)
		}
		if err := intact.CheckBody(id.Seq, item.Frame.Body); err != nil {
			return err
		}
		tail.Add(item.Frame.Header, id.HeaderCRC32C, item.Frame.Body, 0)
	}
	return v.add(tail)
}

// ends reports whether the point is before an item.
func (v *intactFold) ends(item segment.Item) bool {
	if item.Damage != nil {
		return v.to.Before(Record{Damage: item.Damage})
	}
	return v.to.Seq != 0 && item.Frame.Seq > v.to.Seq || v.to.TimeMS != 0 && isLater(item.Frame.Body, v.to.TimeMS)
}

// addDamage adds a finding outside the segments to the report, and keeps a torn tail for the end.
func (v *intactFold) addDamage(d Damage) error {
	switch {
	case d.Torn:
		v.torn = &d
	case d.InSegment(), d.Lost() > 0:
		return fmt.Errorf("%w: %s", intact.ErrNotIntact, d)
	default:
		v.fold.AddDamage(d)
	}
	return nil
}

// end completes the fold after all segments.
func (v *intactFold) end() error {
	view, err := v.view(v.next - 1)
	if err != nil {
		return err
	}
	v.fold.SetView(view, v.unknownKinds, v.base.Seq)
	if v.torn != nil {
		if v.fold.lastMS, err = wallMS(v.lastBody); err != nil {
			return err
		}
		v.fold.AddDamage(*v.torn)
	}
	return nil
}

// isLater reports whether an encoded event has a wall clock after a time.
func isLater(body []byte, ms uint64) bool {
	if o, ok := checkpoint.ReadOutline(body); ok { // the common case, without decoding
		return o.TimestampMS > ms
	}
	at, err := wallMS(body)
	return err == nil && at > ms
}

// wallMS returns the wall clock of an encoded event in Unix milliseconds, or 0 for no bytes.
func wallMS(body []byte) (uint64, error) {
	if len(body) == 0 {
		return 0, nil
	}
	event, err := checkpoint.DecodeEvent(body)
	var unknown *checkpoint.UnknownKindError
	switch {
	case errors.As(err, &unknown):
		return unknown.TimestampMS, nil
	case err != nil:
		return 0, err
	}
	return event.WallMS(), nil
}
