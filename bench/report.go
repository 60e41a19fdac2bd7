package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The report replaces everything between these two lines of BENCHMARKS.md.
const (
	resultsBegin = "<!-- results: begin -->"
	resultsEnd   = "<!-- results: end -->"
)

// writeDocs writes the results into dir/BENCHMARKS.md, and the plots into dir/bench.
func writeDocs(dir string, r *results) error {
	file := filepath.Join(dir, "BENCHMARKS.md")
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(content), resultsBegin)
	_, after, ok2 := strings.Cut(rest, resultsEnd)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q, which enclose the results", file, resultsBegin, resultsEnd)
	}
	if err := writeCharts(filepath.Join(dir, "bench"), r); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(before+resultsBegin+"\n"+resultsText(r)+"\n"+resultsEnd+after), 0o644)
}

// resultsText returns the text between the two lines. The ratios come first.
func resultsText(r *results) string {
	var text strings.Builder
	if r.Run.Quick {
		text.WriteString("\n**From a run with `-quick`, which shows nothing about speed.**\n")
	}
	for _, t := range comparisons(r) {
		t.markdown(&text)
	}
	fmt.Fprintf(&text, `
### The run

| | |
|---|---|
| command | %s |
| date | %s |
| commit | %s |
| rounds | %d of %d ms; a cell has the median, and the least and the greatest in parentheses |
| CPU | %d × %s |
| memory | %s MiB |
| kernel | %s |
| file system | %s |
| Go | %s |
`, "`"+strings.ReplaceAll(r.Run.Command, "|", `\|`)+"`", r.Run.Date, cmp.Or(r.Run.Commit, "not known"), r.Run.Rounds, r.Run.DurationMS, r.Machine.CPUs, r.Machine.CPU,
		count(r.Machine.MemoryMiB), r.Machine.Kernel, r.Machine.FileSystem, r.Machine.Go)
	text.WriteString("\n| peer | version | keeps | set up |\n|---|---|---|---|\n")
	for _, a := range r.Peers {
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", a.Name, a.Version, a.Keeps, a.Setup)
	}
	targetTable(r).markdown(&text)
	for _, c := range charts(r) {
		fmt.Fprintf(&text, "\n![%s](bench/%s)\n", c.Title, c.file)
	}
	for _, t := range tables(r) {
		t.markdown(&text)
	}
	return text.String()
}
