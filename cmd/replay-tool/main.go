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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// gcPercent is twice Go's default. A command allocates memory for each event and keeps little of
// it. With 3 million events, this saves a quarter of the CPU time and needs 20 MiB more.
const gcPercent = 200

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
	output         string
	timeStyle      string
	quiet          bool
	jsonStrings    bool

	printMu sync.Mutex // guards stderr and logging: a store logs from goroutines of its own
	logging bool       // a store may log
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	t := &tool{stdin: stdin, unbuffered: stdout, stderr: stderr}
	t.setOutput(stdout)
	root := &cobra.Command{
		Use:   "replay-tool",
		Short: "Show the history, the state and the damage of a migration log",
		Long: `Show the history, the state and the damage of a migration log.

DIR is the directory of a log. Only demo and import write to it, and salvage
writes to a new directory. All other commands take no lock and are safe while a
coordinator has the log open.

Exit codes:
  0  clean                   6  nothing matched
  1  I/O error               7  the command has findings
  2  wrong usage or input    8  the log is in a newer format
  3  the log is damaged      9  only harmless findings, such as a foreign file
  4  only a torn tail        130  interrupted
  5  another writer has the log open`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageErrorf("no command given: choose one from 'replay-tool --help'")
			}
			return usageErrorf("unknown command %q: choose one from 'replay-tool --help'", args[0])
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return t.checkFlags()
		},
	}
	root.SetIn(stdin)
	root.SetOut(t.stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		message, _, notANumber := strings.Cut(err.Error(), ": strconv.")
		if notANumber {
			message += ": give a whole number that is not negative"
		}
		return usageErrorf("%s (see '%s --help')", message, c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&t.output, "output", "o", outputTable, "output `format`: table, json or ndjson")
	flags.StringVar(&t.timeStyle, "time", timeISO, "`style` of the times in tables: iso (UTC), relative (to the first time shown) or raw (Unix ms)")
	flags.BoolVarP(&t.quiet, "quiet", "q", false, "print no summaries and no progress to stderr")
	flags.BoolVar(&t.jsonStrings, "json-strings", false, "print the numbers of JSON as strings, because jq 1.6 and JavaScript round numbers above 2^53")
	root.AddCommand(t.demo(), t.coordinator(), t.info(), t.log(), t.show(), t.state(), t.plan(), t.whatIf(), t.crashPoints(), t.verify(), t.importCommand(), t.salvage(), t.version())
	return root
}

func (t *tool) checkFlags() error {
	switch t.output {
	case outputTable, outputJSON, outputNDJSON:
	default:
		return usageErrorf("--output %s: unknown format, use table, json or ndjson", t.output)
	}
	switch t.timeStyle {
	case timeISO, timeRelative, timeRaw:
	default:
		return usageErrorf("--time %s: unknown style, use iso, relative or raw", t.timeStyle)
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
			return usageErrorf("wrong number of arguments (usage: %s)", c.UseLine())
		}
		return nil
	}
}

// statusf prints a line for people to stderr, unless --quiet is set.
func (t *tool) statusf(format string, args ...any) {
	if !t.quiet {
		t.printMu.Lock()
		defer t.printMu.Unlock()
		_ = t.flush() // stdout keeps the error, see run
		fmt.Fprintln(t.stderr, message(fmt.Sprintf(format, args...)))
	}
}
