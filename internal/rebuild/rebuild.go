package rebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/intact"
	"migrationlog/projection"
	"migrationlog/replay"
)

// Source is a log whose view is to be rebuilt.
type Source struct {
	FS        fs.FS
	Directory segment.Directory
	Snapshots []segment.Snapshot // newest first
	// Scan reads the whole log, or only its last segment.
	Scan func(scope segment.Scope) iter.Seq2[segment.Item, error]
}

// FoldAll decodes every frame. If events were lost before a snapshot's last event, the fold
// continues from that event with the rows of the snapshot. Damage is not an error. FoldAll returns
// an I/O error or segment.ErrNewerFormat.
func (s Source) FoldAll() (*replay.Fold, error) {
	fold := replay.NewFold(s.Directory, s.Snapshots)
	for item, err := range s.Scan(segment.ScanAll) {
		if err != nil {
			return nil, err
		}
		fold.Add(replay.Decode(item))
	}
	fold.AttributeLosses(s.FS)
	return fold, nil
}

// Fold returns the same rows as FoldAll, but usually reads less. It tries the newest two intact
// snapshots, then the log from its first frame. If every attempt fails with intact.ErrNotIntact, only
// FoldAll can interpret the log, and Fold calls it. It returns the same errors as FoldAll.
//
// More snapshots would help only if the newest two were both of another history. Each attempt may
// read most of the log before it fails.
//
// Fold verifies the checksum of every frame that it reads, but decodes only the events of the
// migrations that have a row at the end. It does not notice damage before the snapshot.
func (s Source) Fold() (*replay.Fold, error) {
	tried := 0
	for _, snapshot := range s.Snapshots { //mutant:older-snapshot
		//mutant:earlier-version-passed-over
		if snapshot.Version < segment.SnapshotVersion { // it does not have all facts, see replay.Fold
			continue
		}
		view, err := replay.Restore(snapshot)
		if err != nil {
			continue
		}
		fold, err := s.foldFrom(&snapshot, view)
		if !errors.Is(err, intact.ErrNotIntact) {
			return fold, err
		}
		if tried++; tried == maxSnapshots {
			break
		}
	}
	fold, err := s.foldFrom(nil, projection.New())
	if errors.Is(err, intact.ErrNotIntact) {
		return s.FoldAll()
	}
	return fold, err
}

// maxSnapshots is the number of intact snapshots that Fold tries.
const maxSnapshots = 2

// foldFrom reads the log from the snapshot's last frame to the end. The argument view has the rows
// of the snapshot. If snapshot is nil, foldFrom reads the whole log.
//
// In this package, base is the seq of the snapshot's last event, or 0 without a snapshot. The rows
// of the snapshot include all events up to base. The frame of event base itself is read only to
// check that the snapshot belongs to this log.
func (s Source) foldFrom(snapshot *segment.Snapshot, view *projection.View) (*replay.Fold, error) {
	names, err := segment.Names(s.FS)
	if err != nil {
		return nil, err
	}
	var base uint64
	from := segment.Name(1)
	if snapshot != nil {
		base, from = snapshot.Last.Seq, segment.Name(snapshot.Last.Segment)
	}
	begin, ok := slices.BinarySearch(names, from)
	if !ok || names[0] != segment.Name(1) { //mutant:first-segment
		return nil, fmt.Errorf("%w: segment %s or segment 1 is missing", intact.ErrNotIntact, from)
	}
	l, fold := intact.NewLiveEvents(view), replay.NewFold(s.Directory, nil)
	next, _ := segment.ParseName(from)
	for frames, err := range s.segments(fold, names[begin:], base) {
		if err != nil {
			return nil, err
		}
		if frames.Number() != next { //mutant:segments-follow
			return nil, fmt.Errorf("%w: segment %d follows a segment that ends with seq %d", intact.ErrNotIntact, frames.Number(), next-1)
		}
		next = frames.Next()
		//mutant:snapshot-last-frame
		if snapshot != nil && frames.Number() == snapshot.Last.Segment && !frames.Has(snapshot.Last) {
			return nil, fmt.Errorf("%w: the log does not have the snapshot's last frame, seq %d", intact.ErrNotIntact, base)
		}
		if last, _, ok := frames.Last(); ok {
			framesInSegment := next - frames.Number()
			fold.Count(frames.Number(), last, framesInSegment)
		}
		if err := l.AddAll(frames, base, next-1); err != nil {
			return nil, err
		}
	}
	if view, err = l.Fold(next - 1); err != nil {
		return nil, err
	}
	fold.SetView(view, l.UnknownKinds(), base)
	return fold, nil
}

// segments yields the frames from event base on, segment by segment. A yielded value is valid only
// until the next iteration. Damage that lost no frame, such as a torn write, is added to the fold's
// report, and segments continues.
func (s Source) segments(fold *replay.Fold, names []string, base uint64) iter.Seq2[*intact.Segment, error] {
	return func(yield func(*intact.Segment, error) bool) {
		last := len(names) - 1
		for frames, err := range intact.Segments(s.FS, s.Directory.Manifest.UUID, names[:last], intact.Options{Base: base}) {
			if !yield(frames, err) || err != nil {
				return
			}
		}
		yield(s.tail(fold, names[last], base))
	}
}

// tail reads the last segment, which may end with a torn write.
func (s Source) tail(fold *replay.Fold, name string, base uint64) (*intact.Segment, error) {
	first, _ := segment.ParseName(name)
	tail := intact.NewSegment(first)
	for item, err := range s.Scan(segment.ScanTail) {
		switch {
		case err != nil:
			return nil, err
		case item.Damage != nil && item.Damage.Lost() > 0: //mutant:tail-loss
			return nil, fmt.Errorf("%w: %s", intact.ErrNotIntact, item.Damage)
		case item.Damage != nil:
			fold.AddDamage(*item.Damage)
		case item.Frame.Seq != tail.Next():
			return nil, fmt.Errorf("%w: seq %d follows %d", intact.ErrNotIntact, item.Frame.Seq, tail.Next()-1)
		default:
			tail.Add(item.Frame.Header, item.Frame.ID().HeaderCRC32C, item.Frame.Body, base)
		}
	}
	return tail, nil
}
