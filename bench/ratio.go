package main

import (
	"fmt"
	"math"

	"migrationlog/bench/peer"
)

// ratio divides a metric of one peer by the same metric of another one. It divides within each
// round, so that a phase in which the device is slow affects both. It returns false if a round
// lacks one of the values.
func (r *results) ratio(workload string, x int, metric, name, other string) (spread, bool) {
	a, ok1 := r.find(workload, name, x)
	b, ok2 := r.find(workload, other, x)
	above, below := a.Values[metric].Rounds, b.Values[metric].Rounds
	if !ok1 || !ok2 || len(above) == 0 || len(above) != len(below) {
		return spread{}, false
	}
	rounds := make([]float64, len(above))
	for i := range rounds {
		if rounds[i] = above[i] / below[i]; math.IsNaN(rounds[i]) || math.IsInf(rounds[i], 0) {
			return spread{}, false
		}
	}
	return spreadOf(rounds), true
}

// text shows a ratio: the median, and the least and the greatest of the rounds.
func ratioText(s spread) string {
	if len(s.Rounds) < 2 {
		return fmt.Sprintf("%.2f", s.Median)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Min, s.Max)
}

// ratioWriters are the numbers of writers for which the throughput is compared.
var ratioWriters = []int{1, 64, 256}

// ratioTable compares migrationlog's throughput with the raw file, the fastest log and the fastest
// table of latest rows, for 1, 64 and 256 writers.
func ratioTable(r *results) table {
	t := table{
		title: "Throughput relative to other stores", leftColumns: 4, head: []string{"relative to"},
		note: "Higher is better: at 1.00 migrationlog completes as many durable upserts per second as the other store, above 1.00 it completes more. " +
			"The bench divides within each round. A cell has the median of the rounds, the least and the greatest in parentheses, and the store with the highest median throughput.",
	}
	for _, writers := range ratioWriters {
		t.head = append(t.head, plural(writers, "writer"))
	}
	for _, row := range []struct{ title, keeps string }{
		{"the raw file", peer.KeepsBytes}, {"the fastest log", peer.KeepsHistory}, {"the fastest table of latest rows", peer.KeepsRows},
	} {
		cells := []string{row.title}
		for _, writers := range ratioWriters {
			cell := "not measured"
			name, _ := fastest(r, row.keeps, writers)
			if s, ok := r.ratio("upsert", writers, "ops_per_s", ours, name); ok {
				cell = ratioText(s) + ", " + name
			}
			cells = append(cells, cell)
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

// fastest returns the peer with the highest median throughput among the peers whose column keeps is
// the same. It returns false if none of them was measured.
func fastest(r *results, keeps string, writers int) (name string, ok bool) {
	keepsOf := map[string]string{}
	for _, a := range r.Peers {
		keepsOf[a.Name] = a.Keeps
	}
	return bestOf(r, writers, "ops_per_s", false, func(name string) bool { return keepsOf[name] == keeps })
}

// bestOf returns the peer with the highest median of a metric of the workload upsert, or with the
// lowest one, among those that the condition admits.
func bestOf(r *results, writers int, metric string, lowest bool, admits func(name string) bool) (name string, ok bool) {
	best := 0.0
	for _, f := range r.of("upsert", writers) {
		v, has := f.Values[metric]
		if !has || !admits(f.Peer) {
			continue
		}
		if !ok || lowest && v.Median < best || !lowest && v.Median > best {
			name, best, ok = f.Peer, v.Median, true
		}
	}
	return name, ok
}

// oldTable compares the present build with the build of -old, in every metric whose spread the
// tables show. It is empty without -old.
func oldTable(r *results) table {
	t := table{
		title: "Present build relative to the old build", leftColumns: 3,
		note: "The bench divides within each round. A ratio has the median of the rounds, and the least and the greatest in parentheses.",
		head: []string{"measurement", "metric", "better", "present", "old", "present / old"},
	}
	pairs := [][2]string{{ours, variantOf(oldBuild)}}
	for _, prepared := range []string{afterKill, noSnapshot} {
		pairs = append(pairs, [2]string{variantOf(prepared), variantOf(oldBuild + ", " + prepared)})
	}
	for _, s := range sections {
		for _, x := range r.xs(s.workload) {
			for _, pair := range pairs {
				for _, c := range s.columns {
					ratio, ok := r.ratio(s.workload, x, c.metric, pair[0], pair[1])
					if !ok || c.better == "" {
						continue
					}
					present, _ := r.median(s.workload, pair[0], x, c.metric)
					old, _ := r.median(s.workload, pair[1], x, c.metric)
					t.rows = append(t.rows, []string{
						s.title(x) + ": " + pair[0], c.head, c.better, number(present), number(old), ratioText(ratio),
					})
				}
			}
		}
	}
	return t
}
