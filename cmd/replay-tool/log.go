package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
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

	matcher   *replay.Matcher
	fold      *replay.Fold
	printer   *recordPrinter
	lastEvent replay.Record // the last event that was read
	nextSeq   uint64        // every lower number was read or is lost
	unread    int           // number of segments that were not read
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
	q, err := l.filters.query(ctx, l.times(ctx, reader))
	if err != nil {
		return err
	}
	l.fold, l.matcher = reader.NewFold(), replay.NewMatcher(q)
	l.printer = &recordPrinter{tool: l.tool, clock: l.clock()}
	if err := l.list(ctx, reader); err != nil {
		return err
	}
	if l.follow {
		return l.followAfter(ctx, reader, dir)
	}
	if l.printer.printed == 0 && l.output != outputJSON {
		l.statusf("no record matches")
	}
	if l.unread > 0 {
		l.statusf("%s not checked. To check the whole log, run: replay-tool verify %s", count(l.unread, "segment"), quoted(dir))
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

// list prints the matching records that are in the log now.
func (l *logCommand) list(ctx context.Context, reader *replay.Reader) error {
	if l.last > 0 {
		return l.listLast(ctx, reader)
	}
	p := l.progress("events read:")
	defer p.end()
	records := l.matching(ctx, reader, p)
	if l.reverse {
		records = reader.Backward(ctx, func(r replay.Record) bool { return l.visit(r, p) })
	}
	for r, err := range records {
		if err != nil {
			return err
		}
		if err := l.printer.print(r); err != nil {
			return err
		}
	}
	return l.printer.end()
}

// matching reads the whole log, because the exit code is about all of it. It yields the records that
// the filters select.
func (l *logCommand) matching(ctx context.Context, reader *replay.Reader, p *progress) iter.Seq2[replay.Record, error] {
	return func(yield func(replay.Record, error) bool) {
		for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
			if (err != nil || l.visit(r, p)) && !yield(r, err) {
				return
			}
		}
	}
}

// visit adds the next record of the log to the fold and reports whether the filters select it.
func (l *logCommand) visit(r replay.Record, p *progress) (selected bool) {
	l.fold.Add(r)
	l.nextSeq = l.fold.View.LastSeq() + 1
	if r.Damage == nil {
		l.lastEvent = r
	}
	p.update(l.nextSeq - 1)
	return l.matcher.Match(r)
}

// listLast prints the last records. With a filter, it reads the whole log to find them.
func (l *logCommand) listLast(ctx context.Context, reader *replay.Reader) error {
	var records []replay.Record
	ok := false
	if !l.filters.anySet() {
		var err error
		if records, l.unread, ok, err = reader.Newest(ctx, l.last); err != nil {
			return err
		}
	}
	if ok {
		for _, r := range records {
			l.addUnfolded(r)
		}
	} else {
		var err error
		if records, err = l.lastOfAll(ctx, reader); err != nil {
			return err
		}
	}
	if l.reverse {
		slices.Reverse(records)
	}
	for _, r := range records {
		if err := l.printer.print(r); err != nil {
			return err
		}
	}
	return l.printer.end()
}

// addUnfolded handles a record if the records before it were not read, so that it cannot be folded.
// It adds damage to the report.
func (l *logCommand) addUnfolded(r replay.Record) {
	if r.Damage != nil {
		l.fold.AddDamage(*r.Damage)
		return
	}
	l.lastEvent, l.nextSeq = r, r.Seq+1
}

// lastOfAll reads the whole log and returns the last matching records.
func (l *logCommand) lastOfAll(ctx context.Context, reader *replay.Reader) (records []replay.Record, err error) {
	p := l.progress("events read:")
	defer p.end()
	for r, err := range l.matching(ctx, reader, p) {
		if err != nil {
			return nil, err
		}
		if records = append(records, r); len(records)-l.last >= max(l.last, 1024) {
			records = slices.Clone(records[len(records)-l.last:])
		}
	}
	return records[max(0, len(records)-l.last):], nil
}

const followInterval = 200 * time.Millisecond

// followAfter prints new records until ctx is canceled. It begins after the last record that was read.
func (l *logCommand) followAfter(ctx context.Context, reader *replay.Reader, dir string) error {
	live := reader.Live(l.lastEvent, l.nextSeq)
	for {
		if err := l.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followInterval):
		}
		for r, err := range live.New(ctx) {
			if errors.Is(err, replay.ErrReplaced) {
				err = fmt.Errorf("%w. The events printed so far may not be in the log. Compare them with it, and start 'log -f' again", err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
			if !l.matcher.Match(r) {
				continue
			}
			if err := l.printer.print(r); err != nil {
				return err
			}
		}
	}
}
