// Shardmover moves the replicas of shard groups between nodes. Clients write during the moves, and
// the coordinator is killed again and again. The progress of the moves is in a replicated
// migrationlog store. At the end, shardmover checks that no acknowledged write was lost, that no
// learner was left behind, and that no recorded compensation was carried out again.
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
	"syscall"

	"golang.org/x/term"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/check"
	"migrationlog/examples/shardmover/driver"
)

// The exit codes.
const (
	exitPassed = 0
	exitFailed = 1 // a check has failed
	exitUsage  = 2 // the run could not begin
)

func main() {
	driver.RunChild() // returns in the driver's process
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command line, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o driver.Options
	flags := flag.NewFlagSet("shardmover", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.Dir, "dir", "", "directory of the run; it must be empty or not exist")
	flags.IntVar(&o.Nodes, "nodes", 5, "nodes of the cluster")
	flags.IntVar(&o.Groups, "groups", 8, "shard groups, each with three replicas")
	flags.IntVar(&o.Moves, "moves", 200, "moves of a replica")
	flags.IntVar(&o.Kills, "kills", 30, "kills of the coordinator")
	flags.Int64Var(&o.Seed, "seed", 1, "seed of all random decisions")
	flags.BoolVar(&o.Faults, "faults", false, "delay and drop bytes between the nodes, and partition them")
	output := flags.String("o", "text", "output: text or json")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitPassed
	} else if err != nil {
		return exitUsage
	}
	if o.Dir == "" || flags.NArg() > 0 || *output != "text" && *output != "json" {
		fmt.Fprintln(stderr, "usage: shardmover -dir DIR [-nodes 5] [-groups 8] [-moves 200] [-kills 30] [-seed 1] [-faults] [-o text|json]")
		return exitUsage
	}
	o.Screen = stderr
	if file, ok := stderr.(*os.File); ok {
		o.Width, _, _ = term.GetSize(int(file.Fd())) // 0 if it is not a terminal
	}
	fmt.Fprintln(stderr, "to repeat the decisions of this run:", reproduce(o))
	result, err := driver.Run(ctx, o)
	if err != nil {
		fmt.Fprintln(stderr, "the run has not begun:", err)
		return exitUsage
	}
	if *output == "json" {
		err = json.NewEncoder(stdout).Encode(result.Report)
	} else {
		printReport(stdout, result.Report)
	}
	printCommands(stderr, result)
	if err != nil || !result.Report.Passed() {
		return exitFailed
	}
	return exitPassed
}

// reproduce returns the command that makes the same decisions again.
func reproduce(o driver.Options) string {
	text := fmt.Sprintf("go run . -dir NEW -nodes %d -groups %d -moves %d -kills %d -seed %d", o.Nodes, o.Groups, o.Moves, o.Kills, o.Seed)
	if o.Faults {
		text += " -faults"
	}
	return text
}

// printReport prints a report for a person.
func printReport(w io.Writer, r check.Report) {
	fmt.Fprintf(w, "moves                      %d: %d complete, %d aborted\n", r.Moves, r.Complete, r.Aborted)
	fmt.Fprintf(w, "kills of the coordinator   %d; %d moves were continued by a successor\n", r.Kills, r.Recovered)
	fmt.Fprintf(w, "acknowledged writes        %d, lost: %d\n", r.ClientWritesAcknowledged, r.ClientWritesLost)
	fmt.Fprintf(w, "leaked learners            %d\n", r.LeakedLearners)
	fmt.Fprintf(w, "groups with wrong replicas %d\n", r.ReplicaCountWrong)
	fmt.Fprintf(w, "moves in flight            %d\n", r.InFlight)
	fmt.Fprintf(w, "compensations twice        %d\n", r.CompensationsTwice)
	fmt.Fprintf(w, "digests equal              %v\n", r.DigestsEqual)
	for _, v := range r.Violations {
		fmt.Fprintf(w, "violation                  %s\n", v)
	}
	if r.Passed() {
		fmt.Fprintln(w, "all checks passed")
	} else {
		fmt.Fprintln(w, "CHECKS FAILED")
	}
}

// printCommands prints the commands that show the history of an interrupted move.
func printCommands(w io.Writer, result driver.Result) {
	move, abort := check.Interrupted(result.History)
	if move != (checkpoint.MigrationID{}) {
		fmt.Fprintf(w, "a move that a kill interrupted:    replay-tool show %s %s\n", result.Store, move)
	}
	if abort != (checkpoint.MigrationID{}) {
		fmt.Fprintf(w, "an abort that a kill interrupted:  replay-tool show %s %s\n", result.Store, abort)
	}
}
