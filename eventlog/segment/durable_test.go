package segment_test

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

type ranges = []segment.SeqRange

// A lost frame counts as acknowledged if its number is at most the watermark. If the number is
// higher, it is unknown whether it was acknowledged. A skipped number counts as neither.
func TestLosses_SkippedRanges(t *testing.T) {
	for name, tc := range map[string]struct {
		through, skipped              string
		lost                          string
		wantAcknowledged, wantUnknown string
	}{
		"nothing lost":                    {"20", "5-6", "", "", ""},
		"before the watermark":            {"20", "", "3-4", "3-4", ""},
		"the watermark itself":            {"20", "", "20-20", "20-20", ""},
		"after the watermark":             {"20", "", "21-21", "", "21-21"},
		"across the watermark":            {"20", "", "19-22", "19-20", "21-22"},
		"no watermark":                    {"0", "", "1-3", "", "1-3"},
		"all of it skipped":               {"20", "3-4", "3-4", "", ""},
		"more than it skipped":            {"20", "1-9", "3-4", "", ""},
		"its beginning skipped":           {"20", "1-3", "3-5", "4-5", ""},
		"its end skipped":                 {"20", "5-9", "3-5", "3-4", ""},
		"its middle skipped":              {"20", "4-4", "3-5", "3-3 5-5", ""},
		"several parts skipped":           {"20", "1-3 5-5 7-8 10-12", "2-11", "4-4 6-6 9-9", ""},
		"skipped up to it":                {"20", "1-2", "3-4", "3-4", ""},
		"skipped after it":                {"20", "5-6", "3-4", "3-4", ""},
		"skipped across the watermark":    {"20", "19-22", "18-23", "18-18", "23-23"},
		"skipped after the watermark":     {"20", "22-22", "21-23", "", "21-21 23-23"},
		"several lost":                    {"20", "4-4 25-25", "3-5 19-21 24-26", "3-3 5-5 19-20", "21-21 24-24 26-26"},
		"the highest number":              {fmt.Sprint(uint64(math.MaxUint64)), "", fmt.Sprintf("1-%d", uint64(math.MaxUint64)), fmt.Sprintf("1-%d", uint64(math.MaxUint64)), ""},
		"all but the highest is durable":  {fmt.Sprint(uint64(math.MaxUint64 - 1)), "", fmt.Sprintf("%d-%d", uint64(math.MaxUint64), uint64(math.MaxUint64)), "", fmt.Sprintf("%d-%d", uint64(math.MaxUint64), uint64(math.MaxUint64))},
		"skipped to the highest number":   {"20", fmt.Sprintf("22-%d", uint64(math.MaxUint64)), fmt.Sprintf("21-%d", uint64(math.MaxUint64)), "", "21-21"},
		"a range that ends where it does": {"20", "2-4", "2-4 5-5", "5-5", ""},
	} {
		var through uint64
		_, err := fmt.Sscan(tc.through, &through)
		require.NoError(t, err)
		for _, how := range []string{"watermark", "header"} {
			dir := segment.Directory{Manifest: segment.Manifest{Skipped: parse(t, tc.skipped)}}
			if how == "watermark" {
				dir.Watermark = through
			}
			l := dir.Losses()
			for _, lost := range parse(t, tc.lost) {
				l.AddLost(lost)
			}
			l.RaiseDurable(through / 2)
			l.RaiseDurable(through)
			l.RaiseDurable(through / 3) // a lower number has no effect
			require.Equal(t, parse(t, tc.lost), l.Lost(), name)
			require.Equal(t, parse(t, tc.wantAcknowledged), l.Acknowledged(), "%s, by %s", name, how)
			require.Equal(t, parse(t, tc.wantUnknown), l.UnknownIfAcknowledged(), "%s, by %s", name, how)
		}
	}
}

// parse reads ranges as "3-4 7-7".
func parse(t testing.TB, text string) (all ranges) {
	for len(text) > 0 {
		var r segment.SeqRange
		var n int
		_, err := fmt.Sscanf(text, "%d-%d", &r.First, &r.Last)
		require.NoError(t, err)
		if n = len(fmt.Sprintf("%d-%d", r.First, r.Last)); n < len(text) {
			n++
		}
		text = text[n:]
		all = append(all, r)
	}
	return all
}

