package main

import (
	"cmp"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay/diff"
	"migrationlog/replay/stats"
)

// jsonOf runs a command with -o json, and reads its output.
func jsonOf[V any](t *testing.T, wantCode int, args ...string) (v V) {
	var out strings.Builder
	require.Equal(t, wantCode, run(t.Context(), append(args, "-q", "-o", "json"), nil, &out, io.Discard))
	require.NoError(t, json.Unmarshal([]byte(out.String()), &v))
	return v
}

// The statistics, quiet intervals and differences of the recording are those that an independent
// program computed.
func TestHistory_Recording(t *testing.T) {
	t.Parallel()
	dir := recordingLog(t)
	for name, test := range map[string]func(*testing.T, string){"stats": recordedStats, "filters": filteredStats, "quiet": recordedQuiet, "diff": recordedDiff} {
		t.Run(name, func(t *testing.T) { test(t, dir) })
	}
}

func recordedStats(t *testing.T, dir string) {
	r := jsonOf[stats.Result](t, exitClean, "stats", dir)
	require.Equal(t, stats.Moves{Total: 1485, Outcomes: stats.Outcomes{Done: 1303, Aborted: 176, InFlight: 6}, Retries: 128}, r.Moves)
	require.EqualValues(t, 9502, r.Events)
	require.EqualValues(t, 107_656, r.ToMS-r.FromMS)
	shares := map[checkpoint.Phase]float64{}
	for _, p := range r.Phases {
		shares[p.Phase] = math.Round(p.Share*1000) / 10
		require.Equal(t, map[checkpoint.Phase]stats.Durations{
			checkpoint.PhaseAddLearner:         {Count: 1484, P50MS: 2, P90MS: 17, P99MS: 46, MaxMS: 95, TotalMS: 8461},
			checkpoint.PhaseCatchUp:            {Count: 1607, P50MS: 80, P90MS: 1577, P99MS: 2014, MaxMS: 2039, TotalMS: 577_338},
			checkpoint.PhasePromoteLearner:     {Count: 1342, P50MS: 0, P90MS: 0, P99MS: 1, MaxMS: 2, TotalMS: 40},
			checkpoint.PhaseLeadershipTransfer: {Count: 1303, P50MS: 2, P90MS: 12, P99MS: 49, MaxMS: 83, TotalMS: 6511},
			checkpoint.PhaseCutover:            {Count: 1303, P50MS: 1, P90MS: 5, P99MS: 28, MaxMS: 237, TotalMS: 3236},
			checkpoint.PhaseComplete:           {Count: 978, P50MS: 10, P90MS: 19, P99MS: 32, MaxMS: 51, TotalMS: 10_512},
		}[p.Phase], p.Durations, p.Phase)
	}
	require.Equal(t, map[checkpoint.Phase]float64{
		checkpoint.PhaseAddLearner: 1.4, checkpoint.PhaseCatchUp: 95.3, checkpoint.PhasePromoteLearner: 0,
		checkpoint.PhaseLeadershipTransfer: 1.1, checkpoint.PhaseCutover: 0.5, checkpoint.PhaseComplete: 1.7,
	}, shares)
	require.Equal(t, stats.Durations{Count: 1303, P50MS: 85, P90MS: 679, P99MS: 1860, MaxMS: 2090, TotalMS: 311_410}, r.Done)
	require.Equal(t, stats.Durations{Count: 176, P50MS: 2007, P90MS: 2028, P99MS: 2055, MaxMS: 2058, TotalMS: 284_165}, r.Aborted)
	require.InDelta(t, 0.166, r.Paused.MaxBudgetShare, 0.001)
	r.Paused.MaxBudgetShare = 0
	require.Equal(t, stats.Pauses{Count: 1303, P50US: 1588, P90US: 12_244, P99US: 49_564, MaxUS: 83_053, TotalUS: 6_505_160}, r.Paused)

	require.Len(t, r.Nodes, 9)
	require.Equal(t, stats.Node{Node: 1, AsSource: 139, AsTarget: 144, Outcomes: stats.Outcomes{Done: 119, Aborted: 25}, Unreachable: 19}, r.Nodes[0])
	require.Equal(t, stats.Node{Node: 2, AsSource: 174, AsTarget: 180, Outcomes: stats.Outcomes{Done: 156, Aborted: 22, InFlight: 2}, Unreachable: 15}, r.Nodes[1])
	require.Equal(t, stats.Node{Node: 9, AsSource: 141, AsTarget: 134, Outcomes: stats.Outcomes{Done: 122, Aborted: 12}, Unreachable: 8}, r.Nodes[8])
	require.Len(t, r.VShards, 32)
	require.Len(t, r.Minutes, 3)
	var moves stats.Moves
	for _, v := range r.VShards {
		moves.Total += v.Total
		moves.Retries += v.Retries
	}
	for _, m := range r.Minutes {
		moves.Done += m.Done
		moves.Aborted += m.Aborted
		require.EqualValues(t, 6, m.MaxInFlight)
	}
	moves.InFlight = 6
	require.Equal(t, r.Moves, moves)
	require.Len(t, r.Reasons, 2)
	require.Equal(t, "target node unreachable during catch-up", r.Reasons[0].Reason)
	require.Equal(t, [3]uint64{137, 2000, 2039}, [3]uint64{r.Reasons[0].Count, r.Reasons[0].MinMS, r.Reasons[0].MaxMS})
	require.Equal(t, map[uint64]uint64{8: 21, 1: 19, 4: 18, 5: 16, 2: 15, 7: 14, 3: 13, 6: 13, 9: 8}, r.Reasons[0].ByTarget)
	require.Equal(t, [3]uint64{39, 0, 1}, [3]uint64{r.Reasons[1].Count, r.Reasons[1].MinMS, r.Reasons[1].MaxMS})
	require.Equal(t, checkpoint.PhasePromoteLearner, r.Reasons[1].Phase)
}

