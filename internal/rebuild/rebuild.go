package rebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"migrationlog/eventlog/segment"
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

// errNeedsFullScan is returned by foldFrom if the log or the snapshot is not intact, or if an event
// is not linked to its migration's previous event. Fold then tries the next older snapshot. After
// the oldest one, it tries the log without a snapshot. If that also fails, only FoldAll can
// interpret the log.
var errNeedsFullScan = errors.New("the log must be read frame by frame")

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
	return fold, nil
}

// Fold returns the same rows as FoldAll, but usually reads less. It tries the snapshots from the
// newest to the oldest, then the log from its first frame. If every attempt fails with
// errNeedsFullScan, Fold calls FoldAll. It returns the same errors as FoldAll.
//
// Fold verifies the checksum of every frame that it reads, but decodes only the events of the
// migrations that have a row at the end. It does not notice damage before the snapshot.
func (s Source) Fold() (*replay.Fold, error) {
	for _, snapshot := range s.Snapshots { //mutant:older-snapshot
		//mutant:earlier-version-passed-over
		if snapshot.Version < segment.SnapshotVersion { // it does not have all facts, see replay.Fold
			continue
		}
		fold, err := s.foldFrom(&snapshot)
		if !errors.Is(err, errNeedsFullScan) {
			return fold, err
		}
	}
	fold, err := s.foldFrom(nil)
	if errors.Is(err, errNeedsFullScan) {
		return s.FoldAll()
	}
	return fold, err
}

// foldFrom reads the log from the snapshot's last frame to the end. If snapshot is nil, it reads
// the whole log.
//
// In this package, base is the seq of the snapshot's last event, or 0 without a snapshot. The rows
// of the snapshot include all events up to base. The frame of event base itself is read only to
// check that the snapshot belongs to this log.
func (s Source) foldFrom(snapshot *segment.Snapshot) (*replay.Fold, error) {
	names, err := segment.Names(s.FS)
	if err != nil {
		return nil, err
	}
	l := newLiveEvents()
	var base uint64
	from := segment.Name(1)
	if snapshot != nil {
		base, from = snapshot.Last.Seq, segment.Name(snapshot.Last.Segment)
		if l.view, err = replay.Restore(*snapshot); err != nil {
			return nil, fmt.Errorf("%w: %w", errNeedsFullScan, err)
		}
	}
	begin, ok := slices.BinarySearch(names, from)
	if !ok || names[0] != segment.Name(1) { //mutant:first-segment
		return nil, fmt.Errorf("%w: segment %s or segment 1 is missing", errNeedsFullScan, from)
	}
	fold := replay.NewFold(s.Directory, nil)
	next, _ := segment.ParseName(from)
	for frames, err := range s.segments(fold, names[begin:], base) {
		if err != nil {
			return nil, err
		}
		if frames.segment != next { //mutant:segments-follow
			return nil, fmt.Errorf("%w: segment %d follows a segment that ends with seq %d", errNeedsFullScan, frames.segment, next-1)
		}
		next = frames.next()
		//mutant:snapshot-last-frame
		if snapshot != nil && frames.segment == snapshot.Last.Segment && !frames.has(snapshot.Last) {
			return nil, fmt.Errorf("%w: the log does not have the snapshot's last frame, seq %d", errNeedsFullScan, base)
		}
		if n := len(frames.list); n > 0 {
			framesInSegment := next - frames.segment
			fold.Count(frames.segment, frames.id(n-1), framesInSegment)
		}
		if err := l.addAll(frames, base); err != nil {
			return nil, err
		}
	}
	view, err := l.fold(next - 1)
	if err != nil {
		return nil, err
	}
	fold.SetView(view, l.unknownKinds, base)
	return fold, nil
}

// segments yields the frames from event base on, segment by segment. A yielded value is valid only
// until the next iteration. Damage that lost no frame, such as a torn write, is added to the fold's
// report, and segments continues.
func (s Source) segments(fold *replay.Fold, names []string, base uint64) iter.Seq2[*segmentFrames, error] {
	return func(yield func(*segmentFrames, error) bool) {
		last := len(names) - 1
		for frames, err := range walk(s.FS, s.Directory.Manifest.UUID, names[:last], base) {
			if !yield(frames, err) || err != nil {
				return
			}
		}
		yield(s.tail(fold, names[last], base))
	}
}

// tail reads the last segment, which may end with a torn write.
func (s Source) tail(fold *replay.Fold, name string, base uint64) (*segmentFrames, error) {
	first, _ := segment.ParseName(name)
	tail := &segmentFrames{segment: first, first: first}
	for item, err := range s.Scan(segment.ScanTail) {
		switch {
		case err != nil:
			return nil, err
		case item.Damage != nil && item.Damage.Lost() > 0: //mutant:tail-loss
			return nil, fmt.Errorf("%w: %s", errNeedsFullScan, item.Damage)
		case item.Damage != nil:
			fold.AddDamage(*item.Damage)
		case item.Frame.Seq != tail.next():
			return nil, fmt.Errorf("%w: seq %d follows %d", errNeedsFullScan, item.Frame.Seq, tail.next()-1)
		default:
			tail.add(item.Frame.Header, item.Frame.ID().HeaderCRC32C, item.Frame.Body, base)
		}
	}
	return tail, nil
}
