package histogram

import (
	"iter"
	"math"
	"slices"
	"sort"
)

// Histogram holds counts of durations in milliseconds. The zero value is empty. It is not safe for
// concurrent use.
type Histogram struct {
	counts []uint64 // by bucket, see bucketOf; it ends with the highest bucket in use
	count  uint64
	sum    uint64
	max    uint64
}

// exactMS is the longest duration with a bucket of its own, in milliseconds.
const exactMS = 10_000

// buckets holds the shortest duration of each bucket above exactMS. Each is 1 % longer than the one
// before it.
var buckets = func() (starts []uint64) {
	for f := float64(exactMS + 1); f < math.MaxUint64; f *= 1.01 {
		starts = append(starts, uint64(f))
	}
	return starts
}()

// bucketOf returns the bucket of a duration. Buckets are in the order of their durations.
func bucketOf(ms uint64) int {
	if ms <= exactMS {
		return int(ms)
	}
	return exactMS + sort.Search(len(buckets), func(i int) bool { return buckets[i] > ms })
}

// startOf returns the shortest duration of a bucket.
func startOf(bucket int) uint64 {
	if bucket <= exactMS {
		return uint64(bucket)
	}
	return buckets[bucket-exactMS-1]
}

// Add counts one duration.
func (h *Histogram) Add(ms uint64) {
	h.addCount(bucketOf(ms), 1)
	h.sum = saturatingAdd(h.sum, ms)
	h.max = max(h.max, ms)
}

func (h *Histogram) addCount(bucket int, n uint64) {
	if missing := bucket + 1 - len(h.counts); missing > 0 {
		h.counts = slices.Grow(h.counts, missing)[:bucket+1]
	}
	h.counts[bucket] += n
	h.count += n
}

// Merge adds the durations of another histogram.
func (h *Histogram) Merge(other *Histogram) {
	for bucket, n := range other.counts {
		if n > 0 {
			h.addCount(bucket, n)
		}
	}
	h.sum = saturatingAdd(h.sum, other.sum)
	h.max = max(h.max, other.max)
}

func saturatingAdd(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// Count returns the number of durations.
func (h *Histogram) Count() uint64 { return h.count }

// Sum returns the sum of the durations, in milliseconds. It is exact, unless it exceeds 64 bits.
func (h *Histogram) Sum() uint64 { return h.sum }

// Max returns the longest duration, in milliseconds. It is exact. Without durations it is 0.
func (h *Histogram) Max() uint64 { return h.max }

// Quantile returns the duration at nearest rank p, with p in (0, 1], in milliseconds. It is the
// smallest duration such that at least the share p of the durations is not longer. Above 10
// seconds, it may be up to 1 % too short. Without durations it is 0.
func (h *Histogram) Quantile(p float64) uint64 {
	rank := min(max(uint64(math.Ceil(p*float64(h.count))), 1), h.count)
	if rank == h.count {
		return h.max
	}
	for bucket, n := range h.counts {
		if rank <= n {
			return startOf(bucket)
		}
		rank -= n
	}
	return 0
}

// ShareBelow returns the share of the durations that are shorter than ms, from 0 to 1. Durations in
// the same bucket of 1 % count as equal. Without durations it is 0.
func (h *Histogram) ShareBelow(ms uint64) float64 {
	if h.count == 0 {
		return 0
	}
	var below uint64
	for _, n := range h.counts[:min(bucketOf(ms), len(h.counts))] {
		below += n
	}
	return float64(below) / float64(h.count)
}

// All yields each duration with its count, in ascending order. A bucket of 1 % is yielded with its
// shortest duration.
func (h *Histogram) All() iter.Seq2[uint64, uint64] {
	return func(yield func(ms, count uint64) bool) {
		for bucket, n := range h.counts {
			if n > 0 && !yield(startOf(bucket), n) {
				return
			}
		}
	}
}
