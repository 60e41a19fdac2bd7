package stats

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The percentiles of pauses are those of the sorted list below 1 s, and at most 1 % too short above.
func TestPauses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.OneOf(rapid.Uint64Range(0, 20_000), rapid.Uint64Range(900_000, 1_100_000), rapid.Uint64()), 1, 50).Draw(t, "us")
		var p pauses
		for _, us := range list {
			p.add(us)
		}
		slices.Sort(list)
		require.EqualValues(t, len(list), p.durations().Count)
		require.Equal(t, list[len(list)-1], p.durations().MaxUS)
		share := rapid.Float64Range(0.01, 1).Draw(t, "share")
		exact := list[int(math.Ceil(share*float64(len(list))))-1]
		got := p.quantile(share)
		if exact < maxExactUS {
			require.Equal(t, exact, got)
			return
		}
		require.LessOrEqual(t, got, exact)
		require.GreaterOrEqual(t, float64(got), float64(exact)*0.99-2000)
	})
}
