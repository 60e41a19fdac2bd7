package projection

import "slices"

// losses holds the numbers of lost events, and which of them a later event has
// named as its predecessor: that one is known to be of the later event's
// migration, whose row it can no longer change.
type losses struct {
	ranges  []seqRange // ascending
	claimed map[uint64]bool
	settled uint64 // up to it, what they would have told is known
	newest  uint64 // that is neither claimed nor settled
}

type seqRange struct{ first, last uint64 }

func (l *losses) any() bool { return len(l.ranges) > 0 }

func (l *losses) add(first, last uint64) {
	l.ranges = append(l.ranges, seqRange{first, last})
	l.newest = last
}

// claim notes that a later event names that one as the one before. New events name none
// that is lost, but of rows that a snapshot has told, and these are settled.
func (l *losses) claim(seq uint64) {
	if seq <= l.settled {
		return
	}
	_, found := slices.BinarySearchFunc(l.ranges, seq, func(r seqRange, seq uint64) int {
		switch {
		case r.last < seq:
			return -1
		case r.first > seq:
			return 1
		}
		return 0
	})
	if !found {
		return
	}
	if l.claimed == nil {
		l.claimed = make(map[uint64]bool)
	}
	l.claimed[seq] = true
	if seq == l.newest {
		l.newest = l.unclaimedBefore(seq)
	}
}

// settle notes that what the events up to that number would have told is known.
func (l *losses) settle(through uint64) {
	l.settled, l.newest = through, 0
}

// newestUnclaimed is the number of the last lost event whose migration nobody
// knows; 0 when there is none.
func (l *losses) newestUnclaimed() uint64 { return l.newest }

func (l *losses) unclaimedBefore(end uint64) uint64 {
	for _, r := range slices.Backward(l.ranges) {
		for seq := min(r.last, end-1); seq >= max(r.first, l.settled+1); seq-- {
			if !l.claimed[seq] {
				return seq
			}
		}
	}
	return 0
}

// unclaimedIn reports whether there is such an event from first to last.
func (l *losses) unclaimedIn(first, last uint64) bool {
	for _, r := range l.ranges {
		for seq := max(r.first, first, l.settled+1); seq <= min(r.last, last); seq++ {
			if !l.claimed[seq] {
				return true
			}
		}
	}
	return false
}
