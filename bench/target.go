package main

import (
	"fmt"
	"math"
)

const rawFileName = "raw file"

// verdict compares the results with one target.
type verdict struct {
	target string
	got    string
	ratio  float64 // the measured value divided by the bound; NaN: not measured
	metIf  string  // condition on the ratio
	met    bool
}

// atMost compares a value with an upper bound.
func atMost(target string, got, bound float64, ok bool, unit string) verdict {
	v := verdict{target: target, ratio: math.NaN(), metIf: "<= 1"}
	if ok {
		v.got = fmt.Sprintf("%s, at most %s %s", number(got), number(bound), unit)
		v.ratio, v.met = got/bound, got <= bound
	}
	return v
}

// atLeast compares a value with a lower bound.
func atLeast(target string, got, bound float64, ok bool, unit string) verdict {
	v := verdict{target: target, ratio: math.NaN(), metIf: ">= 1"}
	if ok {
		v.got = fmt.Sprintf("%s, at least %s %s", number(got), number(bound), unit)
		v.ratio, v.met = got/bound, got >= bound
	}
	return v
}

// verdicts compares the results with all targets.
func verdicts(r *results) []verdict {
	all := oneWriter(r)
	for _, writers := range []int{64, 256} {
		all = append(all, manyWriters(r, writers)...)
	}
	return append(append(all, starts(r)...), sizes(r)...)
}

func oneWriter(r *results) []verdict {
	p50, ok1 := r.median("upsert", ours, 1, "p50_us")
	rawP50, ok2 := r.median("upsert", rawFileName, 1, "p50_us")
	ops, ok3 := r.median("upsert", ours, 1, "ops_per_s")
	rawOps, ok4 := r.median("upsert", rawFileName, 1, "ops_per_s")
	best, most, ok5 := bestPeer(r, 1, "ops_per_s", false)
	return []verdict{
		atMost("1 writer: p50 at most 1.15 × the raw file's", p50, 1.15*rawP50, ok1 && ok2, "µs"),
		atLeast("1 writer: throughput at least 0.85 × the raw file's", ops, 0.85*rawOps, ok3 && ok4, "ops/s"),
		atLeast("1 writer: throughput above every peer's (best: "+best+")", ops, most, ok3 && ok5, "ops/s"),
	}
}

func manyWriters(r *results, writers int) []verdict {
	ops, ok1 := r.median("upsert", ours, writers, "ops_per_s")
	p99, ok2 := r.median("upsert", ours, writers, "p99_us")
	fastest, most, ok3 := bestPeer(r, writers, "ops_per_s", false)
	fastestP99, ok4 := r.median("upsert", fastest, writers, "p99_us")
	calmest, least, ok5 := bestPeer(r, writers, "p99_us", true)
	prefix := plural(writers, "writer") + ": "
	return []verdict{
		atLeast(prefix+"throughput at least 2 × the best peer's ("+fastest+")", ops, 2*most, ok1 && ok3, "ops/s"),
		atMost(prefix+"p99 no worse than that of the peer with the best throughput ("+fastest+")", p99, fastestP99, ok2 && ok4, "µs"),
		atMost(prefix+"p99 no worse than the lowest of any peer ("+calmest+")", p99, least, ok2 && ok5, "µs"),
	}
}

// bestPeer returns the best peer apart from migrationlog and the raw file, and its median.
func bestPeer(r *results, writers int, metric string, lowest bool) (name string, value float64, ok bool) {
	name, ok = bestOf(r, writers, metric, lowest, func(name string) bool { return !isOurs(name) && name != rawFileName })
	value, _ = r.median("upsert", name, writers, metric)
	return name, value, ok
}

func starts(r *results) []verdict {
	rate, ok := r.median("start", variantOf(noSnapshot), 1_000_000, "events_per_s")
	all := []verdict{atLeast("1,000,000 events replayed without a snapshot: 5,000,000 events/s", rate, 5e6, ok, "events/s")}
	least, most, measured := math.Inf(1), 0.0, true
	for _, events := range fullScale.startEvents {
		v, ok := r.median("start", ours, events, "start_ms")
		least, most, measured = min(least, v), max(most, v), measured && ok
	}
	heap, ok := r.median("start", ours, 1_000_000, "peak_heap_mib")
	replayHeap, ok2 := r.median("start", variantOf(noSnapshot), 1_000_000, "peak_heap_mib")
	return append(all,
		atMost("start with a snapshot: the longest after 10,000 to 10,000,000 events at most 2 × the shortest", most, 2*least, measured, "ms"),
		atMost("start with a snapshot: at most 30 ms", most, 30, measured, "ms"),
		atMost("heap after opening 1,000,000 events with a snapshot: at most 32 MiB", heap, 32, ok, "MiB"),
		atMost("heap after opening 1,000,000 events without a snapshot: at most 32 MiB", replayHeap, 32, ok2, "MiB"),
	)
}

func sizes(r *results) (all []verdict) {
	for _, rows := range fullScale.getRows {
		ns, ok1 := r.median("get", ours, rows, "get_ns")
		allocs, ok2 := r.median("get", ours, rows, "allocs_per_get")
		of := fmt.Sprintf("Get among %s rows while a writer runs: ", count(rows))
		all = append(all, atMost(of+"at most 100 ns", ns, 100, ok1, "ns"))
		all = append(all, atMost(of+"no allocation", allocs, 0.5, ok2, "allocations, with the writer's"))
	}
	bytes, ok := r.median("disk", ours, fullScale.diskEvents, "allocated_bytes_per_event")
	return append(all, atMost("disk: at most 150 bytes per AddLearner event", bytes, 150, ok, "bytes"))
}

// targetTable shows all verdicts. A reader needs the direction of each ratio, so it has a column.
func targetTable(r *results) table {
	t := table{title: "Targets", head: []string{"target", "result", "measured", "measured / bound", "met if"}}
	for _, v := range verdicts(r) {
		row := []string{v.target, "not measured", "", "", v.metIf}
		if !math.IsNaN(v.ratio) {
			row = []string{v.target, "short", v.got, fmt.Sprintf("%.2f", v.ratio), v.metIf}
			if v.met {
				row[1] = "met"
			}
		}
		t.rows = append(t.rows, row)
	}
	return t
}
