package oracle

import (
	"maps"
	"strings"

	"github.com/google/uuid"
)

// Doubt is the effect of the lost numbers on one migration.
type Doubt uint8

// The values of Doubt, in the same order as in the store.
const (
	None       Doubt = iota // no lost event can belong to the migration
	Superseded              // a lost event may belong to the migration, but a later event supersedes it
	InDoubt                 // a lost event may be the last event of the migration
)

// mark is the event that last set a value. It is broken if an event of the migration is known to be
// missing after it.
type mark struct {
	seq    uint64
	broken bool
}

// migration is the state of a migration's current incarnation, or of one that has ended.
type migration struct {
	row                              *Event // nil for none
	rowSeq, rowPrev                  uint64
	last                             uint64
	index                            uint64 // of the last event
	facts                            Facts
	begin, rowSource, target, source mark // rowSource is the mark of the row
	ended                            bool
}

// Row is the latest checkpoint of a migration.
type Row struct {
	Event                            Event // only the fields from the body are meaningful
	Seq, Prev, Last, Index           uint64
	Facts                            Facts
	TargetUncertain, SourceUncertain bool
	Doubt                            Doubt
}

// State is the result of folding the events of a log.
type State struct {
	SnapshotSeq uint64   // the number of the last adopted snapshot
	Mismatched  []uint64 // snapshots that differ from the state before them, although no event was lost

	migrations   map[uuid.UUID]*migration
	lost         []Range
	unattributed []Range
	resolved     uint64 // a snapshot covers the losses up to this number
	epoch        uint64 // the highest of an event
	epochUnknown bool   // an adopted snapshot does not have the epoch
}

// Fold applies the events of a log in order and returns the resulting state.
func Fold(l *Log) *State {
	s := &State{migrations: map[uuid.UUID]*migration{}, lost: l.Lost, unattributed: l.Lost}
	for _, e := range l.Events {
		s.apply(e)
		for _, snapshot := range l.Snapshots {
			if snapshot.isOf(e) {
				s.meet(snapshot)
			}
		}
	}
	return s
}

// meet adopts or ignores a snapshot that was taken after the event that was applied last. A
// snapshot of version 1 or 2 is ignored, unless an event was lost that no adopted snapshot covers.
// If no event before a snapshot of version 3 was lost, it is compared with the present state, and a
// difference is recorded in Mismatched.
func (s *State) meet(snapshot Snapshot) {
	switch {
	case snapshot.Version < 3:
		if Overlap(s.lost, s.resolved, snapshot.Seq) {
			s.adopt(snapshot)
		}
		return
	case Overlap(s.lost, 0, snapshot.Seq):
		s.adopt(snapshot)
		return
	}
	if !s.equals(snapshot) {
		s.Mismatched = append(s.Mismatched, snapshot.Seq)
	}
	s.adopt(snapshot)
}

// Snapshot returns the state as a snapshot. The last event that was applied must be last.
func (s *State) Snapshot(last Event) Snapshot {
	return Snapshot{Seq: last.Seq, Segment: last.Segment, HeaderCRC: last.HeaderCRC, Version: 3, epoch: s.epoch, states: s.migrations}
}

// equals reports whether a snapshot has the same state.
func (s *State) equals(snapshot Snapshot) bool {
	return s.epoch == snapshot.epoch && maps.EqualFunc(s.migrations, snapshot.states, func(a, b *migration) bool {
		sameRow := (a.row == nil) == (b.row == nil) && (a.row == nil || a.row.sameCheckpoint(*b.row))
		return sameRow && a.rowSeq == b.rowSeq && a.rowPrev == b.rowPrev && a.last == b.last && a.index == b.index && a.facts == b.facts &&
			a.begin.broken == b.begin.broken && a.rowSource.broken == b.rowSource.broken &&
			a.target.broken == b.target.broken && a.source.broken == b.source.broken
	})
}

// adopt replaces the state by the state of the snapshot. It resolves all losses before the
// snapshot.
func (s *State) adopt(snapshot Snapshot) {
	s.SnapshotSeq, s.resolved = snapshot.Seq, snapshot.Seq
	s.unattributed = Without(s.unattributed, Range{1, snapshot.Seq})
	if s.epochUnknown = snapshot.Version < 3; !s.epochUnknown {
		s.epoch = snapshot.epoch
	}
	own := s.migrations
	s.migrations = map[uuid.UUID]*migration{}
	for id, m := range snapshot.states {
		// Versions 1 and 2 do not have all facts. The links show that no event of this migration is
		// missing.
		if o := own[id]; snapshot.Version < 3 && o != nil && !o.ended && o.last == m.last && (o.row == nil) == (m.row == nil) && !o.begin.broken {
			m = o
		}
		adopted := *m
		for _, mark := range []*mark{&adopted.begin, &adopted.rowSource, &adopted.target, &adopted.source} {
			mark.seq = snapshot.Seq // so that no loss up to the snapshot counts any more
		}
		s.migrations[id] = &adopted
	}
}

