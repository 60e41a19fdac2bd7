package projection

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"migrationlog/checkpoint"
)

// rowV1 is a row in a snapshot of version 1. The body of such a snapshot is a CBOR sequence of
// rows.
type rowV1 struct {
	_       struct{} `cbor:",toarray"`
	Seq     uint64
	PrevSeq uint64
	Last    uint64
	Event   []byte // an Upserted's CBOR
	Facts   struct {
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
}

// RestoreV1 is like Restore, for a snapshot of version 1.
func RestoreV1(lastSeq uint64, b []byte) (*View, error) {
	var states []*state
	seen := make(map[checkpoint.MigrationID]bool)
	for len(b) > 0 {
		var w rowV1
		var err error
		if b, err = cbor.UnmarshalFirst(b, &w); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		s := &state{Latest: Latest{Seq: w.Seq, PrevSeq: w.PrevSeq, LastSeq: w.Last}}
		if err := s.decodeEvent(w.Event); err != nil {
			return nil, fmt.Errorf("snapshot: the row with seq %d: %w", w.Seq, err)
		}
		id := s.Checkpoint.MigrationID
		if seen[id] || w.Seq == 0 || w.Seq > w.Last || w.Last > lastSeq || w.PrevSeq >= w.Seq {
			return nil, fmt.Errorf("snapshot: the row of migration %s has seq %d, which does not fit the snapshot", id, w.Seq)
		}
		seen[id] = true
		f := w.Facts
		s.facts = facts{
			sourceNode: f.SourceNode, targetNode: f.TargetNode, sourceGroup: f.SourceGroup, writePauseBudgetUS: f.WritePauseBudgetUS,
			startedWallNS: f.WallNS, startedLogical: f.Logical, hasTarget: f.HasTarget, hasSource: f.HasSource,
		}
		s.gapSince[partTarget], s.gapSince[partSource] = f.TargetUncertain, f.SourceUncertain
		states = append(states, s)
	}
	v := viewOf(states, lastSeq)
	v.deriveFacts()
	return v, nil
}
