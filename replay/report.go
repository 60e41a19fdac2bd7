package replay

import (
	"encoding/json"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// SeqRange is the numbers from First to Last, both included.
type SeqRange = segment.SeqRange

// Report says how much of a log is whole, what is damaged, and what follows
// from that. Its JSON is what `replay-tool verify -o json` prints.
type Report struct {
	FirstSeq uint64 `json:"first_seq"` // of the whole frames; 0 in an empty log
	LastSeq  uint64 `json:"last_seq"`
	FramesOK uint64 `json:"frames_ok"`
	// SnapshotSeq is the number of the last event of a snapshot that the rows were taken
	// from, 0 for none: the events before FirstSeq were not read, or some up to it are
	// lost, and cost no row.
	SnapshotSeq uint64 `json:"snapshot_seq,omitempty"`
	// UnknownKinds counts whole frames of a kind that a newer version wrote. They
	// are among FramesOK, and change no row.
	UnknownKinds uint64     `json:"unknown_kinds"`
	Lost         []SeqRange `json:"lost"`
	// AcknowledgedLost are the lost numbers that the watermark, the durable through of a valid
	// header, or a synced snapshot proves to have been durable. Of the others it cannot be known.
	AcknowledgedLost []SeqRange `json:"acknowledged_lost"`
	Damage           []Damage   `json:"damage"`
	TornTail         *Damage    `json:"torn_tail"`
	// InDoubt are the migrations whose row may not be their last, Superseded those whose
	// history has or may have a hole before it: see projection.Doubt. Only
	// migrations with a row are listed; all others of these are untouched.
	InDoubt    []checkpoint.MigrationID `json:"in_doubt"`
	Superseded []checkpoint.MigrationID `json:"superseded"`
	// UnnamedInDoubt says that there may be migrations in doubt of which the log has
	// no event left, or none since they ended: nobody knows whose a lost event was.
	UnnamedInDoubt bool `json:"unnamed_in_doubt"`
	// Quarantined are the files, relative to the log directory, into which opening
	// the log for writing put what it replaced or cut off.
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

// LostCount is the number of frames lost.
func (r Report) LostCount() uint64 { return CountSeqs(r.Lost) }

// CountSeqs is how many numbers the ranges hold.
func CountSeqs(ranges []SeqRange) (n uint64) {
	for _, r := range ranges {
		n += r.Last - r.First + 1
	}
	return n
}

// Clean reports whether neither damage nor a torn tail was found. Of what lies before a
// snapshot, an opening finds only that the first segment is gone: see SnapshotSeq.
func (r Report) Clean() bool { return len(r.Damage) == 0 && r.TornTail == nil }

// MarshalJSON writes the report with empty lists as [].
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
