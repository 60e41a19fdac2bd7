package replay

import (
	"encoding/json"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// SeqRange is a range of sequence numbers, both ends included.
type SeqRange = segment.SeqRange

// Report describes the intact part of a log, its damage, and the effects of lost events. Its JSON
// form is the output of `replay-tool verify -o json`.
type Report struct {
	FirstSeq uint64 `json:"first_seq"` // the first intact frame that was read; 0 if there is none
	LastSeq  uint64 `json:"last_seq"`
	FramesOK uint64 `json:"frames_ok"`
	// SnapshotSeq is the number of the last event in the snapshot from which the rows were taken,
	// or 0 if no snapshot was used. If Open starts from a snapshot, it does not read the events
	// before FirstSeq. If the whole log was read, a snapshot is used only if events before its end
	// were lost, or if its rows differ from those of the events (see Damage). Lost events up to
	// SnapshotSeq then change no row.
	SnapshotSeq uint64 `json:"snapshot_seq,omitempty"`
	// UnknownKinds counts the intact frames with an event of a kind from a newer version. FramesOK
	// includes them. They change no row.
	UnknownKinds uint64     `json:"unknown_kinds"`
	Lost         []SeqRange `json:"lost"`
	// AcknowledgedLost lists the lost numbers whose events were certainly durable. The evidence is
	// the watermark, the durable-through in an intact header, or a synced snapshot. The other lost
	// events may or may not have been durable.
	AcknowledgedLost []SeqRange `json:"acknowledged_lost"`
	Damage           []Damage   `json:"damage"`
	TornTail         *Damage    `json:"torn_tail"`
	// InDoubt lists the migrations with a row that may be wrong, because a lost event may have been
	// the migration's last event. A migration without a row is listed only if a lost event was
	// attributed to it (see UnnamedInDoubt).
	InDoubt []checkpoint.MigrationID `json:"in_doubt"`
	// Superseded lists the migrations with a row that is correct although the migration lost, or
	// may have lost, an event. A later intact event supersedes the lost one. See projection.Doubt.
	Superseded []checkpoint.MigrationID `json:"superseded"`
	// UnnamedInDoubt is true if a lost event cannot be attributed to any migration. If it is true,
	// all other migrations without a row may be in doubt too.
	UnnamedInDoubt bool `json:"unnamed_in_doubt"`
	// Epoch is the highest epoch of an event. If EpochUncertain is true, a lost event may have had a
	// higher one.
	Epoch          uint64 `json:"epoch,omitempty"`
	EpochUncertain bool   `json:"epoch_uncertain,omitempty"`
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

// CountFindings returns the number of findings in Damage with this severity. The torn tail is not
// one of them.
func (r Report) CountFindings(s segment.Severity) (n int) {
	for _, d := range r.Damage {
		if d.Severity == s {
			n++
		}
	}
	return n
}

// Damaged reports whether a finding loses or endangers events. Harmless findings and a torn tail do
// not count.
func (r Report) Damaged() bool { return r.CountFindings(segment.Harmless) < len(r.Damage) }

// Clean reports whether there is no finding at all, not even a harmless one, and no torn tail. The
// report of an Open that started from a snapshot covers the part before the snapshot only if the
// first segment is missing (see SnapshotSeq).
func (r Report) Clean() bool { return len(r.Damage) == 0 && r.TornTail == nil }

// report is a Report without its methods, so that encoding/json reads and writes its fields.
type report Report

// reportJSON is a report in its JSON form.
type reportJSON struct {
	Verdict Verdict `json:"verdict"`
	report
}

// toJSON returns the report with its verdict, and with empty lists in place of nil.
func (r Report) toJSON() reportJSON {
	out := reportJSON{r.Verdict(), report(r)}
	out.Lost = notNil(r.Lost)
	out.AcknowledgedLost = notNil(r.AcknowledgedLost)
	out.Damage = notNil(r.Damage)
	out.InDoubt = notNil(r.InDoubt)
	out.Superseded = notNil(r.Superseded)
	return out
}

// MarshalJSON returns the report with the key verdict, and with empty lists as [].
func (r Report) MarshalJSON() ([]byte, error) { return json.Marshal(r.toJSON()) }

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
