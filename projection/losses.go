package projection

import (
	"cmp"
	"slices"
)

// losses holds the numbers of lost events. A lost event is attributed if an intact event names it
// as its predecessor: it was of that event's migration. Any other may have been of any migration.
type losses struct {
	ranges          []seqRange // ascending
	attributed      map[uint64]bool
	resolvedThrough uint64 // losses up to here are covered by a snapshot
	newest          uint64 // newest lost event that is neither attributed nor resolved; 0 for none
}

type seqRange struct{ first, last uint64 }

func (l *losses) any() bool { return len(l.ranges) > 0 }

// unresolved reports whether an event is lost that no snapshot covers.
func (l *losses) unresolved() bool {
	return l.any() && l.ranges[len(l.ranges)-1].last > l.resolvedThrough
}

func (l *losses) add(first, last uint64) {
	l.ranges = append(l.ranges, seqRange{first, last})
	l.newest = last
}

// attribute records that an event names seq as its predecessor. It reports whether seq is lost and
// no snapshot covers it. A writer's new event never names a lost one. The views of a writer may
// therefore share the losses.
func (l *losses) attribute(seq uint64) (lost bool) {
	if seq <= l.resolvedThrough || len(l.ranges) == 0 {
		return false
	}
	_, lost = slices.BinarySearchFunc(l.ranges, seq, func(r seqRange, seq uint64) int {
		switch {
		case r.last < seq:
			return -1
		case r.first > seq:
			return 1
		}
		return 0
	})
	if !lost {
		return false
	}
	if l.attributed == nil {
		l.attributed = make(map[uint64]bool)
	}
	l.attributed[seq] = true
	if seq == l.newest {
		l.newest = l.unattributedBefore(seq)
	}
	return true
}

// resolve records that a snapshot covers the losses up to seq, which is the last event so far.
func (l *losses) resolve(seq uint64) {
	l.resolvedThrough, l.newest = seq, 0
}

// unattributedBefore returns the newest number below end that is lost, and neither attributed nor
// resolved, or 0.
func (l *losses) unattributedBefore(end uint64) uint64 {
	for _, r := range slices.Backward(l.ranges) {
		for seq := min(r.last, end-1); seq >= max(r.first, l.resolvedThrough+1); seq-- {
			if !l.attributed[seq] {
				return seq
			}
		}
	}
	return 0
}

// unattributedIn reports whether a lost event in (after, through] is neither attributed nor resolved.
func (l *losses) unattributedIn(after, through uint64) bool {
	after = max(after, l.resolvedThrough)
	if l.newest <= after {
		return false
	}
	begin, _ := slices.BinarySearchFunc(l.ranges, after+1, func(r seqRange, seq uint64) int { return cmp.Compare(r.last, seq) })
	for _, r := range l.ranges[begin:] {
		for seq := max(r.first, after+1); seq <= min(r.last, through); seq++ {
			if !l.attributed[seq] {
				return true
			}
		}
		if r.last >= through {
			return false
		}
	}
	return false
}
