package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// result is one cell of the tables: the rounds, and their median.
type result struct {
	FSM       string    `json:"fsm"`
	Proposers int       `json:"proposers,omitempty"` // of a throughput
	Entries   uint64    `json:"entries,omitempty"`   // of a start
	Median    float64   `json:"median"`
	Min       float64   `json:"min"`
	Max       float64   `json:"max"`
	Rounds    []float64 `json:"rounds"`
}

func (r *result) add(value float64) {
	r.Rounds = append(r.Rounds, value)
	sorted := slices.Sorted(slices.Values(r.Rounds))
	r.Min, r.Max = sorted[0], sorted[len(sorted)-1]
	r.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// report has all numbers of a run.
type report struct {
	Go         string    `json:"go"`
	System     string    `json:"system"`
	CPUs       int       `json:"cpus"`
	Time       time.Time `json:"time"`
	Members    int       `json:"members"`
	Seconds    float64   `json:"seconds"` // of each cell in each round
	Migrations int       `json:"migrations"`
	Throughput []*result `json:"proposals_per_second"`
	Start      []*result `json:"start_ms"`
}

func main() {
	var (
		dir     = flag.String("dir", os.TempDir(), "directory on the disk to measure; the files are removed at the end")
		rounds  = flag.Int("rounds", 5, "rounds; each measures every cell once")
		seconds = flag.Duration("time", 2*time.Second, "time of a throughput cell in a round")
		entries = flag.Uint64("entries", 1_000_000, "entries of the member whose start is measured")
		output  = flag.String("o", "text", "text or json")
		quick   = flag.Bool("quick", false, "every cell once, for a short time: only to see that it works")
	)
	flag.Parse()
	if *quick {
		*rounds, *seconds, *entries = 1, 100*time.Millisecond, 20_000
	}
	if flag.NArg() > 0 || *output != "text" && *output != "json" {
		fmt.Fprintln(os.Stderr, "bench: -o is text or json, and there are no arguments")
		os.Exit(2)
	}
	if err := run(os.Stdout, *dir, *rounds, *seconds, *entries, *output == "json"); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, parent string, rounds int, seconds time.Duration, entries uint64, asJSON bool) error {
	dir, err := os.MkdirTemp(parent, "raftlog-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &report{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Time: time.Now().UTC(), Members: 3, Seconds: seconds.Seconds(), Migrations: migrations}
	if err := r.measureThroughput(dir, rounds, seconds); err != nil {
		return err
	}
	if err := r.measureStart(dir, rounds, entries); err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	return r.print(w)
}

var proposerCounts = []int{1, 64, 256}

// measureThroughput measures all state machines in each round. Each begins with empty files. The
// order of the state machines changes from round to round.
func (r *report) measureThroughput(dir string, rounds int, seconds time.Duration) error {
	cells := map[string][]*result{}
	for _, b := range backends {
		for _, n := range proposerCounts {
			cell := &result{FSM: b.name, Proposers: n}
			cells[b.name] = append(cells[b.name], cell)
			r.Throughput = append(r.Throughput, cell)
		}
	}
	for round := range rounds {
		for i := range backends {
			b := backends[(i+round)%len(backends)]
			if err := b.measureRound(filepath.Join(dir, "group"), cells[b.name], seconds); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
		}
	}
	return nil
}

func (b backend) measureRound(dir string, cells []*result, seconds time.Duration) (err error) {
	defer os.RemoveAll(dir)
	leader, stop, err := b.startGroup(dir)
	defer func() {
		if stopErr := stop(); err == nil {
			err = stopErr
		}
	}()
	if err != nil {
		return err
	}
	var next atomic.Uint64
	propose := b.propose(leader)
	if _, err := measure(propose, &next, 64, seconds/4); err != nil { // warm-up
		return err
	}
	for _, cell := range cells {
		value, err := measure(propose, &next, cell.Proposers, seconds)
		if err != nil {
			return err
		}
		cell.add(value)
	}
	return nil
}

// measureStart measures the start of a member that has applied many entries.
func (r *report) measureStart(dir string, rounds int, entries uint64) error {
	var measured []backend
	for _, b := range backends {
		if b.name == "raft alone" {
			continue
		}
		if err := b.fill(filepath.Join(dir, b.name), entries); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		measured = append(measured, b)
		r.Start = append(r.Start, &result{FSM: b.name, Entries: entries})
	}
	for round := range rounds {
		for i := range measured {
			n := (i + round) % len(measured)
			took, err := measured[n].start(filepath.Join(dir, measured[n].name))
			if err != nil {
				return fmt.Errorf("%s: %w", measured[n].name, err)
			}
			r.Start[n].add(float64(took.Microseconds()) / 1000)
		}
	}
	return nil
}

func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%d members in one process, TCP on loopback, %d migrations, %d rounds of %.1f s. %s, %s, %d CPUs, %s\n\n",
		r.Members, r.Migrations, len(r.Throughput[0].Rounds), r.Seconds, r.Go, r.System, r.CPUs, r.Time.Format(time.DateOnly))
	fmt.Fprintln(w, "Proposals per second: median (lowest to highest round)")
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprint(table, "state machine")
	for _, n := range proposerCounts {
		fmt.Fprintf(table, "\t%d proposers", n)
	}
	for i, cell := range r.Throughput {
		if i%len(proposerCounts) == 0 {
			fmt.Fprintf(table, "\n%s", cell.FSM)
		}
		fmt.Fprintf(table, "\t%.0f (%.0f to %.0f)", cell.Median, cell.Min, cell.Max)
	}
	fmt.Fprintln(table)
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nStart of a member that has applied %d entries, in ms: median (lowest to highest round)\n", r.Start[0].Entries)
	for _, cell := range r.Start {
		fmt.Fprintf(table, "%s\t%.1f (%.1f to %.1f)\n", cell.FSM, cell.Median, cell.Min, cell.Max)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, b := range backends {
		fmt.Fprintf(w, "\n%s: %s.", b.name, b.note)
	}
	_, err := fmt.Fprintln(w)
	return err
}
