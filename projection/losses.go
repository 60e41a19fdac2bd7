package projection

import (
	"slices"

	"migrationlog/checkpoint"
)

// losses holds the seqs of lost events. If an intact event is linked to a lost event, both belong
// to the same migration, and the lost event is attributed to that migration. A caller may also know
// the migration of a lost event from another source. Otherwise the lost event may belong to any
// migration. If a snapshot was taken after a lost event, that event is resolved, because the
// snapshot has the rows that include it.
type losses struct {
	ranges          []seqRange // all lost events, ascending
	unattributed    []seqRange // the lost events that are neither attributed nor resolved, ascending
	resolvedThrough uint64     // all losses up to this seq are resolved
	// assigned has the lost events, ascending, whose migration a caller knows. They are not resolved.
	assigned map[checkpoint.MigrationID][]uint64
}

type seqRange struct{ first, last uint64 }

func (l *losses) any() bool { return len(l.ranges) > 0 }

// unresolved reports whether any lost event is not resolved.
func (l *losses) unresolved() bool {
	return l.any() && l.ranges[len(l.ranges)-1].last > l.resolvedThrough
}

// assign records that lost event seq belonged to a migration. It ignores an event that is not lost,
// is resolved, or is attributed already, because a link is more precise.
func (l *losses) assign(seq uint64, id checkpoint.MigrationID) {
	if _, found := find(l.unattributed, seq); !found {
		return
	}
	l.attribute(seq)
	if l.assigned == nil {
		l.assigned = make(map[checkpoint.MigrationID][]uint64)
	}
	i, _ := slices.BinarySearch(l.assigned[id], seq)
	l.assigned[id] = slices.Insert(l.assigned[id], i, seq)
}

// newestOf returns the highest lost seq that may belong to a migration and to which no event is
// linked, or 0.
func (l *losses) newestOf(id checkpoint.MigrationID) uint64 {
	newest := l.newestUnattributed()
	if own := l.assigned[id]; len(own) > 0 { //mutant:assigned-newest
		newest = max(newest, own[len(own)-1])
	}
	return newest
}

// possibleIn reports whether any lost seq in (after, through] may belong to a migration.
func (l *losses) possibleIn(id checkpoint.MigrationID, after, through uint64) bool {
	own := l.assigned[id]
	i, _ := slices.BinarySearch(own, after+1)
	if i < len(own) && own[i] <= through { //mutant:assigned-in
		return true
	}
	return l.unattributedIn(after, through)
}

// newestUnattributed returns the highest unattributed seq, or 0.
func (l *losses) newestUnattributed() uint64 {
	if len(l.unattributed) == 0 {
		return 0
	}
	return l.unattributed[len(l.unattributed)-1].last
}

func (l *losses) add(first, last uint64) {
	l.ranges = append(l.ranges, seqRange{first, last})
	l.unattributed = append(l.unattributed, seqRange{first, last})
}

// attribute records that an intact event is linked to event seq. It reports whether seq is lost and
// not resolved. If it is, attribute may change the losses. A writer's new event can be linked to a
// lost event only if that event is resolved. The views of a writer may therefore share the losses.
func (l *losses) attribute(seq uint64) (lost bool) {
	if seq <= l.resolvedThrough || !l.any() {
		return false
	}
	if _, lost = find(l.ranges, seq); !lost {
		return false
	}
	i, found := find(l.unattributed, seq)
	if !found {
		return true
	}
	switch r := &l.unattributed[i]; {
	case r.first == r.last && i == 0:
		l.unattributed = l.unattributed[1:]
	case r.first == r.last:
		l.unattributed = slices.Delete(l.unattributed, i, i+1)
	case r.first == seq:
		r.first++
	case r.last == seq:
		r.last--
	default:
		rest := seqRange{seq + 1, r.last}
		r.last = seq - 1
		l.unattributed = slices.Insert(l.unattributed, i+1, rest)
	}
	return true
}

// resolve records that a snapshot was taken at seq, which is the last event so far.
func (l *losses) resolve(seq uint64) {
	l.resolvedThrough, l.unattributed, l.assigned = seq, nil, nil
}

// unattributedIn reports whether any seq in (after, through] is unattributed.
func (l *losses) unattributedIn(after, through uint64) bool {
	i, _ := find(l.unattributed, after+1)
	return i < len(l.unattributed) && max(l.unattributed[i].first, after+1) <= through
}

// find returns the index of the range that contains seq. If none does, it returns the index of the
// first range above seq.
func find(ranges []seqRange, seq uint64) (i int, found bool) {
	return slices.BinarySearchFunc(ranges, seq, func(r seqRange, seq uint64) int {
		switch {
		case r.last < seq:
			return -1
		case r.first > seq:
			return 1
		}
		return 0
	})
}
