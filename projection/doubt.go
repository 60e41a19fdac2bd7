package projection

// Doubt is what lost events mean for one migration.
type Doubt uint8

const (
	// Untouched: no lost event can have changed the migration's row or its facts.
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

// holesAfter returns the holes of a migration after an event that names prevSeq as
// the one before. Before is its row until then, nil for none; begins says that the event
// is the first of a whole life: what was lost before it changes nothing.
func (l *losses) holesAfter(before *state, seq, prevSeq uint64, begins bool) (h holes) {
	var last uint64 // of its events that is known
	if before != nil {
		last = before.last
		if prevSeq != 0 {
			h = before.holes
		}
	}
	h.certain = h.certain || prevSeq != last
	if newest := l.newestUnclaimed(); newest > last && !(before == nil && begins) {
		if h.to == 0 {
			h.from = last + 1
		}
		h.to = seq - 1
	}
	return h
}

// doubt is what the losses mean for the migration with this row, nil for none.
func (l *losses) doubt(row *state) Doubt {
	newest := l.newestUnclaimed()
	switch {
	case row == nil && newest == 0:
		return Untouched
	case row == nil || row.last < newest || row.shaken:
		return InDoubt
	case row.holes.certain || l.unclaimedIn(row.holes.from, row.holes.to):
		return Proven
	}
	return Untouched
}
