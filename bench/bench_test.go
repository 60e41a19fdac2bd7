package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/bench/peer"
)

// A child process runs its task in the test's own program.
func TestMain(m *testing.M) {
	if encoded := os.Getenv(taskEnv); encoded != "" {
		exit(runTask(encoded))
	}
	os.Exit(m.Run())
}

// A percentile is the smallest of the values that has at least that part of all values at or below
// it.
func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for part, want := range map[float64]int{0: 1, 0.5: 50, 0.501: 51, 0.9: 90, 0.99: 99, 0.999: 100, 1: 100} {
		require.Equal(t, want, percentile(hundred, part), part)
	}
	require.Equal(t, 7, percentile([]int{7}, 0.99))
	require.Zero(t, percentile([]int{}, 0.5))
	for range 200 {
		values := make([]int, 1+rand.IntN(50))
		for i := range values {
			values[i] = rand.IntN(20)
		}
		slices.Sort(values)
		part := rand.Float64()
		got := percentile(values, part)
		atOrBelow, below := 0, 0
		for _, v := range values {
			if v <= got {
				atOrBelow++
			}
			if v < got {
				below++
			}
		}
		require.GreaterOrEqual(t, float64(atOrBelow), part*float64(len(values)))
		require.Less(t, float64(below), max(part*float64(len(values)), 1e-9))
	}
}

func TestSpreadOf(t *testing.T) {
	require.Equal(t, spread{Median: 3, Min: 1, Max: 9, Rounds: []float64{9, 1, 3}}, spreadOf([]float64{9, 1, 3}))
	require.Equal(t, 2.5, spreadOf([]float64{4, 1, 2, 3}).Median)
	require.Zero(t, spreadOf(nil).Median)
}

// example returns results with figures of the workloads upsert and start for all peers.
func example() *results {
	r := &results{Machine: machine{CPU: "a CPU", CPUs: 2, Kernel: "Linux 1", FileSystem: "ext4 (rw)", Go: "go1"}, Run: run{Command: "go run . -run load|get", Rounds: 3}, Peers: aboutPeers()}
	for i, p := range peer.All() {
		v := func(x float64) spread { return spreadOf([]float64{x, x * 1.5, x * 0.8}) }
		f := float64(i + 1)
		for _, writers := range fullScale.writers {
			latencies := map[string]spread{"ops_per_s": v(10_000 / f)}
			for _, q := range quantiles {
				latencies[q.metric] = v(100 * f * (1 + q.part))
			}
			r.Figures = append(r.Figures, figure{Workload: "upsert", Peer: p.Name, X: writers, Values: latencies})
		}
		for _, events := range fullScale.startEvents {
			r.Figures = append(r.Figures, figure{Workload: "start", Peer: p.Name, X: events, Values: map[string]spread{"start_ms": v(f), "peak_heap_mib": v(f)}})
		}
	}
	r.Figures = append(r.Figures, figure{Workload: "history", Peer: "badger", X: 10, Why: "keeps no history"})
	return r
}

// The report replaces the text between its two lines and nothing else. The text begins with the
// ratios, names the machine, and every plot that it names exists.
func TestWriteDocs_ReplacesOnlyTheResults(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "BENCHMARKS.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+resultsBegin+"\nold\n"+resultsEnd+"\nafter\n"), 0o644))
	for range 2 { // the second time it replaces its own text
		require.NoError(t, writeDocs(dir, example()))
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		text := string(content)
		require.True(t, strings.HasPrefix(text, "before\n"+resultsBegin))
		require.True(t, strings.HasSuffix(text, resultsEnd+"\nafter\n"))
		require.NotContains(t, text, "old")
		for _, want := range []string{"a CPU", "Linux 1", "ext4 (rw)", "n/a: keeps no history", "| command | `go run . -run load\\|get` |", "### 64 writers, durable upserts", "| 10,000 (8,000 to 15,000) |"} {
			require.Contains(t, text, want)
		}
		require.Regexp(t, "^before\n"+resultsBegin+"\n\n### Throughput relative", text)
		for _, p := range peer.All() {
			require.Contains(t, text, "| "+p.Name+" |")
		}
		require.Len(t, charts(example()), 7)
		for _, c := range charts(example()) {
			require.Contains(t, text, "(bench/"+c.file+")")
			svg, err := os.ReadFile(filepath.Join(dir, "bench", c.file))
			require.NoError(t, err)
			for _, p := range peer.All() {
				require.Contains(t, string(svg), ">"+p.Name+"</text>")
			}
		}
	}
	require.NoError(t, os.WriteFile(file, []byte("no lines"), 0o644))
	require.ErrorContains(t, writeDocs(dir, example()), "lacks the lines")
}

