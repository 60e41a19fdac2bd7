package projection

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"migrationlog/checkpoint"
)

// rowWire is a row in a snapshot, which is a sequence of them (RFC 8742): all that a
// view knows of a migration as long as no event was lost.
type rowWire struct {
	_       struct{} `cbor:",toarray"`
	Seq     uint64
	PrevSeq uint64
	Last    uint64
	Event   []byte // an Upserted's CBOR
	Facts   factsWire
}

type factsWire struct {
	_                                struct{} `cbor:",toarray"`
	SourceNode                       uint64
	TargetNode                       uint64
	SourceGroup                      uint64
	WritePauseBudgetUS               uint64
	WallNS                           uint64
	Logical                          uint32
	HasTarget, HasSource             bool
	TargetUncertain, SourceUncertain bool
}

// Whole reports whether no event of the history was lost. Only then can a snapshot be
// taken: it does not tell of losses.
func (v *View) Whole() bool { return !v.losses.any() }

// Snapshot returns what View.Restore reads: the rows of a view that is whole, in the order of
// their ids.
func (v *View) Snapshot() ([]byte, error) {
	var b, event []byte
	for _, e := range v.ordered() {
		s := e.value
		if s.holes != (holes{}) || s.shaken {
			return nil, fmt.Errorf("migration %s: its history has a hole", checkpoint.MigrationID(e.key))
		}
		var err error
		if event, err = checkpoint.AppendUpserted(event[:0], &s.Checkpoint); err != nil {
			return nil, err
		}
		f := s.Facts
		row, err := cbor.Marshal(rowWire{
			Seq: s.Seq, PrevSeq: s.PrevSeq, Last: s.last, Event: event,
			Facts: factsWire{
				SourceNode: f.SourceNode, TargetNode: f.TargetNode, SourceGroup: f.SourceGroup, WritePauseBudgetUS: f.WritePauseBudgetUS,
				WallNS: f.StartedAtHLC.WallNS, Logical: f.StartedAtHLC.Logical, HasTarget: f.HasTarget, HasSource: f.HasSource,
				TargetUncertain: f.TargetUncertain, SourceUncertain: f.SourceUncertain,
			},
		})
		if err != nil {
			return nil, err
		}
		b = append(b, row...)
	}
	return b, nil
}

// Believe makes of the rows what a snapshot tells that was taken of this history up to
// the last event: what has been lost before it then puts nothing in doubt. That it has
// is remembered. For bytes that are no snapshot it returns an error, and changes nothing.
func (v *View) Believe(b []byte) error {
	restored, err := Restore(v.lastSeq, b)
	if err != nil {
		return err
	}
	restored.losses = v.losses
	restored.losses.settle(v.lastSeq)
	*v = *restored
	return nil
}

// Restore returns the view that a snapshot was taken of, whose last event had that
// number, or an error for bytes that are none.
func Restore(lastSeq uint64, b []byte) (*View, error) {
	v := New()
	v.lastSeq = lastSeq
	for len(b) > 0 {
		var w rowWire
		var err error
		if b, err = cbor.UnmarshalFirst(b, &w); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		event, err := checkpoint.DecodeEvent(w.Event)
		if err != nil {
			return nil, fmt.Errorf("snapshot: row of seq %d: %w", w.Seq, err)
		}
		upserted, ok := event.(checkpoint.Upserted)
		id := event.Migration()
		if _, again := v.rows.get(idKey(id)); !ok || again || w.Seq == 0 || w.Seq > w.Last || w.Last > lastSeq || w.PrevSeq >= w.Seq {
			return nil, fmt.Errorf("snapshot: row of migration %s, seq %d, does not fit", id, w.Seq)
		}
		f := w.Facts
		v.put(id, nil, &state{last: w.Last, Row: Row{
			Checkpoint: upserted.Checkpoint, Seq: w.Seq, PrevSeq: w.PrevSeq,
			Facts: Facts{
				SourceNode: f.SourceNode, TargetNode: f.TargetNode, SourceGroup: f.SourceGroup, WritePauseBudgetUS: f.WritePauseBudgetUS,
				StartedAtHLC: checkpoint.HLC{WallNS: f.WallNS, Logical: f.Logical}, HasTarget: f.HasTarget, HasSource: f.HasSource,
				TargetUncertain: f.TargetUncertain, SourceUncertain: f.SourceUncertain,
			},
		}})
	}
	return v, nil
}
