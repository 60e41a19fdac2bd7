package replay

import (
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Fold folds records, in order, into a view and a report.
type Fold struct {
	View   *projection.View
	report Report

	segment   string // of the last record
	opening   bool   // none of its records was whole so far
	before    int    // the losses up to this one are of earlier segments
	unsettled int    // the losses from this one on may still turn out to have been durable
	durable   uint64 // the highest DurableThrough that speaks of these
}

// NewFold returns the fold of no records.
func NewFold() *Fold {
	return &Fold{View: projection.New()}
}

// Add folds in the next record.
func (f *Fold) Add(r Record) {
	if r.Damage != nil {
		f.addDamage(*r.Damage)
		return
	}
	if f.report.FramesOK == 0 {
		f.report.FirstSeq = r.Seq
	}
	f.report.FramesOK++
	f.report.LastSeq = r.Seq
	f.enter(r.Segment)
	if f.opening && !vouches(r) {
		f.settle(f.before)
	}
	f.opening = false
	f.durable = max(f.durable, r.DurableThrough)
	if r.Unknown != nil {
		f.report.UnknownKinds++
		f.View.Skip(r.Seq, r.PrevSeq)
		return
	}
	f.View.Apply(r.Seq, r.PrevSeq, r.Event)
}

// vouches reports whether the first whole record of a segment says that all
// before it was durable, as it does where the segment before was filled up. A
// writer that begins a segment because the end of the log is lost does not know.
func vouches(r Record) bool {
	first, ok := segment.ParseName(r.Segment)
	return ok && r.Seq == first && r.DurableThrough == r.Seq-1
}

func (f *Fold) enter(segment string) {
	if segment != f.segment {
		f.segment, f.opening, f.before = segment, true, len(f.report.Lost)
	}
}

// settle ends what may be told of the losses up to the n-th: later writers do
// not know whether they had been durable.
func (f *Fold) settle(n int) {
	f.report.AcknowledgedLost = append(f.report.AcknowledgedLost, f.acknowledged(f.report.Lost[f.unsettled:n])...)
	f.unsettled, f.durable = n, 0
}

func (f *Fold) addDamage(d Damage) {
	if d.Torn {
		f.report.TornTail = &d
		return
	}
	f.enter(d.Segment)
	f.report.Damage = append(f.report.Damage, d)
	if !f.opening || f.unsettled == f.before { // else it is not known what the segment's writer knew
		f.durable = max(f.durable, d.DurableThrough)
	}
	if d.Lost() > 0 {
		f.report.Lost = append(f.report.Lost, SeqRange{d.FirstSeq, d.LastSeq})
		f.View.Lose(d.FirstSeq, d.LastSeq)
	}
}

// acknowledged are those of the losses that were durable by what frames say.
func (f *Fold) acknowledged(lost []SeqRange) (acknowledged []SeqRange) {
	for _, l := range lost {
		if l.First <= f.durable {
			acknowledged = append(acknowledged, SeqRange{l.First, min(l.Last, f.durable)})
		}
	}
	return acknowledged
}

// Report returns what the records told so far.
func (f *Fold) Report() Report {
	r := f.report.Clone()
	r.AcknowledgedLost = append(r.AcknowledgedLost, f.acknowledged(f.report.Lost[f.unsettled:])...)
	r.InDoubt = f.View.InDoubt()
	return r
}
