package story

import (
	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/histogram"
)

// Stay is the time from a checkpoint to the next record of its incarnation.
type Stay struct {
	Incarnation *Incarnation
	From        Step
	To          Step  // zero if the stay is open
	MS          int64 // negative if the clock went back
}

// Finished reports whether the stay ended in a later phase or, for Complete, in a removal. Only
// these stays show how long a phase usually takes.
func (s Stay) Finished() bool {
	if s.From.Phase == checkpoint.PhaseComplete {
		return s.To.Kind == replay.KindRemove
	}
	return s.To.Phase > s.From.Phase
}

// Baseline has the finished stays of a history, by phase. The zero value is empty.
type Baseline struct {
	phases [checkpoint.PhaseComplete + 1]histogram.Histogram
}

// BaselineOf returns the baseline with these finished stays, by phase.
func BaselineOf(phases [checkpoint.PhaseComplete + 1]histogram.Histogram) Baseline {
	return Baseline{phases}
}

// Add adds the stay if it is finished. A stay during which the clock went back counts as 0 ms.
func (b *Baseline) Add(s Stay) {
	if s.Finished() {
		b.phases[s.From.Phase].Add(uint64(max(s.MS, 0)))
	}
}

// Phase returns the finished stays in a phase.
func (b *Baseline) Phase(p checkpoint.Phase) *histogram.Histogram { return &b.phases[p] }

// SlowerThan returns the share, from 0 to 1, of the finished stays in the phase that were shorter
// than ms, and the number of finished stays.
func (b *Baseline) SlowerThan(p checkpoint.Phase, ms uint64) (share float64, samples uint64) {
	h := &b.phases[p]
	return h.ShareBelow(ms), h.Count()
}
