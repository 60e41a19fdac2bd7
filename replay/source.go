package replay

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Source is a log that is to be folded as a whole.
type Source struct {
	FS        fs.FS
	Directory segment.Directory
	Snapshots []segment.Snapshot // that may spare reading a part of it, the newest first
	// Items reads the log to its end: all of it, or with last its last segment.
	Items func(last bool) iter.Seq2[segment.Item, error]
}

// FoldAll decodes every frame. Of events that are lost it has what a snapshot behind them
// tells. It returns an I/O error.
func (s Source) FoldAll() (*Fold, error) {
	fold := NewFold(s.Directory, s.Snapshots)
	for item, err := range s.Items(false) {
		if err != nil {
			return nil, err
		}
		fold.Add(Decode(item))
	}
	return fold, nil
}

// Fold returns what FoldAll does of a log that is sound, and decodes of it as little as the view needs: of
// each migration the last frame, and the earlier ones that tell what the row adds to
// it. All frames' checksums are compared, but of those before a snapshot, from which
// it begins if there is one that fits. Of a log in which it finds a segment that is
// not sound, it decodes every frame. It returns an I/O error.
func (s Source) Fold() (*Fold, error) {
	for _, snapshot := range s.Snapshots {
		fold, err := s.rebuild(&snapshot)
		if !errors.Is(err, errNotPlain) {
			return fold, err
		}
	}
	fold, err := s.rebuild(nil)
	if errors.Is(err, errNotPlain) {
		return s.FoldAll()
	}
	return fold, err
}

// errNotPlain is returned where a log, or a snapshot of it, is not as a writer makes it.
var errNotPlain = errors.New("not plain")

// rebuild reads the log from its end to the snapshot's last frame, or to its
// beginning.
func (s Source) rebuild(snapshot *segment.Snapshot) (*Fold, error) {
	names, err := segment.Names(s.FS)
	if err != nil {
		return nil, err
	}
	from := segment.Name(1)
	if snapshot != nil {
		from = segment.Name(snapshot.Last.Segment)
	}
	begin, ok := slices.BinarySearch(names, from)
	if !ok || names[0] != segment.Name(1) { // also where there is none
		return nil, fmt.Errorf("%w: no segment %s, or not the first", errNotPlain, from)
	}
	fold := NewFold(s.Directory, nil)
	h := newHistory(snapshot, names[begin:])
	tail, err := s.tail(fold, names[len(names)-1], h.base)
	if err != nil {
		return nil, err
	}
	if err := h.add(tail); err != nil {
		return nil, err
	}
	for frames, err := range walkBackwards(s.FS, s.Directory.Manifest.UUID, names[begin:], h.base) {
		if err == nil {
			err = h.add(frames)
		}
		if err != nil {
			return nil, err
		}
	}
	if fold.View, err = h.view(); err != nil {
		return nil, err
	}
	fold.last = h.last
	if h.count > 0 {
		fold.report.FirstSeq, fold.report.LastSeq, fold.report.FramesOK = h.firstSeq, h.lastSeq, h.count
	}
	if snapshot != nil {
		fold.report.SnapshotSeq = snapshot.Last.Seq
	}
	return fold, nil
}

// tail reads the last segment, which may end in a torn write, and keeps its frames from
// base on. Damage that has cost no frame goes into the fold's report.
func (s Source) tail(fold *Fold, name string, base uint64) (*frames, error) {
	first, _ := segment.ParseName(name)
	tail := &frames{segment: first, first: first}
	if base < first {
		tail.list = make([]frame, 0, usualFrames)
	}
	for item, err := range s.Items(true) {
		switch {
		case err != nil:
			return nil, err
		case item.Damage != nil && item.Damage.Lost() > 0:
			return nil, fmt.Errorf("%w: %s", errNotPlain, item.Damage)
		case item.Damage != nil:
			fold.addDamage(*item.Damage)
		case item.Frame.Seq != tail.next():
			return nil, fmt.Errorf("%w: seq %d follows %d", errNotPlain, item.Frame.Seq, tail.next()-1)
		case item.Frame.Seq < base:
			tail.first++
		default:
			tail.list = append(tail.list, frame{item.Frame.PrevSeq, item.Frame.ID().HeaderCRC32C, item.Frame.Body})
		}
	}
	return tail, nil
}

// usualFrames is how many a full segment has.
const usualFrames = 1 << 15

// frames are those of one segment, or its last ones.
type frames struct {
	segment uint64 // the number that it is named by, and its first frame has
	first   uint64 // the number of the list's first
	list    []frame
	memory  []byte
}

type frame struct {
	prevSeq      uint64
	headerCRC32C uint32
	body         []byte
}

func (f *frames) id(i int) segment.FrameID {
	return segment.FrameID{Seq: f.first + uint64(i), Segment: f.segment, HeaderCRC32C: f.list[i].headerCRC32C}
}

func (f *frames) next() uint64 { return f.first + uint64(len(f.list)) }

// history is what is kept of a log while it is read from its end to its beginning.
type history struct {
	snapshot *segment.Snapshot
	base     uint64 // the snapshot's last frame; 0 without one
	anchored bool   // that frame was found

	count             uint64 // of frames
	firstSeq, lastSeq uint64
	last              segment.FrameID
	lives             []*life
	owners            []*life             // by the frames of one segment: whose they are, nil for one that no later frame names
	firsts            []uint64            // the numbers that the segments are named by
	named             map[uint64][]naming // frames of earlier segments, by the number that theirs is named by
}

