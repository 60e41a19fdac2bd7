package replay

import (
	"encoding/json"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// SeqRange is a range of sequence numbers, both ends included.
type SeqRange = segment.SeqRange

// Report describes the intact part of a log, its damage, and the effects of lost events. `replay-
// tool verify -o json` prints its JSON.
type Report struct {
	FirstSeq uint64 `json:"first_seq"` // of the whole frames; 0 in an empty log
	LastSeq  uint64 `json:"last_seq"`
	FramesOK uint64 `json:"frames_ok"`
	// SnapshotSeq is the last event of the snapshot that the rows come from, or 0. If it is set,
	// either the events before FirstSeq were not read, or events up to SnapshotSeq are lost without
	// a lost row.
	SnapshotSeq uint64 `json:"snapshot_seq,omitempty"`
	// UnknownKinds counts the intact frames with an event of a kind from a newer version. FramesOK
	// includes them. They change no row.
	UnknownKinds uint64     `json:"unknown_kinds"`
	Lost         []SeqRange `json:"lost"`
	// AcknowledgedLost lists the lost numbers that were certainly durable, by the evidence of the
	// watermark, of the durable-through of an intact header, or of a synced snapshot. For the other
	// lost numbers it cannot be known.
	AcknowledgedLost []SeqRange `json:"acknowledged_lost"`
	Damage           []Damage   `json:"damage"`
	TornTail         *Damage    `json:"torn_tail"`
	// InDoubt lists the migrations whose row may not be their latest. Superseded lists those whose
	// earlier history lost, or may have lost, an event (see projection.Doubt). Both lists contain
	// only migrations with a row.
	InDoubt    []checkpoint.MigrationID `json:"in_doubt"`
	Superseded []checkpoint.MigrationID `json:"superseded"`
	// UnnamedInDoubt is true if a lost event cannot be attributed to a migration. Then migrations
	// without a row may be in doubt too.
	UnnamedInDoubt bool `json:"unnamed_in_doubt"`
	// Quarantined lists the files to which Open moved or copied the bytes that it cut off or
	// replaced. The names are relative to the log directory.
	Quarantined []string `json:"quarantined,omitempty"`
}

// Clone returns a copy that shares nothing with r.
func (r Report) Clone() Report {
	r.Lost = slices.Clone(r.Lost)
	r.AcknowledgedLost = slices.Clone(r.AcknowledgedLost)
	r.Damage = slices.Clone(r.Damage)
	r.InDoubt = slices.Clone(r.InDoubt)
	r.Superseded = slices.Clone(r.Superseded)
	r.Quarantined = slices.Clone(r.Quarantined)
	if r.TornTail != nil {
		torn := *r.TornTail
		r.TornTail = &torn
	}
	return r
}

// LostCount returns the number of lost frames.
func (r Report) LostCount() uint64 { return CountSeqs(r.Lost) }

// CountSeqs returns the number of sequence numbers in the ranges.
func CountSeqs(ranges []SeqRange) (n uint64) {
	for _, r := range ranges {
		n += r.Last - r.First + 1
	}
	return n
}

// Clean reports whether there is neither damage nor a torn tail. The report of an Open that started
// from a snapshot covers the part before the snapshot only if the first segment is missing (see
// SnapshotSeq).
func (r Report) Clean() bool { return len(r.Damage) == 0 && r.TornTail == nil }

// MarshalJSON returns the report with empty lists as [].
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report // without this method
	p := plain(r)
	p.Lost = notNil(p.Lost)
	p.AcknowledgedLost = notNil(p.AcknowledgedLost)
	p.Damage = notNil(p.Damage)
	p.InDoubt = notNil(p.InDoubt)
	p.Superseded = notNil(p.Superseded)
	return json.Marshal(p)
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
