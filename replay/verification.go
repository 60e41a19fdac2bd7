package replay

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Verdict is the result of a check of a log in one word. It is about the bytes of the log: a log
// whose bytes are whole may still have a history that breaks the rules of the protocol.
type Verdict string

// The verdicts, from the worst to the best.
const (
	VerdictDamaged  Verdict = "damaged"  // a finding loses or endangers events
	VerdictHarmless Verdict = "harmless" // there are only harmless findings, and perhaps a torn tail
	VerdictTorn     Verdict = "torn"     // there is only a torn tail
	VerdictWhole    Verdict = "whole"    // there is no finding
)

// Verdict returns the verdict on the part of the log that the report covers.
func (r Report) Verdict() Verdict {
	switch {
	case r.Damaged():
		return VerdictDamaged
	case len(r.Damage) > 0:
		return VerdictHarmless
	case r.TornTail != nil:
		return VerdictTorn
	}
	return VerdictWhole
}

// Verification is the result of a check of a whole log. Its JSON form is the output of
// `replay-tool verify -o json`. It has the keys of the report, and uuid, in_doubt_in_flight and, if
// it was compared with a baseline, baseline and the key known of each finding.
type Verification struct {
	UUID   uuid.UUID // of the log; zero in the output of a version that did not print it
	Report Report
	// InDoubt has the rows of Report.InDoubt, in the order of their migration ids. It is empty if the
	// Verification was read from JSON.
	InDoubt  []projection.Row
	Baseline *Comparison // nil if there is no baseline
}

// VerifyAll is like Verify, and returns the rows in doubt too. It calls progress as FoldAll does.
func (r *Reader) VerifyAll(ctx context.Context, progress func(events uint64)) (Verification, error) {
	names, summariesErr := segment.SummaryNames(r.fsys)
	fold, err := r.foldAll(ctx, progress, func(v *projection.View) {
		if summariesErr == nil && len(names) == 0 { // without summaries the report needs only the rows
			v.ForgetEnded()
		}
	})
	if err != nil {
		return Verification{}, err
	}
	v := Verification{UUID: r.dir.Manifest.UUID, Report: fold.Report()}
	for _, row := range fold.View.Suspect() {
		if row.Doubt == projection.InDoubt {
			v.InDoubt = append(v.InDoubt, row)
		}
	}
	return v, nil
}

// InDoubtInFlight returns the rows in doubt that are in flight, which is so before Complete.
func (v Verification) InDoubtInFlight() []projection.Row {
	return slices.DeleteFunc(slices.Clone(v.InDoubt), func(r projection.Row) bool {
		return r.Checkpoint.Phase() == checkpoint.PhaseComplete
	})
}

// MarshalJSON returns the keys of the report and those of the Verification in one object.
func (v Verification) MarshalJSON() ([]byte, error) {
	out := struct {
		UUID uuid.UUID `json:"uuid"`
		reportJSON
		Damage          any                      `json:"damage"` // in place of those of the report
		TornTail        any                      `json:"torn_tail"`
		InDoubtInFlight []checkpoint.MigrationID `json:"in_doubt_in_flight"`
		Baseline        any                      `json:"baseline,omitempty"`
	}{UUID: v.UUID, reportJSON: v.Report.toJSON(), InDoubtInFlight: []checkpoint.MigrationID{}}
	out.Damage, out.TornTail = out.reportJSON.Damage, out.reportJSON.TornTail
	for _, row := range v.InDoubtInFlight() {
		out.InDoubtInFlight = append(out.InDoubtInFlight, row.Checkpoint.MigrationID)
	}
	if v.Baseline != nil {
		out.Damage, out.TornTail = v.Baseline.findingsJSON(v.Report)
		out.Baseline = v.Baseline.toJSON(v.Report)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the output of `replay-tool verify -o json`, except InDoubt and Baseline. It
// returns an error for JSON without the keys of a report.
func (v *Verification) UnmarshalJSON(b []byte) error {
	in := struct {
		UUID uuid.UUID `json:"uuid"`
		reportJSON
		Damage *[]Damage `json:"damage"`
	}{}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	if in.Damage == nil {
		return errors.New("it has no key damage")
	}
	*v = Verification{UUID: in.UUID, Report: Report(in.report)}
	v.Report.Damage = *in.Damage
	return nil
}
