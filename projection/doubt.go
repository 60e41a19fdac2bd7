package projection

import "migrationlog/checkpoint"

// Doubt is what lost events mean for one migration.
type Doubt uint8

const (
	// Untouched: no lost event was the migration's.
	Untouched Doubt = iota
	// Proven: a lost event was the migration's or may have been, and a later one,
	// which is here, stands in its place. The row is right, its history has a hole.
	Proven
	// InDoubt: a lost event may have been the migration's last. Its true row may be
	// another, or none.
	InDoubt
)

// String returns "untouched", "proven" or "in doubt".
func (d Doubt) String() string { return [...]string{"untouched", "proven", "in doubt"}[d] }

// holes is where events may be lost in one life of a migration.
type holes struct {
	certain  bool   // a frame of the migration names a lost one as the one before
	from, to uint64 // between these numbers a lost event that nobody knows may be its own; 0 and 0 for nowhere
}

// holesAfter returns the holes of a migration once it has the row, which comes
// after the row before, nil for none.
func (l *losses) holesAfter(before, row *Row) (h holes) {
	if before != nil && row.PrevSeq != 0 {
		h = before.holes
	}
	var last uint64 // of its events that is known
	if before != nil {
		last = before.Seq
	}
	h.certain = h.certain || row.PrevSeq != last
	begins := before == nil && row.Checkpoint.Phase() == checkpoint.PhaseAddLearner
	if newest := l.newestUnclaimed(); newest > last && !begins {
		if h.to == 0 {
			h.from = last + 1
		}
		h.to = row.Seq - 1
	}
	return h
}

// doubt is what the losses mean for the migration with this row, nil for none.
func (l *losses) doubt(row *Row) Doubt {
	newest := l.newestUnclaimed()
	switch {
	case newest == 0 && (row == nil || !row.holes.certain):
		return Untouched
	case row == nil || row.Seq < newest:
		return InDoubt
	case row.holes.certain || l.unclaimedIn(row.holes.from, row.holes.to):
		return Proven
	}
	return Untouched
}