func (s *State) apply(e Event) {
	m := s.migrations[e.Migration]
	s.epoch = max(s.epoch, e.Epoch)
	isNew := m == nil || m.ended
	if isNew {
		m = &migration{}
		if e.Prev == 0 {
			m.facts.Began = e.Seq
		}
		s.migrations[e.Migration] = m
	}
	known := m.last
	lostPrev := Overlap(s.lost, e.Prev-1, e.Prev) && e.Prev > s.resolved
	if lostPrev {
		s.unattributed = Without(s.unattributed, Range{e.Prev, e.Prev})
	}
	if e.Prev != known && (e.Prev > known || lostPrev) {
		m.begin.broken, m.rowSource.broken, m.target.broken, m.source.broken = true, true, true, true
	}
	switch {
	case e.Kind == KindUpserted:
		s.upsert(m, e, known, isNew)
	case e.Kind == KindRestored:
		m.restore(e)
	case e.changesRow():
		m.row, m.ended = nil, true
		if e.Prev == 0 {
			m.begin = mark{seq: known}
		}
	case e.Kind == KindAbortBegun, e.Kind == KindCompensated:
		m.facts = m.facts.afterAbortEvent(e)
	case !e.known():
		m.facts.Unknown = e.Seq
	}
	m.last, m.index = e.Seq, e.Index
	if m.ended && !Overlap(s.lost, s.resolved, e.Seq) {
		delete(s.migrations, e.Migration)
	}
}

func (s *State) upsert(m *migration, e Event, known uint64, isNew bool) {
	if e.Prev == 0 {
		m.begin = mark{seq: known}
		m.facts, m.target, m.source = Facts{Began: e.Seq}, mark{}, mark{}
	}
	if isNew && e.Phase == phaseAddLearner {
		m.begin.seq = e.Seq
	}
	m.row, m.rowSeq, m.rowPrev, m.rowSource = &e, e.Seq, e.Prev, mark{seq: e.Seq}
	facts, target, source := m.facts.after(e)
	m.facts = facts
	if target {
		m.target = mark{seq: e.Seq}
	}
	if source {
		m.source = mark{seq: e.Seq}
	}
}

func (s *State) uncertain(m *migration, told mark) bool {
	return told.broken || Overlap(s.unattributed, told.seq, m.last)
}

// Doubt returns the effect of the lost numbers on a migration. The log need not have an event of
// it.
func (s *State) Doubt(id uuid.UUID) Doubt {
	if id == storeID {
		return None
	}
	m := s.migrations[id]
	if m == nil {
		m = &migration{ended: true}
	}
	switch {
	case Overlap(s.unattributed, m.last, maxSeq), !m.ended && s.uncertain(m, m.rowSource):
		return InDoubt
	case s.uncertain(m, m.begin):
		return Superseded
	}
	return None
}

// Unnamed reports whether a migration without any event in the log is in doubt.
func (s *State) Unnamed() bool { return s.Doubt(uuid.Nil) == InDoubt }

// Epoch returns the highest epoch, and whether a lost event may have had a higher one.
func (s *State) Epoch() (epoch uint64, uncertain bool) {
	return s.epoch, s.epochUnknown || Overlap(s.lost, s.resolved, maxSeq)
}

// Rows returns the rows of the migrations that have one.
func (s *State) Rows() map[uuid.UUID]Row {
	rows := map[uuid.UUID]Row{}
	for id, m := range s.migrations {
		if m.row == nil {
			continue
		}
		doubt := s.Doubt(id)
		facts := m.facts
		if Overlap(s.unattributed, m.begin.seq, facts.Began) {
			facts.Began = 0
		}
		if !strings.Contains(facts.Targets, " ") {
			facts.Targets = ""
		}
		rows[id] = Row{
			Event: *m.row, Seq: m.rowSeq, Prev: m.rowPrev, Last: m.last, Index: m.index, Facts: facts, Doubt: doubt,
			TargetUncertain: m.facts.HasTarget && (doubt == InDoubt || s.uncertain(m, m.target)),
			SourceUncertain: m.facts.HasSource && (doubt == InDoubt || s.uncertain(m, m.source)),
		}
	}
	return rows
}

// LatestEvents returns the last event of each migration that changed its row. It does not use the
// links between events.
func (l *Log) LatestEvents() map[uuid.UUID]Event {
	latest := map[uuid.UUID]Event{}
	for _, e := range l.Events {
		if e.changesRow() {
			latest[e.Migration] = e
		}
	}
	return latest
}
