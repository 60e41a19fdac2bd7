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

// options are the flags.
type options struct {
	rounds, durationMS       int
	maxEvents                int
	workloads, peers         string
	dir, jsonFile, svgDir    string
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
		err = errors.New("interrupted; -json has the rounds that were complete")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 0, "`number` of rounds (default 5, with -quick 1)")
	flags.IntVar(&o.durationMS, "duration", 0, "`milliseconds` for which each peer upserts or gets (default 2000, with -quick 50)")
	flags.IntVar(&o.maxEvents, "events", 0, "start after histories of at most so many `events` (default: no limit)")
	flags.StringVar(&o.workloads, "run", "", "`regexp` of workloads: upsert, import, start, get, history, disk (default all)")
	flags.StringVar(&o.peers, "peers", "", "`regexp` of peers (default all)")
	flags.StringVar(&o.dir, "dir", ".", "`directory` in which the files are, in a new one that is removed at the end")
	flags.StringVar(&o.jsonFile, "json", "", "`file` for the results")
	flags.StringVar(&o.svgDir, "svg", "", "`directory` for the plots")
	flags.StringVar(&o.reportFile, "report", "", "measure nothing: take the results from this `file`")
	flags.StringVar(&o.docsDir, "docs", "", "`directory` whose BENCHMARKS.md gets the tables, and whose bench/ the plots")
	flags.BoolVar(&o.quick, "quick", false, "everything small: tells whether it works, and nothing about speed")
	flags.BoolVar(&o.check, "check", false, "hold the results against the targets")
	flags.Uint64Var(&o.seed, "seed", 1, "of the events, and of the order of the peers")
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
		err = errors.New("-rounds and -duration are positive")
	}
	return o, err
}

// command does what the arguments say and prints the tables.
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
	for _, t := range tables(&r) {
		t.print(out)
	}
	if o.check {
		targetTable(&r).print(out)
	}
	if r.Run.Quick {
		fmt.Fprintln(out, "With -quick the figures tell whether it works, and nothing about speed.")
	}
	return nil
}

func measureAll(ctx context.Context, o options, args []string) (r results, err error) {
	s := fullScale
	rounds := 5
	if o.quick {
		s, rounds = quickScale, 1
	}
	if o.rounds > 0 {
		rounds = o.rounds
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
	if r.Machine.isMemory() {
		if !o.quick {
			return r, fmt.Errorf("%s is in memory (%s), where an fsync costs nothing: choose another place with -dir", o.dir, r.Machine.FileSystem)
		}
		fmt.Fprintf(os.Stderr, "WARNING: %s is in memory (%s): an fsync costs nothing there, and no figure means anything\n", o.dir, r.Machine.FileSystem)
	}
	b := &bench{dir: dir, rounds: rounds, seed: o.seed, plan: newPlan(s, o.workloadsExpr, o.peersExpr)}
	if len(b.plan.steps) == 0 {
		return r, errors.New("-run and -peers leave nothing to measure")
	}
	r.Run = run{
		Date: today(), Commit: commit(), Command: publicCommand(args),
		Rounds: rounds, DurationMS: s.durationMS, Seed: o.seed, Quick: o.quick,
	}
	r.Peers = aboutPeers()
	err = b.run(ctx, func(rounds int, found []figure) error {
		r.Run.Rounds, r.Figures = rounds, found
		if o.jsonFile == "" {
			return nil
		}
		return writeResults(o.jsonFile, r) // so that a run that is cut short was not for nothing
	})
	return r, err
}

// publicCommand is the command without what says where on this machine files are.
func publicCommand(args []string) string {
	kept := []string{"go run ."}
	for i := 0; i < len(args); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch name {
		case "dir", "json", "svg", "docs":
			if !hasValue {
				i++
			}
		default:
			kept = append(kept, args[i])
		}
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
