package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// options are the flags.
type options struct {
	dir    string
	events int
	rounds int
	run    string
	seed   uint64
}

const usage = `usage: go run ./forensics [flags] COMMAND

  make     write the log, wait for its summaries, and build replay-tool
  load     load the log into SQLite with replay-tool export
  measure  measure the questions of -run in rounds, and keep the times in DIR/results.json
  report   print all times of DIR/results.json as Markdown

Run the commands in the directory bench, one after another. Flags:
`

func main() {
	if encoded := os.Getenv(callEnv); encoded != "" {
		exit(runCall(encoded))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	exit(command(ctx, os.Args[1:]))
}

func exit(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "forensics:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func command(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("forensics", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", "forensics-files", "`directory` for the log, the database and the results")
	flags.IntVar(&o.events, "events", 10_000_000, "make: `number` of events")
	flags.IntVar(&o.rounds, "rounds", 5, "measure: `number` of rounds")
	flags.StringVar(&o.run, "run", "", "measure: `regexp` of measurements, such as '^show, .* warm' (default all)")
	flags.Uint64Var(&o.seed, "seed", 1, "seed of the events, and of the migrations and points that are asked for")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || o.rounds < 1 || o.events < 1000 {
		flags.Usage()
		return errors.New("give one command, at least 1 round and at least 1000 events")
	}
	f, err := filesIn(o.dir)
	if err != nil {
		return err
	}
	switch name := flags.Arg(0); name {
	case "make":
		return f.makeLog(ctx, o.events, o.seed)
	case "load":
		return f.loadSQL(ctx)
	case "measure":
		expr, err := regexp.Compile(o.run)
		if err != nil {
			return err
		}
		return measure(ctx, f, expr, o.rounds, o.seed)
	case "report":
		return report(os.Stdout, f)
	default:
		return fmt.Errorf("there is no command %q", name)
	}
}

// files are the paths of everything that the commands write.
type files struct {
	log      string // with index/
	bare     string // the same log without index/
	database string
	tool     string // the executable of replay-tool
	results  string
}

func filesIn(dir string) (files, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return files{}, err
	}
	return files{
		log: filepath.Join(dir, "log"), bare: filepath.Join(dir, "bare"), database: filepath.Join(dir, "log.db"),
		tool: filepath.Join(dir, "replay-tool"), results: filepath.Join(dir, "results.json"),
	}, os.MkdirAll(dir, 0o700)
}
