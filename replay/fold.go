package replay

import (
	"slices"

	"migrationlog/projection"
)

// Fold folds records, in order, into a view and a report. The zero value is not
// ready: use NewFold.
type Fold struct {
	View   *projection.View
	report Report

	durable   uint64 // the highest DurableThrough since a writer last began after damage
	unsettled int    // the losses from this one on may still turn out to have been durable
}

// NewFold returns the fold of no records.
func NewFold() *Fold {
	return &Fold{View: projection.New()}
}

// Add folds in the next record.
func (f *Fold) Add(r Record) {
	if d := r.Damage; d != nil {
		f.addDamage(*d)
		return
	}
	if f.report.FramesOK == 0 {
		f.report.FirstSeq = r.Seq
	}
	f.report.FramesOK++
	f.report.LastSeq = r.Seq
	if r.DurableThrough < f.durable { // a writer that began after damage: it knows nothing of what was lost
		f.report.AcknowledgedLost = f.acknowledgedLost()
		f.unsettled, f.durable = len(f.report.Lost), 0
	}
	f.durable = max(f.durable, r.DurableThrough)
	if r.Unknown != nil {
		f.report.UnknownKinds++
		return
	}
	f.View.Apply(r.Seq, r.PrevSeq, r.Event)
}

func (f *Fold) addDamage(d Damage) {
	if d.Torn {
		f.report.TornTail = &d
		return
	}
	f.report.Damage = append(f.report.Damage, d)
	if d.Lost() > 0 {
		f.report.Lost = append(f.report.Lost, SeqRange{d.FirstSeq, d.LastSeq})
		f.View.Lose(d.FirstSeq, d.LastSeq)
	}
}

// acknowledgedLost are the losses that were durable by what the frames so far say.
func (f *Fold) acknowledgedLost() []SeqRange {
	acknowledged := slices.Clone(f.report.AcknowledgedLost)
	for _, lost := range f.report.Lost[f.unsettled:] {
		if lost.First <= f.durable {
			acknowledged = append(acknowledged, SeqRange{lost.First, min(lost.Last, f.durable)})
		}
	}
	return acknowledged
}

// Report returns what the records told so far.
func (f *Fold) Report() Report {
	r := f.report.Clone()
	r.AcknowledgedLost = f.acknowledgedLost()
	r.InDoubt = f.View.InDoubt()
	return r
}
