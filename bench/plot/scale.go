package plot

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// scale converts values to positions.
type scale struct {
	log        bool
	low, high  float64 // values at the two ends
	from, upTo float64 // positions of the two ends
	ticks      []Tick
}

// scale fits the axis to the values.
func (a Axis) scale(values []float64, from, upTo float64) scale {
	s := scale{log: a.Log, low: 1, high: 10, from: from, upTo: upTo}
	if len(values) > 0 {
		s.low, s.high = slices.Min(values), slices.Max(values)
	}
	switch {
	case a.Ticks != nil:
		s.ticks = a.Ticks
		s.low, s.high = min(s.low, a.Ticks[0].Value), max(s.high, a.Ticks[len(a.Ticks)-1].Value)
	case a.Log:
		s.logTicks()
	default:
		s.linearTicks()
	}
	return s
}

func (s *scale) logTicks() {
	steps := []float64{1, 2, 5}
	if s.high/s.low > 3000 {
		steps = steps[:1]
	}
	s.low, s.high = s.low*0.9, s.high*1.1
	for decade := math.Pow(10, math.Floor(math.Log10(s.low))); decade <= s.high; decade *= 10 {
		for _, step := range steps {
			if v := decade * step; v >= s.low && v <= s.high {
				s.ticks = append(s.ticks, Tick{v, Name(v)})
			}
		}
	}
}

func (s *scale) linearTicks() {
	s.low = min(0, s.low)
	step := math.Pow(10, math.Floor(math.Log10(max(s.high-s.low, 1e-9))))
	for _, part := range []float64{0.2, 0.5, 1} {
		if (s.high-s.low)/(step*part) <= 8 {
			step *= part
			break
		}
	}
	s.high = math.Ceil(s.high/step) * step
	for v := s.low; v <= s.high+step/2; v += step {
		s.ticks = append(s.ticks, Tick{v, Name(v)})
	}
}

// at returns the position of a value.
func (s scale) at(v float64) float64 {
	part := (v - s.low) / (s.high - s.low)
	if s.log {
		part = math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	if math.IsNaN(part) || math.IsInf(part, 0) {
		part = 0
	}
	return s.from + part*(s.upTo-s.from)
}

// Name returns a value in the short form of an axis: 20, 5k, 10M.
func Name(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return trim(v/unit.size) + unit.name
		}
	}
	return trim(v)
}

func trim(v float64) string {
	s := strconv.FormatFloat(v, 'f', 3, 64)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}
