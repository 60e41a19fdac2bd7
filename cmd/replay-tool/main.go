package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	debug.SetGCPercent(gcPercent)
	keepHeapSmall = func() { debug.SetGCPercent(smallHeapGCPercent) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// gcPercent is twice Go's default. A command allocates memory for each event and keeps little of
// it. With 3 million events, this saves a quarter of the CPU time and needs 20 MiB more.
const gcPercent = 200

// smallHeapGCPercent keeps a command that holds each move of the history in memory below 100 MiB with
// ten million events. With gcPercent, the heap would be three times as large as its live data.
const smallHeapGCPercent = 50

// keepHeapSmall makes the garbage collector of the process run more often. Only main sets it, because
// a test runs several commands at the same time.
var keepHeapSmall = func() {}

// run runs the command in args and returns the exit code of the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &stickyWriter{w: stdout}
	stderr = escapingWriter{stderr}
	root := newRoot(stdin, out, stderr)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if out.err != nil { // the output is incomplete, so success must not be reported
		err = out.err
	}
	if text := messageOf(err); text != "" {
		fmt.Fprintf(stderr, "replay-tool: %s\n", message(text+accessHint(err, command.Flags().Args())))
	}
	return exitCode(err)
}

// tool has the streams and the flags that all commands share.
type tool struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	unbuffered     io.Writer     // the process's standard output, below stdout
	buffer         *bufio.Writer // between stdout and unbuffered; nil: none
	dir            string        // the first argument: the log that hints name
	output         string
	timeStyle      string
	timeZone       string // the value of --tz
	zone           zone   // of timeZone
	color          string
	fixedWidth     int // 0: that of the terminal
	wide           bool
	quiet          bool
	jsonStrings    bool

	printMu sync.Mutex // guards stderr and logging: a store logs from goroutines of its own
	logging bool       // a store may log
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	t := &tool{stdin: stdin, unbuffered: stdout, stderr: stderr}
	t.setOutput(stdout)
	root := &cobra.Command{
		Use:   "replay-tool [COMMAND] DIR",
		Short: "Show the history, the state and the damage of a migration log",
		Long: `Show the history, the state and the damage of a migration log.

DIR is the directory of a log. 'replay-tool DIR' is 'replay-tool triage DIR'.
Only demo and import write to a log. salvage and bundle write to a new one. All
other commands take no lock, and are safe while a coordinator has the log open.

` + exitCodesHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageErrorf("no command given: choose one from 'replay-tool --help'")
			}
			if isPath(args[0]) {
				return t.runTriage(c, args)
			}
			return unknownCommand(c, args[0])
		},
		PersistentPreRunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				t.dir = args[0]
			}
			return t.checkFlags(c.Flags().Changed)
		},
	}
	root.SetIn(stdin)
	root.SetOut(t.stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageErrorf("%s (see '%s --help')", flagMessage(c, err), c.CommandPath())
	})
	t.registerFlags(root)
	root.AddCommand(
		t.demo(), t.coordinator(), t.triage(), t.info(), t.log(), t.show(), t.state(), t.plan(), t.whatIf(), t.crashPoints(), t.verify(),
		t.importCommand(), t.salvage(), t.version(),
		t.lint(),
		t.bundle(),
		t.timeline(),
		t.stats(), t.quietCommand(), t.diff(), t.export(),
		t.frame(),
	)
	addHelp(root)
	t.addCompletion(root)
	return root
}

// registerFlags adds the flags that all commands have.
func (t *tool) registerFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVarP(&t.output, "output", "o", outputTable, "output `format`: table, json or ndjson")
	flags.StringVar(&t.timeStyle, "time", timeISO, "`style` of the times in tables: iso, relative (to the first time shown) or raw (Unix ms)")
	flags.StringVar(&t.timeZone, "tz", "UTC", "time `zone` of the times that are printed and given: UTC, local, +01:00 or Europe/Berlin")
	flags.StringVar(&t.color, "color", colorAuto, "`when` to use color: auto (on a terminal, unless NO_COLOR is set or TERM is dumb), always or never")
	flags.IntVar(&t.fixedWidth, "width", 0, "fit tables into this number of `columns`; without it, into the terminal")
	flags.BoolVar(&t.wide, "wide", false, "print all columns and cut nothing")
	flags.BoolVarP(&t.quiet, "quiet", "q", false, "print no summaries and no progress to stderr")
	flags.BoolVar(&t.jsonStrings, "json-strings", false, "print the numbers of JSON as strings, because jq 1.6 and JavaScript round numbers above 2^53")
}

// checkFlags checks the flags that all commands have. The function changed reports whether a flag is
// given.
func (t *tool) checkFlags(changed func(name string) bool) error {
	switch t.output {
	case outputTable, outputJSON, outputNDJSON:
	default:
		if t.output == "csv" || t.output == "sql" {
			return usageErrorf("--output %s: unknown format, use table, json or ndjson. To write %s, run 'replay-tool export DIR --format %s'", t.output, strings.ToUpper(t.output), t.output)
		}
		return usageErrorf("--output %s: unknown format, use table, json or ndjson", t.output)
	}
	switch t.timeStyle {
	case timeISO, timeRelative, timeRaw:
	default:
		return usageErrorf("--time %s: unknown style, use iso, relative or raw", t.timeStyle)
	}
	switch t.color {
	case colorAuto, colorAlways, colorNever:
	default:
		return usageErrorf("--color %s: use auto, always or never", t.color)
	}
	switch {
	case t.fixedWidth > maxWidth:
		return usageErrorf("--width %d: give a number of at most %d", t.fixedWidth, maxWidth)
	case t.fixedWidth < 1 && changed("width"):
		return usageErrorf("--width %d: give a number of at least 1", t.fixedWidth)
	case t.wide && changed("width"):
		return usageErrorf("--wide and --width cannot be used together: remove one of them")
	}
	var err error
	if t.zone, err = parseZone(t.timeZone); err != nil {
		return err
	}
	if t.jsonStrings && t.output == outputTable {
		return usageErrorf("--json-strings changes only JSON: add -o json or -o ndjson")
	}
	t.setOutput(t.unbuffered)
	return nil
}

// stickyWriter keeps the first write error and returns it from all later writes.
type stickyWriter struct {
	w   io.Writer
	err error
}

func (s *stickyWriter) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(b)
	s.err = err
	return n, err
}

// argCount returns a check that a command has minArgs to maxArgs arguments.
func argCount(minArgs, maxArgs int) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) < minArgs || len(given) > maxArgs {
			hint := ""
			if len(given) > maxArgs && c.Flags().Lookup("migration") != nil {
				hint = "; to select a migration, use --migration ID, or replay-tool show DIR ID"
			}
			return usageErrorf("wrong number of arguments (usage: %s)%s", c.UseLine(), hint)
		}
		return nil
	}
}

// statusf prints a line for people to stderr, unless --quiet is set.
func (t *tool) statusf(format string, args ...any) {
	if !t.quiet {
		t.alertf(format, args...)
	}
}