func filteredStats(t *testing.T, dir string) {
	r := jsonOf[stats.Result](t, exitClean, "stats", dir, "--vshard", "11")
	require.Equal(t, stats.Outcomes{Done: 43, Aborted: 9, InFlight: 1}, r.Moves.Outcomes)
	r = jsonOf[stats.Result](t, exitClean, "stats", dir, "--node", "9")
	require.EqualValues(t, 141+134, r.Moves.Total)
	last := jsonOf[stats.Result](t, exitClean, "stats", dir, "--last", "20s")
	require.Equal(t, last, jsonOf[stats.Result](t, exitClean, "stats", dir, "--since", "-20s"))
	before := jsonOf[stats.Result](t, exitClean, "stats", dir, "--until", "2026-11-23T02:09:45.304Z")
	require.EqualValues(t, 1303, last.Moves.Done+before.Moves.Done)
	require.EqualValues(t, 9502, last.Events+before.Events)
	jsonOf[stats.Result](t, exitNoMatch, "stats", dir, "--vshard", "99")
	for _, args := range [][]string{{"--by", "hour"}, {"--last", "soon"}, {"--last", "5m", "--since", "-5m"}, {"--until", ""}, {"--node", "x"}, {"--since", "-5s", "--until", "-10s"}} {
		require.Equal(t, exitUsage, run(t.Context(), append([]string{"stats", dir}, args...), nil, io.Discard, io.Discard), args)
	}
}

func recordedQuiet(t *testing.T, dir string) {
	q := jsonOf[quietJSON](t, exitClean, "quiet", dir, "--before", "2026-11-23T02:09:00Z")
	require.EqualValues(t, 1198, q.Intervals)
	require.Len(t, q.List, 1198)
	require.EqualValues(t, 6353, q.Points)
	require.EqualValues(t, 98_359, q.QuietMS)
	require.EqualValues(t, 107_656, q.SpanMS)
	require.EqualValues(t, 8293, q.Longest.FirstSeq)
	require.EqualValues(t, 8320, q.Longest.LastSeq)
	require.Equal(t, &stats.QuietPoint{Seq: 6138, AtMS: 1_795_399_739_998}, q.Last)
	q = jsonOf[quietJSON](t, exitNoMatch, "quiet", dir, "--before", "2026-11-23T02:08:00Z")
	require.Nil(t, q.Last)
	var lines strings.Builder
	require.Zero(t, run(t.Context(), []string{"quiet", dir, "-o", "ndjson"}, nil, &lines, io.Discard))
	require.Equal(t, 1198, strings.Count(lines.String(), "\n"))
}

// readDiff has the keys of `diff -o json` that the tests read.
type readDiff struct {
	From, To sideJSON
	Rows     map[string]int
	Between  diff.Counts
	Copies   *copiesJSON
	Changes  []struct {
		Change        diff.Kind
		Before, After *struct{ Seq uint64 }
		Ended         *endedJSON
	}
}

