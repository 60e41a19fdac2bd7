package projection

// Doubt is the effect of lost events on one migration.
type Doubt uint8

const (
	// None: no lost event can have changed the migration's row or its facts.
	None Doubt = iota
	// Superseded: a lost event was the migration's or may have been, and a later one,
	// which is here, supersedes it. The row is right, its history has a gap.
	Superseded
	// InDoubt: a lost event may have been the migration's last. Its true row may be
	// another, or none.
	InDoubt
)

// String returns "none", "superseded" or "in doubt".
func (d Doubt) String() string { return [...]string{"none", "superseded", "in doubt"}[d] }

// doubt returns the effect of the losses on the migration with this state, nil for one that the
// view does not know. Only an event of a known kind supersedes a lost one, because an unknown kind
// may not have changed the row.
func (l *losses) doubt(s *state) Doubt {
	switch {
	case s == nil && l.newestUnattributed() == 0:
		return None
	//mutant:in-doubt
	case s == nil || l.newestUnattributed() > s.last || s.status != ended && l.uncertain(s, partRow):
		return InDoubt
	case l.uncertain(s, partIncarnation): //mutant:superseded
		return Superseded
	}
	return None
}

// uncertain reports whether an event of the migration is missing, or may be, between the event
// that recorded the part and the migration's last event.
func (l *losses) uncertain(s *state, p part) bool {
	return s.gapSince[p] || l.unattributedIn(s.recordedAt(p), s.last)
}
