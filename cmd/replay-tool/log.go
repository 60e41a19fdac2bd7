package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/replay"
)

// logCommand is one run of the command log.
type logCommand struct {
	*tool
	filters filters
	follow  bool
	last    int
	reverse bool

	matcher *replay.Matcher
	fold    *replay.Fold
	printer *recordPrinter
}

func (t *tool) log() *cobra.Command {
	l := &logCommand{tool: t}
	c := &cobra.Command{
		Use:   "log DIR",
		Short: "List all events in order, with the damage between them",
		Args:  argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.buffered(func() error { return l.run(c.Context(), args[0]) })
		},
	}
	l.filters.register(c)
	c.Flags().BoolVarP(&l.follow, "follow", "f", false, "wait for new events and print them, until interrupted")
	c.Flags().IntVarP(&l.last, "last", "n", 0, "print only the last `N` records")
	c.Flags().BoolVar(&l.reverse, "reverse", false, "print the newest record first")
	return c
}

func (l *logCommand) run(ctx context.Context, dir string) error {
	switch {
	case l.last < 0 || l.last == 0 && l.filters.flags.Changed("last"):
		return usageErrorf("--last %d: give a number of at least 1", l.last)
	case l.follow && l.reverse:
		return usageErrorf("--follow and --reverse cannot be used together: remove one of them")
	case l.follow && l.output == outputJSON:
		return usageErrorf("--follow cannot print a JSON array, because its output has no end: use -o ndjson")
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	q, err := l.filters.query(ctx, reader)
	if err != nil {
		return err
	}
	l.fold, l.matcher = reader.NewFold(), replay.NewMatcher(q)
	l.printer = &recordPrinter{tool: l.tool, clock: l.clock()}
	if err := l.list(ctx, reader); err != nil {
		return err
	}
	if l.follow {
		return l.followFrom(ctx, dir)
	}
	if l.printer.printed == 0 && l.output != outputJSON {
		l.statusf("no record matches")
	}
	report := l.fold.Report()
	l.reportFindings(report)
	if err := reportExit(report); err != nil {
		return err
	}
	if l.printer.printed == 0 && l.filters.anySet() {
		return silentExit{exitNoMatch}
	}
	return nil
}

func (f *filters) anySet() bool {
	for _, name := range []string{"since", "until", "from", "to", "migration", "kind", "phase", "vshard", "node"} {
		if f.flags.Changed(name) {
			return true
		}
	}
	return false
}

// list prints the matching records that are in the log now. It prints each at once, unless --last or
// --reverse needs all of them first.
func (l *logCommand) list(ctx context.Context, reader *replay.Reader) error {
	var buffered []replay.Record
	p := l.progress("events read:")
	defer p.end()
	var n uint64
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) { // the exit code is about the whole log
		if err != nil {
			return err
		}
		l.fold.Add(r)
		n++
		p.update(n)
		if !l.matcher.Match(r) {
			continue
		}
		if !l.reverse && l.last == 0 {
			if err := l.printer.print(r); err != nil {
				return err
			}
			continue
		}
		buffered = append(buffered, r)
		if l.last > 0 && len(buffered) >= 2*l.last+1024 {
			buffered = slices.Clone(buffered[len(buffered)-l.last:])
		}
	}
	if l.last > 0 && len(buffered) > l.last {
		buffered = buffered[len(buffered)-l.last:]
	}
	if l.reverse {
		slices.Reverse(buffered)
	}
	for _, r := range buffered {
		if err := l.printer.print(r); err != nil {
			return err
		}
	}
	return l.printer.end()
}

const followInterval = 200 * time.Millisecond

// followFrom prints the records that are appended after those in l.fold.
func (l *logCommand) followFrom(ctx context.Context, dir string) error {
	for {
		if err := l.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followInterval):
		}
		reader, err := replay.Open(dir)
		if err != nil {
			return err
		}
		next := l.fold.View.LastSeq() + 1
		for r, err := range reader.Records(ctx, replay.Query{FromSeq: next}) {
			if err != nil {
				return err
			}
			if r.Damage != nil && (r.Damage.Torn || r.Damage.FirstSeq < next) {
				continue // already shown, or a write in progress
			}
			l.fold.Add(r)
			if !l.matcher.Match(r) {
				continue
			}
			if err := l.printer.print(r); err != nil {
				return err
			}
		}
	}
}
