package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"migrationlog/bench/peer"
	"migrationlog/bench/plot"
)

// chart is a plot and its file name.
type chart struct {
	plot.Chart
	file string
}

// charts returns the plots for which the results have figures.
func charts(r *results) (all []chart) {
	if xs := r.xs("upsert"); len(xs) > 1 {
		all = append(all, chart{throughputChart(r), "throughput.svg"})
	}
	for _, writers := range r.xs("upsert") {
		all = append(all, chart{latencyChart(r, writers), fmt.Sprintf("latency-%d.svg", writers)})
	}
	if xs := r.xs("start"); len(xs) > 1 {
		all = append(all,
			chart{growthChart(r, "Start by length of history", "milliseconds until all live rows are in memory", "start_ms"), "start.svg"},
			chart{growthChart(r, "Heap at the start by length of history", "peak of the Go heap, MiB", "peak_heap_mib"), "heap.svg"})
	}
	return all
}

// writeCharts writes all plots into dir.
func writeCharts(dir string, r *results) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range charts(r) {
		var svg bytes.Buffer
		if err := c.WriteSVG(&svg); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, c.file), svg.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *results) shown() string {
	if r.Run.Rounds == 1 {
		return "one round"
	}
	return fmt.Sprintf("median of %d rounds; bars: the least and the greatest", r.Run.Rounds)
}

// variants are migrationlog's names with prepared files or another build. The order selects the
// look.
var variants = []string{
	variantOf(noSnapshot), variantOf(afterKill), variantOf(oldBuild), variantOf(oldBuild + ", " + noSnapshot), variantOf(oldBuild + ", " + afterKill),
}

// lineOf returns the empty series of a peer, with the look that it has in all charts.
func lineOf(name string) plot.Series {
	line := plot.Series{Name: name}
	switch {
	case name == ours:
		line.Style = plot.Subject
	case isOurs(name):
		line.Style, line.Number = plot.Variant, slices.Index(variants, name)
	case name == rawFileName:
		line.Style = plot.Reference
	default:
		line.Number = slices.IndexFunc(peer.All(), func(p peer.Peer) bool { return p.Name == name }) - 2 // after these two
	}
	return line
}

// byX returns a metric of every peer over x.
func (r *results) byX(workload, metric string) (lines []plot.Series) {
	for _, name := range r.names(workload) {
		line := lineOf(name)
		for _, x := range r.xs(workload) {
			if f, ok := r.find(workload, name, x); ok {
				v := f.Values[metric]
				line.Points = append(line.Points, plot.Point{X: float64(x), Y: v.Median, Low: v.Min, High: v.Max})
			}
		}
		if len(line.Points) > 0 {
			lines = append(lines, line)
		}
	}
	return lines
}

func (r *results) xTicks(workload string) (ticks []plot.Tick) {
	for _, x := range r.xs(workload) {
		ticks = append(ticks, plot.Tick{Value: float64(x), Name: plot.Name(float64(x))})
	}
	return ticks
}

func throughputChart(r *results) plot.Chart {
	return plot.Chart{
		Title: "Durable upserts by number of writers", Subtitle: r.shown(),
		X:      plot.Axis{Label: "writers", Log: true, Ticks: r.xTicks("upsert")},
		Y:      plot.Axis{Label: "upserts per second", Log: true},
		Series: r.byX("upsert", "ops_per_s"),
	}
}

func growthChart(r *results, title, y, metric string) plot.Chart {
	return plot.Chart{
		Title: title, Subtitle: r.shown(),
		X:      plot.Axis{Label: "events in the history", Log: true, Ticks: r.xTicks("start")},
		Y:      plot.Axis{Label: y, Log: true},
		Series: r.byX("start", metric),
	}
}

// latencyChart shows the whole distribution. The x axis is logarithmic in the part of the ops that
// take longer: each decade has a tenth of the ops of the one before.
func latencyChart(r *results, writers int) plot.Chart {
	c := plot.Chart{
		Title: "Latency of a durable upsert, " + plural(writers, "writer"), Subtitle: strings.Replace(r.shown(), "bars", "bars, for migrationlog and the raw file", 1),
		X: plot.Axis{Label: "part of all upserts that take at most this time", Log: true, Ticks: []plot.Tick{
			{Value: 1, Name: "0 %"}, {Value: 2, Name: "50 %"}, {Value: 10, Name: "90 %"}, {Value: 100, Name: "99 %"}, {Value: 1000, Name: "99.9 %"}, {Value: 10_000, Name: "99.99 %"},
		}},
		Y: plot.Axis{Label: "microseconds", Log: true},
	}
	for _, f := range r.of("upsert", writers) {
		line := lineOf(f.Peer)
		for _, q := range quantiles {
			if v, ok := f.Values[q.metric]; ok && q.part < 1 {
				p := plot.Point{X: 1 / (1 - q.part), Y: v.Median}
				if line.Style != plot.Plain { // bars of all series would hide the lines
					p.Low, p.High = v.Min, v.Max
				}
				line.Points = append(line.Points, p)
			}
		}
		c.Series = append(c.Series, line)
	}
	return c
}
