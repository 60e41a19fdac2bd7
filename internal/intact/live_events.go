package rebuild

import (
	"encoding/binary"
	"errors"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// liveEvents collects the events that can still affect the final view. An incarnation of a
// migration consists of the events from the first one to the abort or removal. Only the last
// incarnation affects the view. When an incarnation ends, liveEvents therefore discards its events
// without decoding them.
type liveEvents struct {
	view       *projection.View // the snapshot's view, before the collected events
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
	inSnapshot bool   // the migration has an incarnation in the snapshot
	events     []byte // encoded one after another, see add; the memory is reused
}

const packedHeadBytes = 20 // seq, previous seq, length of the body

func newLiveEvents() *liveEvents {
	return &liveEvents{view: projection.New(), migrations: make(map[checkpoint.MigrationID]*incarnation)}
}

// addAll adds the events of a segment that are after event base.
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

// add adds event seq and returns its incarnation, or nil if the event ends an incarnation that need
// not be kept. guess is the probable incarnation, or nil.
//
// prevSeq must be the seq of the migration's last event. Otherwise add returns errNeedsFullScan.
// The reason is that an event of the migration is missing here, or was unreadable when event seq
// was written.
func (l *liveEvents) add(guess *incarnation, seq, prevSeq uint64, body []byte) (*incarnation, error) {
	kind, id, ok := checkpoint.Peek(body)
	epoch, epochOK := checkpoint.PeekEpoch(body)
	if !ok || !epochOK {
		return nil, fmt.Errorf("%w: the body is not in the encoding of this version", errNeedsFullScan)
	}
	l.epoch = max(l.epoch, epoch) //mutant:epoch-of-ended
	in := guess
	if in == nil || in.id != id {
		if in = l.migrations[id]; in == nil {
			in = l.begin(id)
		}
	}
	if prevSeq != in.lastSeq { //mutant:link-to-last-event
		return nil, fmt.Errorf("%w: its previous seq is %d, but the last event of its migration is %d", errNeedsFullScan, prevSeq, in.lastSeq)
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

// fold decodes the collected events and applies them to the snapshot's view. It returns the view
// after event lastSeq.
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
	l.view.RaiseEpoch(l.epoch)
	return l.view, nil
}

// decode calls apply for each event, in the order of their seqs.
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
