package replay

import (
	"context"
	"errors"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/intact"
	"migrationlog/internal/summary"
	"migrationlog/projection"
)

// Point is a moment in a history. The zero value is the end of the history.
type Point struct {
	Seq uint64 // after the record with this number
	// TimeMS, in Unix milliseconds, is the moment before the first record with a later wall clock.
	// Sequence numbers order the history, and clocks do not: every record after that one is later,
	// even if its clock shows an earlier time.
	TimeMS uint64
	// Index is the moment after the last record with this raft index or a lower one. The restored rows
	// with which a log may begin are before it.
	Index uint64
}

// Before reports whether the record is later than the point.
func (p Point) Before(r Record) bool {
	seq := r.Seq
	if r.Damage != nil {
		seq = r.Damage.FirstSeq
	}
	_, isRestored := r.Event.(checkpoint.Restored)
	return p.Seq != 0 && seq > p.Seq || p.TimeMS != 0 && r.WallMS() > p.TimeMS || p.Index != 0 && r.RaftIndex > p.Index && !isRestored
}

// StateAt returns the view at a point in the history. The view accounts for damage. StateAt returns
// an I/O error, ctx's error, or the errors of Resolve for a point that the log does not have.
func (r *Reader) StateAt(ctx context.Context, p Point) (*projection.View, error) {
	fold, err := r.FoldTo(ctx, p)
	if err != nil {
		return nil, err
	}
	return fold.View, nil
}

// FoldAllTo returns the fold at a point in the history: the view, and the report of the records
// before the point. It reads all of them, and every snapshot. It returns the same errors as StateAt.
func (r *Reader) FoldAllTo(ctx context.Context, p Point) (*Fold, error) {
	p, err := r.Resolve(ctx, p)
	if err != nil {
		return nil, err
	}
	fold := r.NewFold()
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{})
	for rec, err := range all(ctx, scan) {
		if err != nil {
			return nil, err
		}
		if p.Before(rec) {
			break
		}
		fold.Add(rec)
	}
	fold.coverage = coverageOf(scan)
	fold.AttributeLosses(r.fsys)
	return fold, nil
}

// FoldTo returns the same view as FoldAllTo, but usually reads less. It starts from the newest intact
// snapshot before the point. It reads the records from that snapshot to the point, and the ends of
// the earlier segments. Fold.Coverage counts the segments that it did not read. Its report does not
// cover these.
//
// If it finds lost events, or an event that is not linked to its migration's previous event, or if
// the log does not have the last event of the newest two snapshots, it returns the result of
// FoldAllTo.
func (r *Reader) FoldTo(ctx context.Context, p Point) (*Fold, error) {
	p, err := r.Resolve(ctx, p)
	if err != nil {
		return nil, err
	}
	// These snapshots are not after the events that firstLater reads, although a writer may append more.
	snapshots, damaged := segment.ReadSnapshots(r.fsys, r.dir.Manifest.UUID, false)
	to := p
	if p.Index != 0 { // no event has this index or a lower one
		return r.FoldAllTo(ctx, p)
	}
	if p.TimeMS != 0 {
		later, err := r.firstLater(ctx, p)
		if err != nil {
			return nil, err
		}
		if later == 1 { // the state before the first record needs no snapshot
			return r.FoldAllTo(ctx, p)
		}
		if later != 0 {
			to = Point{Seq: later - 1}
		}
	}
	for tried := 0; len(snapshots) > 0 && tried < maxSnapshots; snapshots = snapshots[1:] {
		s := snapshots[0]
		if s.Version < segment.SnapshotVersion || to.Seq != 0 && s.Last.Seq > to.Seq {
			continue
		}
		fold, err := r.foldFrom(ctx, s, damaged, to)
		if !errors.Is(err, errNeedsFullScan) {
			return fold, err
		}
		tried++
	}
	return r.FoldAllTo(ctx, p)
}

// maxSnapshots is the number of snapshots that FoldTo tries. Each attempt may read as much as
// FoldAllTo.
const maxSnapshots = 2

// errNeedsFullScan is returned by foldFrom if the records must be folded from the first one.
var errNeedsFullScan = errors.New("the log must be read from its first frame")

// foldFrom returns the fold at a point after the last event of a snapshot. The argument damaged has
// the damaged snapshots.
func (r *Reader) foldFrom(ctx context.Context, s segment.Snapshot, damaged []Damage, p Point) (*Fold, error) {
	view, err := Restore(s)
	if err != nil {
		return nil, errNeedsFullScan
	}
	v := intactFold{fold: NewFold(r.dir, nil), live: intact.NewLiveEvents(view), next: s.Last.Segment, base: s.Last, to: p}
	v.fold.fsys = r.fsys
	for _, d := range damaged {
		v.fold.AddDamage(d)
	}
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{
		From: s.Last.Seq, CheckEnds: true,
		Only: r.index.onlyRange(s.Last.Seq, p.Seq),
	})
	err = v.addTail(ctx, scan)
	if err == nil {
		err = v.end()
	}
	if errors.Is(err, intact.ErrNotIntact) {
		return nil, errNeedsFullScan
	}
	if err != nil {
		return nil, err
	}
	v.fold.coverage = coverageOf(scan)
	return v.fold, nil
}

// firstLater returns the number of the first record up to p.Seq with a wall clock after p.TimeMS, or
// 0 if there is none. It leaves out the segments whose events are all earlier.
func (r *Reader) firstLater(ctx context.Context, p Point) (uint64, error) {
	scan := segment.NewScan(r.fsys, r.dir, segment.ScanOptions{
		Only: r.index.only(func(s *summary.Summary) ([]uint64, bool) { return nil, s.Totals().LatestMS <= p.TimeMS }),
	})
	for item, err := range scan.Items() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		if p.Seq != 0 && item.Frame.Seq > p.Seq {
			return 0, nil
		}
		if isLater(item.Frame.Body, p.TimeMS) {
			return item.Frame.Seq, nil
		}
	}
	return 0, nil
}
