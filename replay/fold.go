package replay

import (
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/projection"
)

// Fold folds records, in order, into a view and a report.
type Fold struct {
	View      *projection.View
	last      segment.FrameID
	report    Report
	losses    segment.Losses
	snapshots []segment.Snapshot
}

// NewFold returns the fold of no records of a log whose directory holds dir. At the
// frame that a snapshot names it has what earlier losses have cost.
func NewFold(dir segment.Directory, snapshots []segment.Snapshot) *Fold {
	return &Fold{View: projection.New(), losses: dir.Losses(), snapshots: snapshots}
}

// Last is the log's last whole frame, zero for none.
func (f *Fold) Last() segment.FrameID { return f.last }

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
	f.last = r.frameID()
	f.losses.Durable(r.DurableThrough)
	if r.Unknown != nil {
		f.report.UnknownKinds++
		f.View.Pass(r.Seq, r.PrevSeq, r.Unknown.MigrationID)
	} else {
		f.View.Apply(r.Seq, r.PrevSeq, r.Event)
	}
	if !f.View.Whole() {
		f.believe(r)
	}
}

// believe makes the view what it was when that record was the last, if there is a
// snapshot of it.
func (f *Fold) believe(r Record) {
	for _, s := range f.snapshots {
		if s.Last == f.last && f.View.Believe(s.Body) == nil {
			f.report.SnapshotSeq = r.Seq
		}
	}
}

func (f *Fold) addDamage(d Damage) {
	if d.Torn {
		f.report.TornTail = &d
		return
	}
	f.report.Damage = append(f.report.Damage, d)
	f.losses.Durable(d.DurableThrough)
	if d.Lost() > 0 {
		f.losses.Lose(SeqRange{First: d.FirstSeq, Last: d.LastSeq})
		f.View.Lose(d.FirstSeq, d.LastSeq)
	}
}

// Report returns what the records told so far.
func (f *Fold) Report() Report {
	r := f.report
	r.Lost = f.losses.Lost()
	r.AcknowledgedLost = f.losses.Acknowledged()
	r.UnnamedInDoubt = f.View.Doubt(checkpoint.MigrationID{}) == projection.InDoubt
	for _, row := range f.View.Doubtful() {
		switch row.Doubt {
		case projection.Proven:
			r.Proven = append(r.Proven, row.Checkpoint.MigrationID)
		case projection.InDoubt:
			r.InDoubt = append(r.InDoubt, row.Checkpoint.MigrationID)
		}
	}
	return r.Clone()
}
