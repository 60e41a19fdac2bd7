package segment

import (
	"cmp"
	"encoding/json"
	"slices"
)

// SeqRange is the sequence numbers from First to Last, inclusive.
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

// Losses collects the lost frames of a log and the evidence whether they had been durable. A writer
// acknowledges an event only after its frame is durable. A lost frame counts as acknowledged if it
// had been durable.
type Losses struct {
	durableThrough uint64 // every frame up to this one was on the device, except the skipped ones
	skipped        []SeqRange
	lost           []SeqRange
}

// RaiseDurable records that every frame up to through had been durable at some time. The evidence
// is a watermark or an intact header.
func (l *Losses) RaiseDurable(through uint64) { l.durableThrough = max(l.durableThrough, through) }

// Through returns the highest number up to which every frame is proven to have been durable.
// Skipped numbers are excepted.
func (l *Losses) Through() uint64 { return l.durableThrough }

// SetSkipped replaces the skipped numbers. See Manifest.Skipped.
func (l *Losses) SetSkipped(ranges []SeqRange) { l.skipped = ranges }

// AddLost records that these frames are lost.
func (l *Losses) AddLost(lost SeqRange) { l.lost = append(l.lost, lost) }

// Lost returns the lost numbers.
func (l *Losses) Lost() []SeqRange { return l.lost }

// Acknowledged returns the lost numbers whose frames had been durable.
func (l *Losses) Acknowledged() (ranges []SeqRange) {
	for _, lost := range l.lost {
		if lost.First <= l.durableThrough {
			lost.Last = min(lost.Last, l.durableThrough)
			ranges = append(ranges, without(lost, l.skipped)...) //mutant:skipped-not-acknowledged
		}
	}
	return ranges
}

// UnknownIfAcknowledged returns the lost numbers whose frames may or may not have been durable. It
// leaves out the numbers that the manifest already lists as skipped.
func (l *Losses) UnknownIfAcknowledged() (ranges []SeqRange) {
	for _, lost := range l.lost {
		if lost.Last > l.durableThrough {
			lost.First = max(lost.First, l.durableThrough+1)
			ranges = append(ranges, without(lost, l.skipped)...)
		}
	}
	return ranges
}

// without returns the parts of r that are in none of the others. The others must be ascending.
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

// merged returns the ranges in ascending order. It joins ranges that overlap or touch.
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
