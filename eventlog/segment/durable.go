package segment

import (
	"cmp"
	"encoding/json"
	"slices"
)

// SeqRange is the numbers from First to Last, both included.
type SeqRange struct{ First, Last uint64 }

// MarshalJSON writes a range as [first,last].
func (r SeqRange) MarshalJSON() ([]byte, error) { return json.Marshal([2]uint64{r.First, r.Last}) }

// UnmarshalJSON reads [first,last].
func (r *SeqRange) UnmarshalJSON(b []byte) error {
	var pair [2]uint64
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	r.First, r.Last = pair[0], pair[1]
	return nil
}

// Losses tells of the frames that a log has lost whether they had been durable.
// A writer acknowledges nothing before it is.
type Losses struct {
	durableThrough uint64 // every frame up to this one was on the device, but for the skipped
	skipped        []SeqRange
	lost           []SeqRange
}

// RaiseDurable notes that every frame up to that number was on the device at some
// moment, as a watermark or a sound header says.
func (l *Losses) RaiseDurable(through uint64) { l.durableThrough = max(l.durableThrough, through) }

// Through is the highest number up to which every frame is proven to have been durable, but for the
// skipped.
func (l *Losses) Through() uint64 { return l.durableThrough }

// SetSkipped notes that a later opening has passed these numbers over.
func (l *Losses) SetSkipped(ranges []SeqRange) { l.skipped = ranges }

// AddLost notes that these frames are lost.
func (l *Losses) AddLost(lost SeqRange) { l.lost = append(l.lost, lost) }

// Lost are the lost numbers.
func (l *Losses) Lost() []SeqRange { return l.lost }

// Acknowledged are those of the lost numbers that had been on the device.
func (l *Losses) Acknowledged() (ranges []SeqRange) {
	for _, lost := range l.lost {
		if lost.First <= l.durableThrough {
			lost.Last = min(lost.Last, l.durableThrough)
			ranges = append(ranges, without(lost, l.skipped)...) //mutant:skipped-not-acknowledged
		}
	}
	return ranges
}

// UnknownIfAcknowledged are those of which it cannot be known, and of which the manifest does
// not say so yet.
func (l *Losses) UnknownIfAcknowledged() (ranges []SeqRange) {
	for _, lost := range l.lost {
		if lost.Last > l.durableThrough {
			lost.First = max(lost.First, l.durableThrough+1)
			ranges = append(ranges, without(lost, l.skipped)...)
		}
	}
	return ranges
}

// without returns what is left of a range when others, ascending, are taken out.
func without(r SeqRange, others []SeqRange) (left []SeqRange) {
	for _, o := range others {
		if o.Last < r.First || o.First > r.Last {
			continue
		}
		if o.First > r.First {
			left = append(left, SeqRange{r.First, o.First - 1})
		}
		if o.Last >= r.Last {
			return left
		}
		r.First = o.Last + 1
	}
	return append(left, r)
}

// merged returns the ranges in order, those that touch made one.
func merged(ranges []SeqRange) (all []SeqRange) {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b SeqRange) int { return cmp.Compare(a.First, b.First) })
	for _, r := range sorted {
		if n := len(all); n > 0 && r.First <= all[n-1].Last+1 {
			all[n-1].Last = max(all[n-1].Last, r.Last)
			continue
		}
		all = append(all, r)
	}
	return all
}
