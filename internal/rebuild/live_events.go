package rebuild

import (
	"encoding/binary"
	"errors"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// liveEvents collects, while the log is read forward, the events that can still affect the final view:
// those of each migration's current incarnation.
type liveEvents struct {
	view          *projection.View // of the snapshot; the events come after it
	migrations    map[checkpoint.MigrationID]*incarnation
	incarnationOf []*incarnation // of the current segment's events: speeds up the lookup of most predecessors
	unused        []*incarnation
	unknownKinds  uint64
}

// incarnation holds the events of a migration since the snapshot, or since it last ended.
type incarnation struct {
	id         checkpoint.MigrationID
	lastSeq    uint64 // 0 if the last event ended it
	inSnapshot bool
	events     []byte // packed one after another, see add; the memory is reused
}

const packedHeadBytes = 20 // seq, previous seq, length of the body

func newLiveEvents() *liveEvents {
	return &liveEvents{view: projection.New(), migrations: make(map[checkpoint.MigrationID]*incarnation)}
}

// addAll adds the frames of a segment whose seq is above base.
func (l *liveEvents) addAll(f *segmentFrames, base uint64) error {
	l.incarnationOf = l.incarnationOf[:0]
	for i := range f.list {
		var in *incarnation
		var err error
		if seq := f.first + uint64(i); seq > base {
			if prev := f.list[i].prevSeq; prev >= f.first {
				in = l.incarnationOf[prev-f.first]
			}
			if in, err = l.add(in, seq, f.list[i].prevSeq, f.list[i].body); err != nil {
				return fmt.Errorf("seq %d: %w", seq, err)
			}
		}
		l.incarnationOf = append(l.incarnationOf, in)
	}
	return nil
}

// add adds the next event and returns its incarnation. The event's previous seq must be the
// migration's last added event: then no event between the two is missing. In is a guess of the
// incarnation, or nil.
func (l *liveEvents) add(guess *incarnation, seq, prevSeq uint64, body []byte) (*incarnation, error) {
	kind, id, ok := checkpoint.Peek(body)
	if !ok {
		return nil, fmt.Errorf("%w: the body is not in AppendEvent's form", errNeedsFullScan)
	}
	in := guess
	if in == nil || in.id != id {
		if in = l.migrations[id]; in == nil {
			in = l.begin(id)
		}
	}
	if prevSeq != in.lastSeq { //mutant:link-to-last-event
		return nil, fmt.Errorf("%w: its previous seq is %d, but its migration's last event is %d", errNeedsFullScan, prevSeq, in.lastSeq)
	}
	in.lastSeq = seq
	switch kind.Effect() {
	case checkpoint.EffectUnknown:
		l.unknownKinds++
	case checkpoint.EffectEnd:
		in.lastSeq, in.events = 0, in.events[:0]
		//mutant:ended-in-snapshot
		if !in.inSnapshot { // nothing is left
			delete(l.migrations, id)
			l.unused = append(l.unused, in)
			in.id = checkpoint.MigrationID{}
			return nil, nil
		}
	}
	in.events = binary.LittleEndian.AppendUint64(in.events, seq)
	in.events = binary.LittleEndian.AppendUint64(in.events, prevSeq)
	in.events = binary.LittleEndian.AppendUint32(in.events, uint32(len(body)))
	in.events = append(in.events, body...)
	return in, nil
}

// begin returns the incarnation of a migration as the snapshot has it, still without events.
func (l *liveEvents) begin(id checkpoint.MigrationID) *incarnation {
	in := &incarnation{}
	if n := len(l.unused); n > 0 {
		in, l.unused = l.unused[n-1], l.unused[:n-1]
	}
	in.id, in.lastSeq = id, l.view.Slot(id).LastSeq()
	in.inSnapshot = in.lastSeq != 0
	l.migrations[id] = in
	return in
}

// fold decodes the events that are left, and returns the view after event lastSeq.
func (l *liveEvents) fold(lastSeq uint64) (*projection.View, error) {
	left := make([]*incarnation, 0, len(l.migrations))
	for _, in := range l.migrations {
		left = append(left, in)
	}
	err := l.view.Extend(lastSeq, len(left), func(i int, apply func(seq, prevSeq uint64, c projection.Change)) error {
		return left[i].decode(apply)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNeedsFullScan, err)
	}
	return l.view, nil
}

func (in *incarnation) decode(apply func(seq, prevSeq uint64, c projection.Change)) error {
	for b := in.events; len(b) > 0; {
		seq, prevSeq := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		end := packedHeadBytes + int(binary.LittleEndian.Uint32(b[16:]))
		event, err := checkpoint.DecodeEvent(b[packedHeadBytes:end])
		var unknown *checkpoint.UnknownKindError
		switch {
		case errors.As(err, &unknown):
			apply(seq, prevSeq, projection.UnknownChange(unknown.MigrationID))
		case err != nil:
			return fmt.Errorf("seq %d: %w", seq, err)
		default:
			apply(seq, prevSeq, projection.ChangeOf(event))
		}
		b = b[end:]
	}
	return nil
}
