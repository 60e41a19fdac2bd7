package replay

import (
	"bytes"
	"io/fs"
	"slices"

	"github.com/google/uuid"

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
	snapshots []segment.Snapshot // newest first, without those that the fold has passed
	fsys      fs.FS              // nil if the caller holds the log's lock

	log        uuid.UUID
	attributed bool                              // AttributeLosses was called after the last loss
	links      map[uint64]checkpoint.MigrationID // of lost events to which intact events are linked
	coverage   Coverage

	lastMS uint64 // wall clock of the last intact event
	closed int    // the findings in report.Damage before this index are complete
}

// NewFold returns an empty fold for the log with this directory. The snapshots are sorted, newest
// first. If the last frame of one is added, the fold continues with its rows.
func NewFold(dir segment.Directory, snapshots []segment.Snapshot) *Fold {
	return &Fold{View: projection.New(), losses: dir.Losses(), snapshots: snapshots, log: dir.Manifest.UUID}
}

// Last returns the log's last intact frame, or zero if there is none.
func (f *Fold) Last() segment.FrameID { return f.last }

// Coverage returns the number of segments that a Reader has read to make the fold.
func (f *Fold) Coverage() Coverage { return f.coverage }

// SnapshotSeq returns the last event of the snapshot whose rows the fold has adopted, or 0.
func (f *Fold) SnapshotSeq() uint64 { return f.report.SnapshotSeq }

// Add applies the next record.
func (f *Fold) Add(r Record) {
	if r.Damage != nil {
		f.AddDamage(*r.Damage)
		return
	}
	f.closeDamage(r.WallMS())
	f.Count(r.Seq, r.frameID(), 1)
	f.losses.RaiseDurable(r.DurableThrough)
	f.addLink(r)
	if r.Unknown != nil {
		f.report.UnknownKinds++
	}
	f.View.ApplyChange(r.Seq, r.PrevSeq, r.change())
	if s := f.snapshotAt(r.Seq); s.Last == f.last { //mutant:snapshot-met
		f.adoptSnapshot(s)
	}
}

// snapshotAt returns the snapshot that ends with this number, or a zero Snapshot.
func (f *Fold) snapshotAt(seq uint64) segment.Snapshot {
	for n := len(f.snapshots); n > 0; n-- {
		if s := f.snapshots[n-1]; s.Last.Seq >= seq {
			if s.Last.Seq > seq {
				break
			}
			return s
		}
		f.snapshots = f.snapshots[:n-1]
	}
	return segment.Snapshot{}
}

// closeDamage sets BeforeMS of the damage in segments that has none yet. The wall clock is that of
// the next intact event.
func (f *Fold) closeDamage(wallMS uint64) {
	for ; f.closed < len(f.report.Damage); f.closed++ {
		if d := &f.report.Damage[f.closed]; d.InSegment() {
			d.BeforeMS = wallMS
		}
	}
	f.lastMS = wallMS
}

// Count adds the intact frames from firstSeq to last to the report. It does not change the view.
func (f *Fold) Count(firstSeq uint64, last segment.FrameID, frames uint64) {
	if f.report.FramesOK == 0 {
		f.report.FirstSeq = firstSeq
	}
	f.report.FramesOK += frames
	f.report.LastSeq = last.Seq
	f.last = last
}

// adoptSnapshot replaces the rows with those of a snapshot that ends with the frame just added.
// Open has the same rows if it starts from this snapshot. If nothing was lost, the view must
// already have these rows. If they differ, adoptSnapshot reports damage.
//
// A snapshot of an earlier version is used only after a loss that no later version covers. Open
// never starts from it, because it does not have all facts. The writer of version 1 may also have
// kept rows that an abort had ended.
func (f *Fold) adoptSnapshot(s segment.Snapshot) {
	whole := f.View.Complete()
	if s.Version < segment.SnapshotVersion && !f.View.HasUnresolvedLosses() {
		return
	}
	snapshot, err := Restore(s)
	if err != nil {
		return
	}
	if whole {
		if f.View.Equal(snapshot) { //mutant:snapshot-compared
			return
		}
		f.AddDamage(Damage{
			Segment: segment.SnapshotDir + "/" + s.Name(), Length: s.SizeBytes(), Severity: segment.EndangersEvents,
			Reason: "its rows differ from those of the frames before it: a segment or the snapshot is from another copy of this log. The snapshot's rows are used. Check the migrations, or restore the log and its snapshots from one backup",
		})
	}
	f.View.AdoptSnapshot(snapshot)
	f.report.SnapshotSeq = s.Last.Seq
}

// SetView sets the view if the caller folded the frames itself. The argument snapshotSeq is the
// last event of the snapshot from which the caller started, or 0 if it used none.
func (f *Fold) SetView(v *projection.View, unknownKinds, snapshotSeq uint64) {
	f.View, f.report.UnknownKinds, f.report.SnapshotSeq = v, unknownKinds, snapshotSeq
}

// Restore returns the view in a snapshot. It returns an error if the snapshot is damaged.
func Restore(s segment.Snapshot) (*projection.View, error) {
	s, err := s.Load()
	if err != nil {
		return nil, err
	}
	switch s.Version {
	case 1:
		return projection.RestoreV1(s.Last.Seq, s.Body)
	case 2:
		return projection.RestoreV2(s.Last.Seq, s.Body)
	}
	return projection.Restore(s.Last.Seq, s.Body)
}

// AddDamage adds the next damage of the log to the report and to the view. It sets the times of
// damage in segments. If the caller folds the frames itself, the times are not known.
func (f *Fold) AddDamage(d Damage) {
	f.losses.RaiseDurable(d.DurableThrough)
	if d.InSegment() {
		d.AfterMS = f.lastMS
	}
	if d.Torn {
		f.report.TornTail = &d
		return
	}
	f.report.Damage = append(f.report.Damage, d)
	if d.Lost() > 0 {
		f.losses.AddLost(SeqRange{First: d.FirstSeq, Last: d.LastSeq})
		f.View.MarkLost(d.FirstSeq, d.LastSeq)
		f.attributed = false
	}
}

// Report returns the report on the records so far. A writer may have opened the log while a Reader
// read it, and may have skipped numbers. Report therefore reads the manifest again. If the log is
// damaged, it also calls AttributeLosses, which can change the doubt of rows.
func (f *Fold) Report() Report {
	if f.fsys != nil { //mutant:manifest-meanwhile
		if m, _, err := segment.ReadManifest(f.fsys); err == nil {
			f.losses.SetSkipped(m.Skipped)
		}
		f.AttributeLosses(f.fsys)
	}
	r := f.report
	r.Lost = f.losses.Lost()
	r.AcknowledgedLost = f.losses.Acknowledged()
	r.Epoch, r.EpochUncertain = f.View.Epoch(), f.View.EpochUncertain()
	r.UnnamedInDoubt = f.View.HasUnattributedLosses()
	r.InDoubt = f.View.InDoubtWithoutRow()
	for _, row := range f.View.Suspect() {
		switch row.Doubt {
		case projection.Superseded:
			r.Superseded = append(r.Superseded, row.Checkpoint.MigrationID)
		case projection.InDoubt:
			r.InDoubt = append(r.InDoubt, row.Checkpoint.MigrationID)
		}
	}
	slices.SortFunc(r.InDoubt, func(a, b checkpoint.MigrationID) int { return bytes.Compare(a[:], b[:]) })
	return r.Clone()
}
