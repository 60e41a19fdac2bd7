package histogram_test

import (
	"math"
	"slices"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"migrationlog/replay/histogram"
)

func durations(t *rapid.T, label string, longest uint64) []uint64 {
	return rapid.SliceOfN(rapid.OneOf(rapid.Uint64Range(0, 50), rapid.Uint64Range(0, longest)), 0, 200).Draw(t, label)
}

func of(list []uint64) *histogram.Histogram {
	h := &histogram.Histogram{}
	for _, ms := range list {
		h.Add(ms)
	}
	return h
}

// Up to 10 seconds, the results are those of the sorted list.
func TestHistogram_ExactUpToTenSeconds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := durations(t, "durations", 10_000)
		h := of(list)
		slices.Sort(list)
		require.EqualValues(t, len(list), h.Count())
		if len(list) == 0 {
			require.Zero(t, h.Quantile(0.5))
			require.Zero(t, h.ShareBelow(1))
			return
		}
		p := rapid.Float64Range(0.001, 1).Draw(t, "p")
		require.Equal(t, list[int(math.Ceil(p*float64(len(list))))-1], h.Quantile(p))
		require.Equal(t, list[len(list)-1], h.Max())
		limit := rapid.Uint64Range(0, 10_001).Draw(t, "limit")
		below := sort.Search(len(list), func(i int) bool { return list[i] >= limit })
		require.InDelta(t, float64(below)/float64(len(list)), h.ShareBelow(limit), 1e-12)
	})
}

// Above 10 seconds, a percentile is at most 1 % too short.
func TestHistogram_OnePercentAbove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := durations(t, "durations", math.MaxUint64)
		list = append(list, rapid.Uint64().Draw(t, "one more"))
		h := of(list)
		slices.Sort(list)
		p := rapid.Float64Range(0.001, 1).Draw(t, "p")
		exact := list[int(math.Ceil(p*float64(len(list))))-1]
		require.LessOrEqual(t, h.Quantile(p), exact)
		require.GreaterOrEqual(t, float64(h.Quantile(p)), float64(exact)*0.99-1)
		require.Equal(t, list[len(list)-1], h.Max())
	})
}

// A merged and an encoded histogram equal the one to which all durations were added.
func TestHistogram_MergeAndEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := durations(t, "a", math.MaxUint64), durations(t, "b", 1<<40)
		merged := of(a)
		merged.Merge(of(b))
		whole := of(slices.Concat(a, b))
		require.Equal(t, whole.Append(nil), merged.Append(nil))
		e, _, err := histogram.Split(of(b).Append(nil))
		require.NoError(t, err)
		merged = of(a)
		merged.MergeEncoded(e)
		require.Equal(t, whole.Append(nil), merged.Append(nil))
		merged.MergeEncoded(nil)
		require.Equal(t, whole.Append(nil), merged.Append(nil))
		decoded, rest, err := histogram.Decode(append(whole.Append(nil), 7))
		require.NoError(t, err)
		require.Equal(t, []byte{7}, rest)
		require.Equal(t, whole.Append(nil), decoded.Append(nil))
		require.Equal(t, whole.Count(), decoded.Count())
		require.Equal(t, whole.Sum(), decoded.Sum())
		values := 0
		for range decoded.All() {
			values++
		}
		require.LessOrEqual(t, values, len(a)+len(b))
	})
}

// Bytes that are cut short, or have other bits, are refused or decode to what they encode.
func TestDecode_Malformed(t *testing.T) {
	encoded := of([]uint64{0, 3, 3, 9_999, 20_000, 1 << 40}).Append(nil)
	for n := range encoded {
		_, _, err := histogram.Decode(encoded[:n])
		require.ErrorIs(t, err, histogram.ErrMalformed, "the first %d bytes", n)
	}
	for _, b := range [][]byte{
		{1, 0, 0, 0, 0},                     // a count of 0
		{0, 1, 0},                           // a sum without durations
		{2, 0, 5, 5, 1, 0, 1},               // the same bucket twice
		{1, 0, 9, 5, 1},                     // the maximum is in another bucket
		{1, 0, 5, 0xff, 0xff, 0xff, 0xf, 1}, // no such bucket
	} {
		_, _, err := histogram.Decode(b)
		require.ErrorIs(t, err, histogram.ErrMalformed, "%v", b)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(of([]uint64{1, 2, 20_000}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := histogram.Decode(b)
		if err != nil {
			return
		}
		again, _, err := histogram.Decode(h.Append(nil))
		require.NoError(t, err)
		require.Equal(t, h.Append(nil), again.Append(nil))
		require.LessOrEqual(t, len(rest), len(b))
	})
}
