package oracle

import (
	"cmp"
	"slices"
)

// Range has the numbers from First to Last. Both are included.
type Range struct{ First, Last uint64 }

// Merge returns the ranges in order. If ranges overlap or are adjacent, it joins them.
func Merge(ranges []Range) (merged []Range) {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	for _, r := range sorted {
		if n := len(merged); n > 0 && r.First <= merged[n-1].Last+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// Without returns the numbers of the ranges that are not in cut.
func Without(ranges []Range, cut Range) (left []Range) {
	for _, r := range ranges {
		if cut.Last < r.First || cut.First > r.Last {
			left = append(left, r)
			continue
		}
		if r.First < cut.First {
			left = append(left, Range{r.First, cut.First - 1})
		}
		if r.Last > cut.Last {
			left = append(left, Range{cut.Last + 1, r.Last})
		}
	}
	return left
}

// Overlap reports whether any number of the ranges is greater than after and at most through.
func Overlap(ranges []Range, after, through uint64) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool {
		return max(r.First, after+1) <= min(r.Last, through)
	})
}
