package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is a table for a terminal or for a document.
type table struct {
	title string
	note  string
	head  []string
	rows  [][]string

	leftColumns int // columns that are aligned to the left, before those aligned to the right; 0: two
}

func (t table) isLeft(column int) bool { return column < cmp.Or(t.leftColumns, 2) }

// column describes how a metric is shown.
type column struct {
	head   string
	metric string
	spread bool   // with the least and the greatest of the rounds
	better string // lower or higher; "": neither
}

const lower, higher = "lower", "higher"

// sections are the workloads in the order of the tables.
var sections = []struct {
	workload string
	title    func(x int) string
	note     string
	columns  []column
}{
	{"upsert", func(x int) string { return plural(x, "writer") + ", durable upserts" },
		"An op ends when its event is durable. CPU is the CPU time of the whole process on all cores, including the bench's own work.",
		[]column{
			{"ops/s", "ops_per_s", true, higher}, {"p50 µs", "p50_us", true, lower}, {"p90 µs", "p90_us", false, lower}, {"p99 µs", "p99_us", true, lower},
			{"p99.9 µs", "p99_9_us", false, lower}, {"max µs", "max_us", false, lower}, {"CPU µs/op", "cpu_us_per_op", true, lower},
		}},
	{"import", func(x int) string { return "Import of " + count(x) + " events" },
		"Each peer imports in its fastest way, with batches and without a sync for each event. All events are durable at the end.",
		[]column{{"events/s", "events_per_s", true, higher}, {"ms", "import_ms", false, ""}}},
	{"start", func(x int) string { return "Start after " + count(x) + " events" },
		"Time in a new process until all live rows are in a Go map. Heap is the peak size of the Go heap during the opening. Process is the peak resident memory of the process.",
		[]column{
			{"ms", "start_ms", true, lower}, {"events/s", "events_per_s", false, ""}, {"heap MiB", "peak_heap_mib", true, lower},
			{"heap before MiB", "heap_before_mib", false, ""}, {"heap from system MiB", "heap_sys_mib", false, lower},
			{"process MiB", "peak_rss_mib", false, lower}, {"rows", "rows", false, ""},
		}},
	{"load", func(x int) string { return "Load of " + count(x) + " live rows" },
		"Time in a new process until all live rows are in a Go map. Peak heap is the peak size of the Go heap during the opening. Process is the peak resident memory of the process, which includes pages of a memory-mapped file. " +
			"Heap afterwards is what the open store and the map occupy after a garbage collection, also given per row.",
		[]column{
			{"ms", "load_ms", true, lower}, {"peak heap MiB", "peak_heap_mib", true, lower}, {"process MiB", "peak_rss_mib", true, lower},
			{"heap afterwards MiB", "heap_mib", false, lower}, {"heap bytes/row", "heap_bytes_per_row", true, lower}, {"rows", "rows", false, ""},
		}},
	{"get", func(x int) string { return "Get among " + count(x) + " live rows" },
		"Get of one random row while a writer upserts durably. All rows: reading all rows without the writer.",
		[]column{
			{"ns/get", "get_ns", true, lower}, {"allocs/get", "allocs_per_get", false, lower},
			{"writer's ops/s", "writer_ops_per_s", false, higher}, {"all rows ms", "all_ms", true, lower},
		}},
	{"history", func(x int) string { return "History of one migration among " + count(x) + " events" },
		"Reads all events of one migration from the files. All peers have the same events and read the same migration.",
		[]column{{"ms", "history_ms", true, lower}, {"its events", "events_of_it", false, ""}}},
	{"disk", func(x int) string { return "Bytes on disk after " + count(x) + " AddLearner events" },
		"Size of all files after a close, divided by the number of events. Allocated is the size of the blocks that the file system has allocated to them.",
		[]column{{"bytes/event", "size_bytes_per_event", false, lower}, {"allocated bytes/event", "allocated_bytes_per_event", false, lower}}},
}

// comparisons returns the tables of ratios that have a value.
func comparisons(r *results) (all []table) {
	if len(r.xs("upsert")) > 0 {
		all = append(all, ratioTable(r))
	}
	if old := oldTable(r); len(old.rows) > 0 {
		all = append(all, old)
	}
	return all
}

// tables returns the tables of all figures.
func tables(r *results) (all []table) {
	keeps := map[string]string{}
	for _, a := range r.Peers {
		keeps[a.Name] = a.Keeps
	}
	for _, s := range sections {
		for _, x := range r.xs(s.workload) {
			t := table{title: s.title(x), note: s.note, head: []string{"peer", "keeps"}}
			for _, c := range s.columns {
				t.head = append(t.head, c.head)
			}
			for _, f := range r.of(s.workload, x) {
				name, _, _ := strings.Cut(f.Peer, " (")
				t.rows = append(t.rows, append([]string{f.Peer, keeps[name]}, cells(f, s.columns)...))
			}
			all = append(all, t)
		}
	}
	return all
}

func cells(f figure, columns []column) (row []string) {
	for i, c := range columns {
		value, has := f.Values[c.metric]
		switch {
		case f.Why != "" && i == 0:
			row = append(row, "n/a: "+f.Why)
		case !has:
			row = append(row, "")
		case c.spread && len(value.Rounds) > 1:
			row = append(row, fmt.Sprintf("%s (%s to %s)", number(value.Median), number(value.Min), number(value.Max)))
		default:
			row = append(row, number(value.Median))
		}
	}
	return row
}

// print writes the table for a terminal.
func (t table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", t.title)
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			if !strings.HasPrefix(cell, "n/a") {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	for _, row := range append([][]string{t.head}, t.rows...) {
		var line strings.Builder
		for i, cell := range row {
			fill := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
			if t.isLeft(i) || strings.HasPrefix(cell, "n/a") {
				line.WriteString(cell + fill + "  ")
			} else {
				line.WriteString(fill + cell + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// markdown writes the table for a document.
func (t table) markdown(w io.Writer) {
	fmt.Fprintf(w, "\n### %s\n\n", t.title)
	if t.note != "" {
		fmt.Fprintf(w, "%s\n\n", t.note)
	}
	fmt.Fprintf(w, "| %s |\n|", strings.Join(t.head, " | "))
	for i := range t.head {
		if t.isLeft(i) {
			fmt.Fprint(w, "---|")
		} else {
			fmt.Fprint(w, "---:|")
		}
	}
	fmt.Fprintln(w)
	for _, row := range t.rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}

// number shows three significant digits, with separators between thousands.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.01:
		return "< 0.01"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(int(v + 0.5))
}

// count shows a whole number with separators between thousands.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}
