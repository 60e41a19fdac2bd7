package intact

import (
	"encoding/binary"
	"errors"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// LiveEvents collects the events that can still affect the final view. An incarnation of a
// migration consists of the events from the first one to the abort or removal. Only the last
// incarnation affects the view. When an incarnation ends, LiveEvents therefore discards its events
// without decoding them.
type LiveEvents struct {
	view       *projection.View // before the collected events: empty, or that of a snapshot
	migrations map[checkpoint.MigrationID]*incarnation
	unused     []*incarnation // for reuse, to save allocations
	// incarnationOf has the incarnation of each event of the current segment. Most events are
	// linked to an event of the same segment, so their incarnation is found here, without a lookup
	// in migrations.
	incarnationOf []*incarnation
	unknownKinds  uint64
	epoch         uint64 // the highest of all events, also of the discarded ones
}

// incarnation holds the events of one migration after the snapshot that are still needed. These are
// the events since its last abort or removal. If the snapshot has the migration, the last abort or
// removal is kept too, because it must remove the snapshot's row.
type incarnation struct {
	id         checkpoint.MigrationID
	lastSeq    uint64 // seq of its last event, to which the next event must be linked; 0 if it has ended
	inSnapshot bool   // the migration has an incarnation in the view before the events
	events     []byte // encoded one after another, see add; the memory is reused
}

const packedHeadBytes = 20 // seq, previous seq, length of the body

// NewLiveEvents returns an empty collection for the events after a view. The view must be complete.
// It belongs to the collection afterwards.
func NewLiveEvents(view *projection.View) *LiveEvents {
	return &LiveEvents{view: view, migrations: make(map[checkpoint.MigrationID]*incarnation)}
}

// UnknownKinds returns the number of events of unknown kinds.
func (l *LiveEvents) UnknownKinds() uint64 { return l.unknownKinds }

// AddAll adds the events of a segment that are after the event with seq after, and at most the one
// with seq through. It returns ErrNotIntact if an event is not linked to its migration's last event,
// or is not in the encoding of this version.
func (l *LiveEvents) AddAll(s *Segment, after, through uint64) error {
	l.incarnationOf = l.incarnationOf[:0]
	for i := range s.list {
		var in *incarnation
		var err error
		if seq := s.first + uint64(i); seq > through {
			return nil
		} else if seq > after {
			if prev := s.list[i].prevSeq; prev >= s.first {
				in = l.incarnationOf[prev-s.first]
			}
			if in, err = l.add(in, seq, s.list[i].prevSeq, s.list[i].body); err != nil {
				return fmt.Errorf("seq %d: %w", seq, err)
			}
		}
		l.incarnationOf = append(l.incarnationOf, in)
	}
	return nil
}

// add adds event seq and returns its incarnation, or nil if the event ends an incarnation that need
// not be kept. guess is the probable incarnation, or nil.
//
// prevSeq must be the seq of the migration's last event. Otherwise add returns ErrNotIntact.
// The reason is that an event of the migration is missing here, or was unreadable when event seq
// was written.
func (l *LiveEvents) add(guess *incarnation, seq, prevSeq uint64, body []byte) (*incarnation, error) {
	kind, id, ok := checkpoint.Peek(body)
	epoch, epochOK := checkpoint.PeekEpoch(body)
	if !ok || !epochOK {
		return nil, fmt.Errorf("%w: the body is not in the encoding of this version", ErrNotIntact)
	}
	l.epoch = max(l.epoch, epoch) //mutant:epoch-of-ended
	in := guess
	if in == nil || in.id != id {
		if in = l.migrations[id]; in == nil {
			in = l.begin(id)
		}
	}
	if prevSeq != in.lastSeq { //mutant:link-to-last-event
		return nil, fmt.Errorf("%w: its previous seq is %d, but the last event of its migration is %d", ErrNotIntact, prevSeq, in.lastSeq)
	}
	in.lastSeq = seq
	switch kind.Effect() {
	case checkpoint.EffectUnknown:
		l.unknownKinds++
	case checkpoint.EffectEnd:
		in.lastSeq, in.events = 0, in.events[:0]
		//mutant:ended-in-snapshot
		if !in.inSnapshot { // the snapshot has no row of it, so there is nothing to remove
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

// begin adds an incarnation without events for a migration. If the migration has a current
// incarnation in the snapshot, the new events continue that one.
func (l *LiveEvents) begin(id checkpoint.MigrationID) *incarnation {
	in := &incarnation{}
	if n := len(l.unused); n > 0 {
		in, l.unused = l.unused[n-1], l.unused[:n-1]
	}
	in.id, in.lastSeq = id, l.view.Slot(id).LastSeq()
	in.inSnapshot = in.lastSeq != 0
	l.migrations[id] = in
	return in
}

// Fold decodes the collected events and applies them to the view before them. It returns the view
// after event lastSeq. The events must not be used again.
func (l *LiveEvents) Fold(lastSeq uint64) (*projection.View, error) {
	left := make([]*incarnation, 0, len(l.migrations))
	for _, in := range l.migrations {
		left = append(left, in)
	}
	err := l.view.Extend(lastSeq, len(left), func(i int, apply func(seq, prevSeq uint64, c projection.Change)) error {
		return left[i].decode(apply)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotIntact, err)
	}
	l.view.RaiseEpoch(l.epoch)
	return l.view, nil
}

// decode calls apply for each event, in the order of their seqs.
func (in *incarnation) decode(apply func(seq, prevSeq uint64, c projection.Change)) error {
	for b := in.events; len(b) > 0; {
		seq, prevSeq := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		end := packedHeadBytes + int(binary.LittleEndian.Uint32(b[16:]))
		c, err := changeOf(b[packedHeadBytes:end])
		if err != nil {
			return fmt.Errorf("seq %d: %w", seq, err)
		}
		apply(seq, prevSeq, c)
		b = b[end:]
	}
	return nil
}

// changeOf decodes an event and returns its change.
func changeOf(body []byte) (c projection.Change, err error) {
	event, err := checkpoint.DecodeEvent(body)
	var unknown *checkpoint.UnknownKindError
	switch {
	case errors.As(err, &unknown):
		c = projection.UnknownChange(unknown.MigrationID)
	case err != nil:
		return c, err
	default:
		c = projection.ChangeOf(event)
	}
	if index, _ := checkpoint.PositionOf(body); index > 0 { //mutant:index-of-rebuilt-row
		c.SetIndex(index)
	}
	return c, nil
}
