package stats

import (
	"math"

	"migrationlog/replay/histogram"
)

// pauses counts pauses in microseconds. It is exact below maxExactUS. Longer pauses are counted in
// milliseconds by a histogram, whose buckets are 1 % wide above 10 seconds.
type pauses struct {
	exact  []uint32 // by microseconds
	count  uint64   // in exact
	longer histogram.Histogram

	totalUS, maxUS uint64
}

const maxExactUS = 1_000_000

func (p *pauses) add(us uint64) {
	p.totalUS, p.maxUS = p.totalUS+us, max(p.maxUS, us)
	if us >= maxExactUS {
		p.longer.Add(us / 1000)
		return
	}
	if missing := int(us) + 1 - len(p.exact); missing > 0 {
		p.exact = append(p.exact, make([]uint32, missing)...)
	}
	p.exact[us]++
	p.count++
}

// quantile returns the pause at nearest rank.
func (p *pauses) quantile(share float64) uint64 {
	all := p.count + p.longer.Count()
	rank := min(max(uint64(math.Ceil(share*float64(all))), 1), all)
	switch {
	case rank == all:
		return p.maxUS
	case rank > p.count:
		return p.longer.Quantile(float64(rank-p.count)/float64(p.longer.Count())) * 1000
	}
	for us, n := range p.exact {
		if rank <= uint64(n) {
			return uint64(us)
		}
		rank -= uint64(n)
	}
	return 0
}

func (p *pauses) durations() Pauses {
	return Pauses{Count: p.count + p.longer.Count(), P50US: p.quantile(0.50), P90US: p.quantile(0.90), P99US: p.quantile(0.99), MaxUS: p.maxUS, TotalUS: p.totalUS}
}
