package projection

import "migrationlog/checkpoint"

// Doubt is the effect of lost events on one migration.
type Doubt uint8

const (
	// None: no lost event can have changed the migration's row or its facts.
	None Doubt = iota
	// Superseded: the migration lost an event, or may have lost one, but a later intact event
	// supersedes it. The row is correct. Its history has a gap.
	Superseded
	// InDoubt: a lost event may have been the migration's last event. The row may be wrong: the
	// migration may have a different row, or none.
	InDoubt
)

// String returns "none", "superseded" or "in doubt".
func (d Doubt) String() string { return [...]string{"none", "superseded", "in doubt"}[d] }

// doubt returns the effect of the losses on a migration with this state. The state is nil if the
// view does not know the migration. Only an event of a known kind supersedes a lost event. An event
// of an unknown kind may leave the row as the lost event made it.
//
// The store's own events change no row, so a lost one puts nothing in doubt.
func (l *losses) doubt(id checkpoint.MigrationID, s *state) Doubt {
	if id == checkpoint.StoreID {
		return None
	}
	newest := l.newestOf(id)
	switch {
	case s == nil && newest == 0:
		return None
	//mutant:in-doubt
	case s == nil || newest > s.LastSeq || s.status != ended && l.uncertain(s, partRow):
		return InDoubt
	case l.uncertain(s, partIncarnation): //mutant:superseded
		return Superseded
	}
	return None
}

// uncertain reports whether an event of the migration is missing, or may be missing, between the
// event that recorded the part and the migration's last event.
func (l *losses) uncertain(s *state, p part) bool {
	return s.gapSince[p] || l.possibleIn(s.Checkpoint.MigrationID, s.recordedAt(p), s.LastSeq)
}