// The document has the two lines that enclose the results, directly after the heading, and
// describes every workload and every flag.
func TestDocument_SaysWhatIsMeasured(t *testing.T) {
	content, err := os.ReadFile("../docs/BENCHMARKS.md")
	require.NoError(t, err)
	text := string(content)
	require.Equal(t, 1, strings.Count(text, resultsBegin))
	require.Equal(t, 1, strings.Count(text, resultsEnd))
	require.True(t, strings.Contains(text, "## Results\n\n"+resultsBegin))
	require.True(t, strings.Contains(text, "go run . -rounds 5 "), "the committed figures must have five rounds")
	for _, s := range sections {
		require.True(t, strings.Contains(text, "| `"+s.workload+"` |"), s.workload)
	}
	require.True(t, strings.Contains(text, "| `"+rebuild+"` |"), rebuild)
	for _, name := range []string{"rounds", "duration", "events", "run", "peers", "old", "dir", "json", "svg", "report", "docs", "quick", "check", "seed"} {
		require.True(t, strings.Contains(text, "`-"+name), name)
	}
}

// A target is met at its bound and missed beyond it. A target that was not measured is not met. The
// table states for each ratio which side of 1 meets the target.
func TestVerdicts(t *testing.T) {
	require.True(t, atMost("a", 10, 10, true, "").met)
	require.False(t, atMost("a", 10.1, 10, true, "").met)
	require.True(t, atLeast("a", 10, 10, true, "").met)
	require.False(t, atLeast("a", 9.9, 10, true, "").met)
	for _, v := range verdicts(&results{}) {
		require.False(t, v.met, v.target)
	}
	for _, v := range verdicts(example()) {
		if v.got != "" {
			require.Equal(t, strings.Contains(v.got, "at most"), v.metIf == "<= 1", v.target)
			require.Equal(t, strings.Contains(v.got, "at least"), v.metIf == ">= 1", v.target)
			require.Equal(t, v.met, v.ratio == 1 || (v.ratio < 1) == (v.metIf == "<= 1"), v.target)
		}
	}
	require.Equal(t, []string{"target", "result", "measured", "measured / bound", "met if"}, targetTable(example()).head)
	for _, row := range targetTable(example()).rows {
		require.Regexp(t, "^(<=|>=) 1$", row[4])
	}
	name, best, ok := bestPeer(example(), 64, "ops_per_s", false)
	require.True(t, ok)
	require.Equal(t, peer.All()[2].Name, name, "the first peer except migrationlog and the raw file")
	require.Equal(t, 10_000/3.0, best)
	name, _, _ = bestPeer(example(), 64, "p99_us", true)
	require.Equal(t, peer.All()[2].Name, name)
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "< 0.01": 0.001, "1.23": 1.234, "12.3": 12.34, "1,234,568": 1234567.8} {
		require.Equal(t, want, number(v))
	}
}

// The recorded command names the number of rounds, and no directory of this machine.
func TestPublicCommand(t *testing.T) {
	require.Equal(t, "go run . -rounds 5 -quick -old DIR -seed 4",
		publicCommand([]string{"-dir", "/somewhere", "-quick", "-old", "/there", "--json=/there", "-seed", "4"}, 5))
	require.Equal(t, "go run . -check -rounds 7", publicCommand([]string{"-check", "-rounds", "7"}, 7))
}

// Without -rounds a run has five rounds, the number of the committed figures.
func TestParse_FiveRounds(t *testing.T) {
	for args, want := range map[string]int{"": 5, "-check": 5, "-quick": 1, "-rounds 3": 3, "-quick -rounds 2": 2} {
		o, err := parse(strings.Fields(args))
		require.NoError(t, err)
		require.Equal(t, want, o.rounds, args)
	}
}

// All workloads run, each task in its own process. No file is left after the run.
func TestCommand_Quick(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "results.json")
	var out bytes.Buffer
	require.NoError(t, command(context.Background(), []string{"-quick", "-check", "-dir", dir, "-json", file, "-peers", "migrationlog|raw file|tidwall|bbolt"}, &out))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	r, err := readResults(file)
	require.NoError(t, err)
	for _, s := range sections {
		require.NotEmpty(t, r.xs(s.workload), s.workload)
	}
	_, ok := r.find("start", variantOf(afterKill), quickScale.startEvents[0])
	require.True(t, ok)
	for _, name := range []string{ours, variantOf(noSnapshot), "bbolt Batch", "tidwall/wal"} {
		for _, rows := range quickScale.loadRows {
			f, ok := r.find("load", name, rows)
			require.True(t, ok, name)
			require.Equal(t, float64(rows), f.Values["rows"].Median, name)
			for _, metric := range []string{"load_ms", "peak_heap_mib", "peak_rss_mib", "heap_mib", "heap_bytes_per_row"} {
				require.Positive(t, f.Values[metric].Median, "%s %s", name, metric)
			}
		}
	}
	require.Contains(t, out.String(), "Targets")
	again, err := json.Marshal(r)
	require.NoError(t, err)
	require.NotContains(t, string(again), dir)
}

// The error of a wrong argument names the mistake.
func TestCommand_Mistakes(t *testing.T) {
	for args, want := range map[string]string{
		"-run nothing": "leave nothing to measure", "-run (": "missing closing", "left": "unexpected argument", "-report none.json": "none.json",
		"-rounds -1": "must be positive", "-quick -old plot": "not the root of the module migrationlog",
	} {
		require.ErrorContains(t, command(context.Background(), strings.Fields(args), &bytes.Buffer{}), want, args)
	}
}
