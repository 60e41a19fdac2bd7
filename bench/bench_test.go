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

// A task runs in the test's own program.
func TestMain(m *testing.M) {
	if encoded := os.Getenv(taskEnv); encoded != "" {
		exit(runTask(encoded))
	}
	os.Exit(m.Run())
}

// A percentile is one of the values, and the smallest with that part of all at or
// below it.
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

// one is results with a figure of every workload for all peers that have one.
func one() *results {
	r := &results{Machine: machine{CPU: "a CPU", CPUs: 2, Kernel: "Linux 1", FileSystem: "ext4 (rw)", Go: "go1"}, Run: run{Command: "go run .", Rounds: 3}, Peers: aboutPeers()}
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

// The report replaces what is between its lines and nothing else, says what was
// measured where, and has a picture for each that it names.
func TestWriteDocs_ReplacesOnlyTheResults(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "BENCHMARKS.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+resultsBegin+"\nold\n"+resultsEnd+"\nafter\n"), 0o644))
	for range 2 { // the second time it finds its own
		require.NoError(t, writeDocs(dir, one()))
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		text := string(content)
		require.True(t, strings.HasPrefix(text, "before\n"+resultsBegin))
		require.True(t, strings.HasSuffix(text, resultsEnd+"\nafter\n"))
		require.NotContains(t, text, "old")
		for _, want := range []string{"a CPU", "Linux 1", "ext4 (rw)", "n/a: keeps no history", "### 64 writers, durable upserts", "| 10,000 (8,000 to 15,000) |"} {
			require.Contains(t, text, want)
		}
		for _, p := range peer.All() {
			require.Contains(t, text, "| "+p.Name+" |")
		}
		require.Len(t, charts(one()), 7)
		for _, c := range charts(one()) {
			require.Contains(t, text, "(bench/"+c.file+")")
			svg, err := os.ReadFile(filepath.Join(dir, "bench", c.file))
			require.NoError(t, err)
			for _, p := range peer.All() {
				require.Contains(t, string(svg), ">"+p.Name+"</text>")
			}
		}
	}
	require.NoError(t, os.WriteFile(file, []byte("no lines"), 0o644))
	require.ErrorContains(t, writeDocs(dir, one()), "lacks the lines")
}

// The document has the lines between which the results go, and names every
// workload and every flag.
func TestDocument_SaysWhatIsMeasured(t *testing.T) {
	content, err := os.ReadFile("../docs/BENCHMARKS.md")
	require.NoError(t, err)
	text := string(content)
	require.Equal(t, 1, strings.Count(text, resultsBegin))
	require.Equal(t, 1, strings.Count(text, resultsEnd))
	for _, s := range sections {
		require.Contains(t, text, "| `"+s.workload+"` |")
	}
	for _, name := range []string{"rounds", "duration", "events", "run", "peers", "dir", "json", "svg", "report", "docs", "quick", "check", "seed"} {
		require.Contains(t, text, "`-"+name)
	}
}

// A target is met at its bound, and short beyond it; what was not measured is
// neither.
func TestVerdicts(t *testing.T) {
	require.True(t, atMost("a", 10, 10, true, "").met)
	require.False(t, atMost("a", 10.1, 10, true, "").met)
	require.True(t, atLeast("a", 10, 10, true, "").met)
	require.False(t, atLeast("a", 9.9, 10, true, "").met)
	for _, v := range verdicts(&results{}) {
		require.False(t, v.met, v.target)
	}
	name, best, ok := bestPeer(one(), 64, "ops_per_s", false)
	require.True(t, ok)
	require.Equal(t, peer.All()[2].Name, name, "neither migrationlog nor the raw file")
	require.Equal(t, 10_000/3.0, best)
	name, _, _ = bestPeer(one(), 64, "p99_us", true)
	require.Equal(t, peer.All()[2].Name, name)
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "< 0.01": 0.001, "1.23": 1.234, "12.3": 12.34, "1,234,568": 1234567.8} {
		require.Equal(t, want, number(v))
	}
}

// What is recorded of a command does not say where on the machine files are.
func TestPublicCommand(t *testing.T) {
	require.Equal(t, "go run . -quick -seed 4", publicCommand([]string{"-dir", "/somewhere", "-quick", "--json=/there", "-seed", "4"}))
}

// All workloads run, in processes of their own, and leave nothing behind.
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
	_, ok := r.find("start", oursKilled, quickScale.startEvents[0])
	require.True(t, ok)
	require.Contains(t, out.String(), "Targets")
	again, err := json.Marshal(r)
	require.NoError(t, err)
	require.NotContains(t, string(again), dir)
}

// A mistake is told with what to do about it.
func TestCommand_Mistakes(t *testing.T) {
	for args, want := range map[string]string{
		"-run nothing": "leave nothing to measure", "-run (": "missing closing", "left": "unexpected argument", "-report none.json": "none.json",
	} {
		require.ErrorContains(t, command(context.Background(), strings.Fields(args), &bytes.Buffer{}), want, args)
	}
}
