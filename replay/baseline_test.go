package replay_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// A finding is known if the baseline has it, or if it lost only events that were lost already. Each
// other finding is new, and each finding of the baseline that is not left is gone.
func TestCompare(t *testing.T) {
	lost := func(offset int64, first, last uint64) replay.Damage {
		return replay.Damage{Segment: segment.Name(1), Offset: offset, Length: 100, FirstSeq: first, LastSeq: last, Reason: "r"}
	}
	stray := func(length int64) replay.Damage {
		return replay.Damage{Segment: segment.Name(1), Offset: 9, Length: length, Reason: "stray", Severity: segment.EndangersEvents}
	}
	torn := replay.Damage{Segment: segment.Name(1), Offset: 500, Length: 3, FirstSeq: 30, LastSeq: 30, Torn: true, Severity: segment.Harmless}
	report := func(damage ...replay.Damage) (r replay.Report) {
		for _, d := range damage {
			if d.Torn {
				r.TornTail = &d
				continue
			}
			r.Damage = append(r.Damage, d)
			if d.Lost() > 0 {
				r.Lost = append(r.Lost, replay.SeqRange{First: d.FirstSeq, Last: d.LastSeq})
			}
		}
		return r
	}
	for name, tc := range map[string]struct {
		now, baseline     replay.Report
		known, news, gone int
		verdict           replay.Verdict // of the new findings
	}{
		"nothing":                        {report(), report(), 0, 0, 0, replay.VerdictWhole},
		"the same":                       {report(lost(1, 3, 4), torn), report(lost(1, 3, 4), torn), 2, 0, 0, replay.VerdictWhole},
		"more events":                    {report(lost(1, 3, 5)), report(lost(1, 3, 4)), 0, 1, 0, replay.VerdictDamaged},
		"fewer events":                   {report(lost(1, 3, 4)), report(lost(1, 3, 5)), 1, 0, 1, replay.VerdictWhole},
		"two findings became one":        {report(lost(1, 3, 8)), report(lost(1, 3, 5), lost(2, 6, 8)), 1, 0, 0, replay.VerdictWhole},
		"a gap between them":             {report(lost(1, 3, 8)), report(lost(1, 3, 5), lost(2, 7, 8)), 0, 1, 0, replay.VerdictDamaged},
		"stray bytes":                    {report(stray(5)), report(stray(5)), 1, 0, 0, replay.VerdictWhole},
		"more stray bytes":               {report(stray(6)), report(stray(5)), 0, 1, 1, replay.VerdictDamaged},
		"gone":                           {report(), report(lost(1, 3, 5), torn), 0, 0, 2, replay.VerdictWhole},
		"a torn tail":                    {report(lost(1, 3, 4), torn), report(lost(1, 3, 4)), 1, 1, 0, replay.VerdictTorn},
		"another torn tail, of one byte": {report(torn), report(func() replay.Damage { d := torn; d.Length = 1; return d }()), 0, 1, 1, replay.VerdictTorn},
	} {
		c := replay.Compare(tc.now, tc.baseline)
		known, news, gone := c.Counts(tc.now)
		require.Equal(t, []int{tc.known, tc.news, tc.gone}, []int{known, news, gone}, name)
		require.Equal(t, tc.verdict, c.New(tc.now).Verdict(), name)
	}
}

// The JSON of a Verification can be read again as a baseline. It has the keys of the report.
func TestVerification_JSON(t *testing.T) {
	fsys := logOf(t, []any{upserted(t, idA, checkpoint.AddLearner{}, 1), destroyed{}, upserted(t, idB, checkpoint.AddLearner{}, 3), destroyed{}, upserted(t, idC, checkpoint.Complete{}, 5)})
	v, err := openFS(t, fsys).VerifyAll(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, v.InDoubt, 2)
	text, err := json.Marshal(v)
	require.NoError(t, err)
	var keys map[string]any
	require.NoError(t, json.Unmarshal(text, &keys))
	require.Equal(t, "damaged", keys["verdict"])
	require.Equal(t, testLog.String(), keys["uuid"])
	require.Len(t, keys["damage"], 2)
	require.NotContains(t, string(text), `"known"`)
	var back replay.Verification
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, v.UUID, back.UUID)
	c := replay.Compare(v.Report, back.Report)
	require.Equal(t, replay.Comparison{Known: []bool{true, true}}, c)
	v.Baseline = &c
	text, err = json.Marshal(v)
	require.NoError(t, err)
	require.Contains(t, string(text), `"baseline":{"known":2,"new":0,"gone":0,"gone_findings":[]}`)
	require.Error(t, json.Unmarshal([]byte(`{"kind":"checkpoint"}`), &back))
}