// life is one life of a migration, from its last event backwards.
type life struct {
	events []projection.Sequenced // newest first; empty where an abort or a removal has ended it
	id     checkpoint.MigrationID
	oldest uint64 // the number that the oldest of its frames names
	told   bool   // nothing more is to be learned of it
}

// naming is a frame that a later one names, and whose that is.
type naming struct {
	seq  uint64
	life *life
}

func newHistory(snapshot *segment.Snapshot, names []string) *history {
	h := &history{snapshot: snapshot, named: make(map[uint64][]naming)}
	for _, name := range names {
		first, _ := segment.ParseName(name)
		h.firsts = append(h.firsts, first)
	}
	if snapshot != nil {
		h.base = snapshot.Last.Seq
	}
	return h
}

// forgotten stands for all lives that ended before there was a need to know them.
var forgotten = &life{told: true}

// add takes the frames of the segment before the ones that it has seen.
func (h *history) add(f *frames) error {
	if h.firstSeq != 0 && f.next() != h.firstSeq {
		return fmt.Errorf("%w: segment %d ends with seq %d", errNotPlain, f.segment, f.next()-1)
	}
	if h.firstSeq == 0 {
		h.lastSeq = f.next() - 1
	}
	h.firstSeq = f.segment
	h.count += f.next() - f.segment
	h.owners = slices.Grow(h.owners[:0], len(f.list))[:len(f.list)]
	clear(h.owners)
	for _, n := range h.named[f.segment] {
		if n.seq >= f.next() {
			return fmt.Errorf("%w: seq %d is named and not there", errNotPlain, n.seq)
		}
		h.owners[n.seq-f.first] = n.life
	}
	delete(h.named, f.segment)
	if n := len(f.list); h.last.Seq == 0 && n > 0 {
		h.last = f.id(n - 1)
	}
	for i := len(f.list) - 1; i >= 0; i-- {
		seq := f.first + uint64(i)
		if seq <= h.base {
			h.anchored = h.anchored || seq == h.base && h.snapshot.Last == f.id(i)
			return nil
		}
		if err := h.addFrame(seq, f.list[i], i); err != nil {
			return fmt.Errorf("seq %d: %w", seq, err)
		}
	}
	return nil
}

func (h *history) addFrame(seq uint64, f frame, at int) error {
	kind, ok := checkpoint.PeekKind(f.body)
	if !ok {
		return fmt.Errorf("%w: kind %d", errNotPlain, kind)
	}
	l := h.owners[at]
	switch {
	case l != nil && l.told:
	case l == nil && kind != checkpoint.KindUpserted && h.snapshot == nil:
		l = forgotten
	default:
		event, err := checkpoint.DecodeEvent(f.body)
		if err != nil {
			return fmt.Errorf("%w: %w", errNotPlain, err)
		}
		if l == nil {
			l = &life{}
			h.lives = append(h.lives, l)
		}
		if err := l.begin(seq, f.prevSeq, event); err != nil {
			return err
		}
	}
	if l != forgotten {
		l.oldest = f.prevSeq
	}
	switch first := seq - uint64(at); {
	case f.prevSeq >= first:
		h.owners[f.prevSeq-first] = l
	case f.prevSeq > h.base:
		at, found := slices.BinarySearch(h.firsts, f.prevSeq)
		if !found {
			at--
		}
		if at < 0 {
			return fmt.Errorf("%w: it names seq %d", errNotPlain, f.prevSeq)
		}
		h.named[h.firsts[at]] = append(h.named[h.firsts[at]], naming{f.prevSeq, l})
	}
	return nil
}

// rank orders the lives of one migration: 0 ends what the snapshot has, 1 has begun and
// ended since, 2 goes on.
func (l *life) rank() int {
	switch {
	case len(l.events) > 0:
		return 2
	case l.oldest == 0:
		return 1
	}
	return 0
}

// begin takes the event before the ones that the life has.
func (l *life) begin(seq, prevSeq uint64, e checkpoint.Event) error {
	upserted, ok := e.(checkpoint.Upserted)
	if !ok {
		if len(l.events) > 0 {
			return fmt.Errorf("%w: a later event names one that ended the migration", errNotPlain)
		}
		l.id, l.told = e.Migration(), true
		return nil
	}
	if len(l.events) > 0 && l.id != e.Migration() {
		return fmt.Errorf("%w: a later event of another migration names it", errNotPlain)
	}
	l.id = e.Migration()
	l.events = append(l.events, projection.Sequenced{Seq: seq, PrevSeq: prevSeq, Checkpoint: upserted.Checkpoint})
	_, l.told = upserted.Checkpoint.Payload.(checkpoint.AddLearner)
	return nil
}

// view returns what the frames, and the snapshot before them, amount to.
func (h *history) view() (*projection.View, error) {
	var body []byte
	if h.snapshot != nil {
		body = h.snapshot.Body
	}
	v, err := projection.Restore(h.base, body)
	if err != nil || len(h.named) > 0 || h.base != 0 && !h.anchored {
		return nil, errors.Join(errNotPlain, err)
	}
	v.Through(h.lastSeq)
	// First the ends of what the snapshot has, then what began after that.
	slices.SortStableFunc(h.lives, func(a, b *life) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, l := range h.lives {
		if last := v.Place(l.id).LastSeq(); l.oldest != last {
			return nil, fmt.Errorf("%w: the first event after the snapshot of migration %s names seq %d, and not %d", errNotPlain, l.id, l.oldest, last)
		}
		if len(l.events) > 0 {
			slices.Reverse(l.events)
			v.Put(l.events)
		} else {
			v.End(l.id)
		}
	}
	return v, nil
}