func recordedDiff(t *testing.T, dir string) {
	d := jsonOf[readDiff](t, exitFindings, "diff", dir, "--at", "#4000", "--at", "#6000", "--all")
	require.Equal(t, sideJSON{4000, 1_795_399_719_292, 152}, d.From)
	require.Equal(t, sideJSON{6000, 1_795_399_739_203, 218}, d.To)
	require.Equal(t, map[string]int{"new": 70, "gone": 4, "moved": 1, "same": 147, "lost": 0, "stale": 0}, d.Rows)
	require.Equal(t, diff.Counts{Events: 2000, Began: 308, Done: 274, Aborted: 33, Removed: 209, Passed: 238}, d.Between)
	require.Len(t, d.Changes, 70+4+1+238)
	require.Equal(t, diff.Moved, d.Changes[0].Change)
	require.EqualValues(t, 3979, d.Changes[0].Before.Seq)
	require.EqualValues(t, 4008, d.Changes[0].After.Seq)
	for _, c := range d.Changes {
		require.Equal(t, c.Change == diff.Moved || c.Change == diff.Gone, c.Before != nil)
		require.Equal(t, c.Change == diff.Moved || c.Change == diff.New, c.After != nil)
		require.Equal(t, c.Change == diff.Gone || c.Change == diff.Passed, c.Ended != nil)
	}
	run6000 := func(code int, args ...string) readDiff {
		return jsonOf[readDiff](t, code, append([]string{"diff", dir}, args...)...)
	}
	require.Len(t, run6000(exitFindings, "--at", "#4000", "--at", "#6000").Changes, 75)
	require.Len(t, run6000(exitFindings, "--at", "#4000", "--at", "#6000", "--vshard", "22").Changes, 5)
	require.Equal(t, 331, run6000(exitFindings, "--at", "-5s").To.Rows)
	require.Empty(t, run6000(exitClean, "--at", "#9502").Changes)
	for _, args := range [][]string{{}, {"--at", "#9999"}, {"--at", "#1", "--at", "#2", "--at", "#3"}, {"--at", "soon"}, {dir, "--at", "#3"}} {
		require.Equal(t, exitUsage, run(t.Context(), append([]string{"diff", dir}, args...), nil, io.Discard, io.Discard), args)
	}
}

// -o ndjson prints one line for each group.
func TestStats_NDJSON(t *testing.T) {
	dir, _ := tempLog(t)
	r := jsonOf[stats.Result](t, exitClean, "stats", dir)
	var nodes []stats.Node
	for line := range strings.Lines(output(t, exitClean, "stats", dir, "-q", "--by", "node", "-o", "ndjson")) {
		var n stats.Node
		require.NoError(t, json.Unmarshal([]byte(line), &n))
		nodes = append(nodes, n)
	}
	require.Equal(t, r.Nodes, nodes)
	for by, lines := range map[string]int{byPhase: 6, byVShard: len(r.VShards), byMinute: len(r.Minutes), byReason: len(r.Reasons)} {
		require.Equal(t, lines, strings.Count(output(t, exitClean, "stats", dir, "-q", "--by", by, "-o", "ndjson"), "\n"), by)
	}
}

// --slowest lists the longest stays of the whole log, and its lines have the values of the table.
func TestStats_Slowest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	importedFrom(recordingFile)(t, dir)
	code, out, errs := runTool(t, nil, "stats", dir, "--slowest", "3", "--width", "80")
	require.Zero(t, code, errs)
	require.Equal(t, ` SEQ  VSHARD  MOVE    PHASE    STAYED  ID
9124      18  6 -> 2  CatchUp   2.04s  b4a12e
8261       9  1 -> 5  CatchUp   2.03s  2713ca
8703      16  3 -> 6  CatchUp   2.03s  da368f
`, out)
	lines := jsonOf[stats.Result](t, exitClean, "stats", dir, "--slowest", "200").Slowest
	require.Len(t, lines, 200)
	require.True(t, slices.IsSortedFunc(lines, func(a, b stats.SlowStay) int { return cmp.Compare(b.StayedMS, a.StayedMS) }))
	require.EqualValues(t, 2039, lines[0].StayedMS)
	require.EqualValues(t, 2000, lines[136].StayedMS)
	_, _, errs = runTool(t, nil, "stats", dir, "--vshard", "11")
	require.Contains(t, errs, "next: replay-tool stats "+dir+" --slowest 20 --vshard 11   the longest stays\n")
	for _, wrong := range [][]string{{"--slowest", "0"}, {"--slowest", "3", "--by", "node"}} {
		code, _, _ = runTool(t, nil, append([]string{"stats", dir}, wrong...)...)
		require.Equal(t, exitUsage, code)
	}
}

// After a lost event, the history is uncertain up to the end of the next snapshot, which has the rows
// that the lost event set.
func TestQuiet_Snapshot(t *testing.T) {
	all, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	lines := strings.SplitAfterN(string(all), "\n", 101)
	dir := filepath.Join(t.TempDir(), "log")
	for _, part := range [][]string{lines[:40], lines[40:100]} { // each import ends with a snapshot
		require.Zero(t, run(t.Context(), []string{"import", "-q", dir, "-"}, strings.NewReader(strings.Join(part, "")), io.Discard, io.Discard))
	}
	whole := jsonOf[quietJSON](t, exitClean, "quiet", dir)
	flipBodies(t, dir, 20, 21)
	damaged := jsonOf[quietJSON](t, exitDamage, "quiet", dir)
	require.NotZero(t, damaged.UncertainIntervals)
	for _, i := range damaged.List {
		require.Equal(t, i.LastSeq >= 20 && i.FirstSeq < 40, i.Uncertain, "%+v", i)
	}
	require.Equal(t, whole.Last, damaged.Last)
	require.Equal(t, whole.List[len(whole.List)-7:], damaged.List[len(damaged.List)-7:])
}
