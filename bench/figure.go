package main

import (
	"cmp"
	"math"
	"slices"
)

// results are the results of a run, as -json writes them.
type results struct {
	Machine machine  `json:"machine"`
	Run     run      `json:"run"`
	Peers   []about  `json:"peers"`
	Figures []figure `json:"figures"`
}

// run describes how the figures were measured.
type run struct {
	Date       string `json:"date"`
	Commit     string `json:"commit"` // of migrationlog; "" if git does not report one
	Command    string `json:"command"`
	Rounds     int    `json:"rounds"`
	DurationMS int    `json:"duration_ms"`
	Seed       uint64 `json:"seed"`
	Quick      bool   `json:"quick"`
}

// about describes a peer to the reader of the results.
type about struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Keeps   string `json:"keeps"`
	Setup   string `json:"setup"`
}

// figure has the values of one measurement in all rounds.
type figure struct {
	Workload string            `json:"workload"`
	Peer     string            `json:"peer"`          // how its files were prepared is in parentheses
	X        int               `json:"x"`             // writers, events or rows, depending on the workload
	Why      string            `json:"why,omitempty"` // the reason if there are no values
	Values   map[string]spread `json:"values,omitempty"`
}

// spread has the values of one metric in all rounds.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

func spreadOf(rounds []float64) spread {
	sorted := slices.Sorted(slices.Values(rounds))
	n := len(sorted)
	if n == 0 {
		return spread{}
	}
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1], Rounds: rounds}
}

// percentile returns the smallest value that at least that part of the sorted values does not
// exceed (nearest rank). Without values it returns zero.
func percentile[T cmp.Ordered](sorted []T, part float64) T {
	if len(sorted) == 0 {
		var zero T
		return zero
	}
	rank := int(math.Ceil(part * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// find returns the figure of a measurement, and false if it has no values.
func (r *results) find(workload, peer string, x int) (figure, bool) {
	for _, f := range r.Figures {
		if f.Workload == workload && f.Peer == peer && f.X == x && f.Why == "" {
			return f, true
		}
	}
	return figure{}, false
}

// median returns a metric's median over the rounds.
func (r *results) median(workload, peer string, x int, metric string) (float64, bool) {
	f, ok := r.find(workload, peer, x)
	s, has := f.Values[metric]
	return s.Median, ok && has
}

// of returns the figures of a workload with that x.
func (r *results) of(workload string, x int) (figures []figure) {
	for _, f := range r.Figures {
		if f.Workload == workload && f.X == x {
			figures = append(figures, f)
		}
	}
	return figures
}

// xs returns the values of x of a workload, in ascending order.
func (r *results) xs(workload string) (xs []int) {
	for _, f := range r.Figures {
		if f.Workload == workload && !slices.Contains(xs, f.X) {
			xs = append(xs, f.X)
		}
	}
	slices.Sort(xs)
	return xs
}

// names returns the peers that have figures in a workload, in the order of the figures.
func (r *results) names(workload string) (names []string) {
	for _, f := range r.Figures {
		if f.Workload == workload && !slices.Contains(names, f.Peer) {
			names = append(names, f.Peer)
		}
	}
	return names
}
