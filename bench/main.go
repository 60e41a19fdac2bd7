package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Default numbers of rounds. Committed figures are of publishedRounds.
const (
	publishedRounds = 5
	quickRounds     = 1
)

// options are the flags.
type options struct {
	rounds, durationMS       int
	maxEvents                int
	workloads, peers         string
	dir, jsonFile, svgDir    string
	oldDir                   string
	reportFile, docsDir      string
	quick, check             bool
	seed                     uint64
	workloadsExpr, peersExpr *regexp.Regexp
}

func main() {
	if encoded := os.Getenv(taskEnv); encoded != "" {
		exit(runTask(encoded))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	exit(command(ctx, os.Args[1:], os.Stdout))
}

func exit(err error) {
	if errors.Is(err, flag.ErrHelp) {
		err = nil
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted; the file of -json has the complete rounds")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 0, fmt.Sprintf("`number` of rounds (default %d, with -quick %d)", publishedRounds, quickRounds))
	flags.IntVar(&o.durationMS, "duration", 0, "`milliseconds` for which each peer upserts or gets in each round (default 2000, with -quick 50)")
	flags.IntVar(&o.maxEvents, "events", 0, "measure starts after histories of at most this many `events` (default: no limit)")
	flags.StringVar(&o.workloads, "run", "", "`regexp` of workloads: upsert, import, start, rebuild (the long starts without snapshots), load, get, history, disk (default all)")
	flags.StringVar(&o.peers, "peers", "", "`regexp` of peers (default all)")
	flags.StringVar(&o.oldDir, "old", "", "`checkout` of this repository that is measured as the peer \"migrationlog (old)\" in the same rounds")
	flags.StringVar(&o.dir, "dir", ".", "`directory` for the files of the stores, in a new directory that is removed at the end")
	flags.StringVar(&o.jsonFile, "json", "", "`file` for the results")
	flags.StringVar(&o.svgDir, "svg", "", "`directory` for the plots")
	flags.StringVar(&o.reportFile, "report", "", "measure nothing and take the results from this `file`")
	flags.StringVar(&o.docsDir, "docs", "", "`directory` with BENCHMARKS.md, into which the tables go, and with bench/ for the plots")
	flags.BoolVar(&o.quick, "quick", false, "make everything small: shows whether the bench works, and nothing about speed")
	flags.BoolVar(&o.check, "check", false, "compare the results with the targets")
	flags.Uint64Var(&o.seed, "seed", 1, "seed of the events and of the order of the peers")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.workloadsExpr, err = regexp.Compile(o.workloads); err == nil {
		o.peersExpr, err = regexp.Compile(o.peers)
	}
	if o.rounds < 0 || o.durationMS < 0 {
		return o, errors.New("-rounds and -duration must be positive")
	}
	switch {
	case o.rounds > 0:
	case o.quick:
		o.rounds = quickRounds
	default:
		o.rounds = publishedRounds
	}
	return o, err
}

// command measures or reads results, as the arguments say, and prints the tables.
func command(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var r results
	if o.reportFile != "" {
		r, err = readResults(o.reportFile)
	} else {
		r, err = measureAll(ctx, o, args)
	}
	if err != nil {
		return err
	}
	if o.svgDir != "" {
		if err := writeCharts(o.svgDir, &r); err != nil {
			return err
		}
	}
	if o.docsDir != "" {
		if err := writeDocs(o.docsDir, &r); err != nil {
			return err
		}
	}
	for _, t := range slices.Concat(comparisons(&r), tables(&r)) {
		t.print(out)
	}
	if o.check {
		targetTable(&r).print(out)
	}
	if r.Run.Quick {
		fmt.Fprintln(out, "With -quick the figures show whether the bench works, and nothing about speed.")
	}
	return nil
}

func measureAll(ctx context.Context, o options, args []string) (r results, err error) {
	s := fullScale
	if o.quick {
		s = quickScale
	}
	if o.durationMS > 0 {
		s.durationMS = o.durationMS
	}
	if o.maxEvents > 0 {
		s.startEvents = slices.DeleteFunc(slices.Clone(s.startEvents), func(n int) bool { return n > o.maxEvents })
	}
	dir, err := os.MkdirTemp(o.dir, "bench-files-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if r.Machine, err = thisMachine(dir); err != nil {
		return r, err
	}
	if err := checkDevice(r.Machine, o); err != nil {
		return r, err
	}
	r.Peers = aboutPeers()
	oldProgram := ""
	if o.oldDir != "" {
		if oldProgram, err = buildOld(ctx, o.oldDir, dir); err != nil {
			return r, err
		}
		r.Peers = slices.Insert(r.Peers, 1, aboutOld(o.oldDir))
	}
	b := &bench{
		dir: dir, rounds: o.rounds, seed: o.seed, runTask: runInProcess,
		plan: newPlan(s, o.workloadsExpr, o.peersExpr, oldProgram),
	}
	if len(b.plan.steps) == 0 {
		return r, errors.New("-run and -peers leave nothing to measure")
	}
	r.Run = run{
		Date: today(), Commit: commit("."), Command: publicCommand(args, o.rounds),
		Rounds: o.rounds, DurationMS: s.durationMS, Seed: o.seed, Quick: o.quick,
	}
	err = b.run(ctx, func(rounds int, found []figure) error {
		r.Run.Rounds, r.Figures = rounds, found
		if o.jsonFile == "" {
			return nil
		}
		return writeResults(o.jsonFile, r) // so that an interrupted run keeps its complete rounds
	})
	return r, err
}

// checkDevice returns an error if the files would be in memory. With -quick it only prints a
// warning.
func checkDevice(m machine, o options) error {
	if !m.isMemory() {
		return nil
	}
	if !o.quick {
		return fmt.Errorf("%s is in memory (%s), where an fsync costs nothing: choose another directory with -dir", o.dir, m.FileSystem)
	}
	fmt.Fprintf(os.Stderr, "WARNING: %s is in memory (%s), where an fsync costs nothing: the figures mean nothing\n", o.dir, m.FileSystem)
	return nil
}

// publicCommand returns the command with the number of rounds, and without the flags that name
// places on this machine.
func publicCommand(args []string, rounds int) string {
	kept := []string{"go run ."}
	hasRounds := false
	for i := 0; i < len(args); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch name {
		case "dir", "json", "svg", "docs", "old":
			if name == "old" {
				kept = append(kept, "-old DIR")
			}
			if !hasValue {
				i++
			}
			continue
		case "rounds":
			hasRounds = true
		}
		kept = append(kept, args[i])
	}
	if !hasRounds {
		kept = slices.Insert(kept, 1, fmt.Sprintf("-rounds %d", rounds))
	}
	return strings.Join(kept, " ")
}

func readResults(file string) (r results, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

func writeResults(file string, r results) error {
	content, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}
