package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is figures for people: text columns to the left, numbers to the right.
type table struct {
	title string
	note  string
	head  []string
	rows  [][]string
}

// column is how a metric is shown.
type column struct {
	head   string
	metric string
	spread bool // with the least and the most of the rounds
}

// sections are the workloads in the order of the tables.
var sections = []struct {
	workload string
	title    func(x int) string
	note     string
	columns  []column
}{
	{"upsert", func(x int) string { return plural(x, "writer") + ", durable upserts" },
		"An op is over when it is durable. CPU is that of the whole process: of all cores, and of the bench's own work.",
		[]column{{"ops/s", "ops_per_s", true}, {"p50 µs", "p50_us", true}, {"p90 µs", "p90_us", false}, {"p99 µs", "p99_us", true}, {"p99.9 µs", "p99_9_us", false}, {"max µs", "max_us", false}, {"CPU µs/op", "cpu_us_per_op", true}}},
	{"import", func(x int) string { return "Import of " + count(x) + " events" },
		"As fast as each can with batches and without a sync for each, durable at the end.",
		[]column{{"events/s", "events_per_s", true}, {"ms", "import_ms", false}}},
	{"start", func(x int) string { return "Start after " + count(x) + " events" },
		"In a new process, until all live rows are in a Go map. Heap: most bytes in the Go heap while it opened; of the process: the most memory that it has had.",
		[]column{{"ms", "start_ms", true}, {"events/s", "events_per_s", false}, {"heap MiB", "peak_heap_mib", true}, {"heap before MiB", "heap_before_mib", false}, {"heap from system MiB", "heap_sys_mib", false}, {"process MiB", "peak_rss_mib", false}, {"rows", "rows", false}}},
	{"get", func(x int) string { return "Get among " + count(x) + " live rows" },
		"One row at random while a writer upserts durably; then all rows, without the writer.",
		[]column{{"ns/get", "get_ns", true}, {"allocs/get", "allocs_per_get", false}, {"writer's ops/s", "writer_ops_per_s", false}, {"all rows ms", "all_ms", true}}},
	{"history", func(x int) string { return "History of one migration among " + count(x) + " events" },
		"Read from the files.",
		[]column{{"ms", "history_ms", true}, {"its events", "events_of_it", false}}},
	{"disk", func(x int) string { return "Bytes on disk after " + count(x) + " AddLearner events" },
		"Of all files after a close, by the number of events; allocated is what the file system has given them.",
		[]column{{"bytes/event", "size_bytes_per_event", false}, {"allocated bytes/event", "allocated_bytes_per_event", false}}},
}

// tables returns all figures.
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
			if i < 2 || strings.HasPrefix(cell, "n/a") {
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
		if i < 2 {
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

// number shows three digits that count, and thousands apart.
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

// count shows a whole number with its thousands apart.
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