// If a writer skips numbers after a reader started, SetSkipped makes the reader skip them too.
func TestLosses_SkippedMeanwhile(t *testing.T) {
	l := segment.Directory{Watermark: 9, Manifest: segment.Manifest{Skipped: ranges{{First: 1, Last: 1}}}}.Losses()
	l.AddLost(segment.SeqRange{First: 1, Last: 3})
	require.Equal(t, ranges{{First: 2, Last: 3}}, l.Acknowledged())
	l.SetSkipped(ranges{{First: 1, Last: 2}})
	require.Equal(t, ranges{{First: 3, Last: 3}}, l.Acknowledged())
}

// Skip keeps the ranges in order and joins ranges that overlap or touch. It does not change the
// manifest that it was called on.
func TestManifest_Skip(t *testing.T) {
	for name, tc := range map[string]struct{ before, added, want string }{
		"the first":            {"", "3-4", "3-4"},
		"after":                {"3-4", "6-7", "3-4 6-7"},
		"before":               {"6-7", "3-4", "3-4 6-7"},
		"touching after":       {"3-4", "5-7", "3-7"},
		"touching before":      {"5-7", "3-4", "3-7"},
		"between two":          {"1-2 6-7", "3-5", "1-7"},
		"overlapping":          {"3-5", "4-9", "3-9"},
		"the same":             {"3-5", "3-5", "3-5"},
		"within":               {"3-9", "5-6", "3-9"},
		"around":               {"5-6", "3-9", "3-9"},
		"several, in no order": {"10-11", "20-21 1-1 12-12 15-16", "1-1 10-12 15-16 20-21"},
		"none":                 {"3-4", "", "3-4"},
	} {
		m := segment.Manifest{UUID: testLog, Revision: 4, Skipped: parse(t, tc.before)}
		got := m.Skip(parse(t, tc.added))
		require.Equal(t, parse(t, tc.want), got.Skipped, name)
		require.EqualValues(t, 5, got.Revision, name)
		require.Equal(t, parse(t, tc.before), m.Skipped, name)
		require.EqualValues(t, 4, m.Revision, name)
		again, err := segment.DecodeManifest(got.Encode())
		require.NoError(t, err)
		require.Equal(t, got.Skipped, again.Skipped, name)
	}
}

// A manifest lists at most 10,000 ranges, so that it stays small enough to read. If there are more,
// the lowest ranges are joined into one. No skipped number is dropped.
func TestManifest_SkipIsBounded(t *testing.T) {
	const most = 10_000
	m := segment.Manifest{UUID: testLog, Created: time.Unix(0, 0).UTC()}
	for i := range uint64(most) {
		seq := segment.MaxSeq - 4*most + 3*i // long in digits
		m.Skipped = append(m.Skipped, segment.SeqRange{First: seq, Last: seq + 1})
	}
	full := m.Skip(nil)
	require.Equal(t, m.Skipped, full.Skipped, "exactly the maximum number of ranges")

	first, last := m.Skipped[0], m.Skipped[most-1]
	more := m.Skip(ranges{{First: 5, Last: 6}, {First: 1, Last: 2}, {First: last.Last + 9, Last: last.Last + 9}})
	require.Len(t, more.Skipped, most)
	require.Equal(t, segment.SeqRange{First: 1, Last: m.Skipped[1].Last}, more.Skipped[0], "the lowest ranges are joined into one")
	require.Equal(t, m.Skipped[2:], more.Skipped[1:most-1])
	require.Equal(t, last.Last+9, more.Skipped[most-1].First)
	l := segment.Directory{Watermark: math.MaxUint64, Manifest: more}.Losses()
	l.AddLost(first)
	l.AddLost(segment.SeqRange{First: 1, Last: 1})
	l.AddLost(last)
	require.Empty(t, l.Acknowledged())

	require.Less(t, len(more.Encode()), 1<<20)
	again, err := segment.DecodeManifest(more.Encode())
	require.NoError(t, err)
	require.Equal(t, more.Skipped, again.Skipped)
}

// A range is a pair in JSON and survives a round trip.
func TestSeqRange_JSON(t *testing.T) {
	b, err := json.Marshal(ranges{{First: 1, Last: math.MaxUint64}, {}})
	require.NoError(t, err)
	require.Equal(t, "[[1,18446744073709551615],[0,0]]", string(b))
	var got ranges
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, ranges{{First: 1, Last: math.MaxUint64}, {}}, got)
	for _, bad := range []string{`[["1",2]]`, `[{"First":1}]`, `[[-1,2]]`, `["1-2"]`} {
		require.Error(t, json.Unmarshal([]byte(bad), &got), bad)
	}
}
