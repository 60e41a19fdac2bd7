package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &stickyWriter{w: stdout}
	root := newRoot(stdin, out, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if out.err != nil { // then what was to be told was not
		err = out.err
	}
	if message := messageOf(err); message != "" {
		fmt.Fprintf(stderr, "replay-tool: %s\n", message)
	}
	return exitCode(err)
}

// tool is what all commands share.
type tool struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string
	timeStyle      string
	quiet          bool
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	t := &tool{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "replay-tool",
		Short: "Ask a migration log what happened",
		Long: `Ask a migration log what happened.

DIR is the directory of a log. Reading takes no lock and writes nothing: it is
safe beside a running coordinator.

Exit codes:
  0  clean                   5  another writer has the log open
  1  I/O error               6  nothing matched
  2  wrong usage or input    8  the log is in a newer format
  3  the log is damaged      130  interrupted
  4  only its tail is torn`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageErrorf("name a command (see 'replay-tool --help')")
			}
			return usageErrorf("there is no command %q (see 'replay-tool --help')", args[0])
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return t.checkFlags()
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		message, _, notANumber := strings.Cut(err.Error(), ": strconv.")
		if notANumber {
			message += ": give a number from 0 on"
		}
		return usageErrorf("%s (see '%s --help')", message, c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&t.output, "output", "o", outputTable, "`format` of the output: table, json or ndjson")
	flags.StringVar(&t.timeStyle, "time", timeISO, "how tables show times: iso (UTC), relative (to the first shown) or raw (Unix ms)")
	flags.BoolVarP(&t.quiet, "quiet", "q", false, "no summaries and no progress on stderr")
	root.AddCommand(t.demo(), t.coordinator(), t.info(), t.log(), t.show(), t.state(), t.verify(), t.importCommand(), t.version())
	return root
}

func (t *tool) checkFlags() error {
	switch t.output {
	case outputTable, outputJSON, outputNDJSON:
	default:
		return usageErrorf("--output %s: the formats are table, json and ndjson", t.output)
	}
	switch t.timeStyle {
	case timeISO, timeRelative, timeRaw:
	default:
		return usageErrorf("--time %s: the styles are iso, relative and raw", t.timeStyle)
	}
	return nil
}

// stickyWriter remembers that writing failed.
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

// argCount checks the number of a command's arguments.
func argCount(minArgs, maxArgs int) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) < minArgs || len(given) > maxArgs {
			return usageErrorf("usage: %s", c.UseLine())
		}
		return nil
	}
}

// say prints a line for people, unless they asked for quiet.
func (t *tool) statusf(format string, args ...any) {
	if !t.quiet {
		fmt.Fprintf(t.stderr, format+"\n", args...)
	}
}
