package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/eventlog/segment"
	"migrationlog/projection"
	"migrationlog/replay"
)

// logCommand is one run of the command log.
type logCommand struct {
	*tool
	filters    filters
	follow     bool
	last       int
	reverse    bool
	untilFirst string
	cursorFile string

	dir       string
	query     replay.Query
	matcher   *replay.Matcher
	stopper   *replay.Matcher // selects the record of --until-first, or nil
	stopped   bool            // that record was printed
	cursor    cursor
	rangeEnd  rangeEnd
	fold      *replay.Fold
	view      *projection.View // has the rows that the printed facts come from
	endFacts  factsByID        // with --reverse: the facts of each migration
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
		Long: `List all events in order, with the damage between them.

MOVE is the source node and the target node. The details are cut at the end of the
line. --wide and JSON have all of them.`,
		Example: `  replay-tool log log --vshard 11 -n 4
  replay-tool log log --since -20s --kind abort
  replay-tool log log --until-first phase=Cutover,vshard=11
  replay-tool log log -f -o ndjson --cursor-file copied.json`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.buffered(func() error { return l.run(c.Context(), args[0]) })
		},
	}
	l.filters.register(c)
	c.Flags().BoolVarP(&l.follow, "follow", "f", false, "wait for new events and print them, until interrupted")
	c.Flags().IntVarP(&l.last, "last", "n", 0, "print only the last `N` events")
	c.Flags().BoolVar(&l.reverse, "reverse", false, "print the newest event first")
	c.Flags().StringVar(&l.untilFirst, "until-first", "", "stop after the first event that meets these `conditions`: kind, phase, vshard, node or migration, such as phase=Cutover,vshard=11")
	c.Flags().StringVar(&l.cursorFile, "cursor-file", "", "begin after the position in this `file`, if it exists, and write the position of the last event into it; with --to or --until, the position does not pass their end")
	return c
}

func (l *logCommand) checkFlags() error {
	switch {
	case l.last < 0 || l.last == 0 && l.filters.flags.Changed("last"):
		return usageErrorf("--last %d: give a number of at least 1", l.last)
	case l.follow && l.reverse:
		return usageErrorf("--follow and --reverse cannot be used together: remove one of them")
	case l.follow && l.output == outputJSON:
		return usageErrorf("--follow cannot print a JSON array, because its output has no end: use -o ndjson")
	case l.untilFirst != "" && (l.reverse || l.last > 0):
		return usageErrorf("--until-first cannot be used with --reverse or --last: remove one of them")
	case l.cursorFile != "" && (l.reverse || l.last > 0):
		return usageErrorf("--cursor-file cannot be used with --reverse or --last, which leave out events: remove one of them")
	}
	for name, value := range map[string]string{"until-first": l.untilFirst, "cursor-file": l.cursorFile} {
		if l.filters.flags.Changed(name) && value == "" {
			return usageErrorf("--%s needs a value", name)
		}
	}
	return nil
}

func (l *logCommand) run(ctx context.Context, dir string) error {
	if err := l.checkFlags(); err != nil {
		return err
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	times := l.times(ctx, reader)
	q, err := l.filters.query(ctx, times)
	if err != nil {
		return err
	}
	if l.untilFirst != "" {
		stop, err := firstQuery(ctx, times, l.untilFirst)
		if err != nil {
			return err
		}
		l.stopper = replay.NewMatcher(stop)
	}
	if l.cursor, err = openCursor(l.cursorFile, reader.Manifest().UUID); err != nil {
		return err
	}
	l.dir, l.query, l.matcher, l.printer = dir, q, replay.NewMatcher(q), l.newRecordPrinter(dir)
	l.rangeEnd = rangeEnd{toSeq: q.ToSeq, untilMS: q.UntilMS}
	if l.reverse {
		l.endFacts = factsByID{}
	}
	err = l.list(ctx, reader)
	if err == nil || l.printer.printed > 0 { // an error does not make JSON invalid
		err = cmp.Or(err, l.printer.end())
	}
	if err == nil && l.follow && !l.stopped {
		err = l.followAfter(ctx, reader)
	}
	if err := errors.Join(err, l.saveCursor()); err != nil {
		return err
	}
	return l.verdict()
}

// verdict prints the findings about the records that were read, and returns their exit code.
func (l *logCommand) verdict() error {
	switch {
	case l.stopper != nil && !l.stopped:
		l.statusf("no event meets the conditions of --until-first")
	case l.printer.printed == 0 && l.output != outputJSON:
		l.statusf("no event matches")
	}
	l.statusBeginning(l.dir)
	if l.unread > 0 {
		l.statusf("%s not checked. To check the whole log, run: replay-tool verify %s", count(l.unread, "segment"), quoted(l.dir))
	}
	report := l.fold.Report()
	l.reportFindings(report)
	if err := reportExit(report); err != nil {
		return err
	}
	if l.stopper != nil && !l.stopped || l.printer.printed == 0 && l.filters.anySet() {
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

// firstQuery reads the conditions of --until-first, such as phase=Cutover,vshard=11.
func firstQuery(ctx context.Context, times timeReader, conditions string) (replay.Query, error) {
	c := &cobra.Command{}
	var f filters
	f.register(c)
	for condition := range strings.SplitSeq(conditions, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(condition), "=")
		if name = strings.ToLower(name); !ok || !slices.Contains([]string{"kind", "phase", "vshard", "node", "migration"}, name) {
			return replay.Query{}, usageErrorf("--until-first: %q is not a condition: give kind, phase, vshard, node or migration with a value, such as phase=Cutover,vshard=11", condition)
		}
		if err := c.Flags().Set(name, value); err != nil {
			return replay.Query{}, usageErrorf("--until-first: %s: %q is not a value of it", name, value)
		}
	}
	q, err := f.query(ctx, times)
	if len(q.Kinds) == 0 { // damage never meets the conditions
		q.Kinds = slices.DeleteFunc(slices.Clone(replay.Kinds), func(k replay.Kind) bool { return k == replay.KindDamage })
	}
	return q, err
}

// list prints the matching records that are in the log now.
func (l *logCommand) list(ctx context.Context, reader *replay.Reader) error {
	switch searches, err := l.searches(); {
	case err != nil:
		return err
	case searches:
		return l.search(ctx, reader)
	case l.last > 0:
		return l.listLast(ctx, reader)
	}
	l.beginFold(reader.NewFold())
	p := l.progress("events read:")
	defer p.end()
	if l.reverse {
		for r, err := range reader.Backward(ctx, func(r replay.Record) bool { return l.matcher.Match(l.visit(r, p)) }) {
			if err != nil {
				return err
			}
			if err := l.printer.print(r, l.endFacts.of(r)); err != nil {
				return err
			}
		}
		return nil
	}
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) { // all, because the exit code is about all of them
		if err != nil {
			return err
		}
		if err := l.handle(r, l.factsAfter(r, p)); err != nil {
			return err
		}
		if l.stopped {
			l.unread = segmentsAfter(l.dir, r.Segment)
			break
		}
	}
	if l.stopped {
		return nil
	}
	return l.cursor.checkEnd(l.nextSeq-min(l.nextSeq, 1), l.lastEvent.Seq)
}

// searches reports whether the summaries of the segments show where the records are. Options that need
// the state after the last event, or each event, read the whole log.
func (l *logCommand) searches() (bool, error) {
	needsAll := l.follow || l.stopper != nil || l.cursorFile != "" || l.reverse && l.last == 0 || slices.Contains(l.query.Kinds, replay.KindDamage)
	if needsAll || !l.filters.anySet() {
		return false, nil
	}
	return hasManySegments(l.dir)
}

// search prints the matching records of a large log. It reads only a few segments.
func (l *logCommand) search(ctx context.Context, reader *replay.Reader) error {
	l.beginFold(reader.NewPartialFold())
	var covered replay.Coverage
	defer func() { l.unread = covered.Unchecked }()
	o := replay.SearchOptions{Rows: l.output == outputTable, Covered: &covered}
	if l.last == 0 {
		for f, err := range reader.Search(ctx, l.query, o) {
			if err != nil {
				return err
			}
			if err := l.printFound(f); err != nil {
				return err
			}
		}
		return nil
	}
	found, err := reader.SearchLast(ctx, l.query, l.last, o)
	if l.reverse {
		slices.Reverse(found)
	}
	for _, f := range found {
		err = cmp.Or(err, l.printFound(f))
	}
	return err
}

// printFound prints a record if it is selected. Damage is in the report in any case.
func (l *logCommand) printFound(f replay.Found) error {
	if f.Damage != nil {
		l.fold.AddDamage(*f.Damage)
	}
	if !f.Selected {
		return nil
	}
	var m moveFacts
	if f.HasRow {
		m = moveFactsOf(f.Row)
	}
	return l.printer.print(f.Record, m)
}

// beginFold sets the fold of the records that will be read.
func (l *logCommand) beginFold(fold *replay.Fold) { l.fold, l.view = fold, fold.View }

// handle prints a record if the filters select it and it is after the cursor.
func (l *logCommand) handle(r replay.Record, m moveFacts) error {
	if err := l.cursor.check(r); err != nil {
		return err
	}
	selected := l.matcher.Match(r)
	isLast := l.stopper != nil && l.stopper.Match(r)
	if !l.cursor.isAfter(r) {
		return nil
	}
	if selected || isLast {
		if err := l.printer.print(r, m); err != nil {
			return err
		}
	}
	if !l.rangeEnd.isBefore(r) {
		l.cursor.advance(r)
	}
	l.stopped = isLast
	return nil
}

// saveCursor flushes the output, and then writes the cursor file.
func (l *logCommand) saveCursor() error {
	if err := l.flush(); err != nil {
		return err
	}
	return l.cursor.save()
}

// segmentsAfter returns the number of segments after the one with this name.
func segmentsAfter(dir, name string) (n int) {
	names, _ := segment.Names(os.DirFS(dir)) // the number is only printed
	for _, other := range names {
		if other > name {
			n++
		}
	}
	return n
}

// visit adds the next record of the log to the fold.
func (l *logCommand) visit(r replay.Record, p *progress) replay.Record {
	m := l.factsAfter(r, p)
	if l.endFacts != nil {
		l.endFacts.add(r, m)
	}
	return r
}

// factsAfter adds the next record of the log to the fold, and returns the facts for its row.
func (l *logCommand) factsAfter(r replay.Record, p *progress) (m moveFacts) {
	if l.output == outputTable {
		m = applyForFacts(l.view, r, func() { l.fold.Add(r) })
	} else {
		l.fold.Add(r)
	}
	l.view = l.fold.View
	l.nextSeq = l.fold.View.LastSeq() + 1
	if r.Damage == nil {
		l.lastEvent = r
	}
	p.update(l.nextSeq - 1)
	return m
}

// listLast prints the last records. It reads the whole log if there is a filter.
func (l *logCommand) listLast(ctx context.Context, reader *replay.Reader) error {
	var records []recordWithFacts
	ok := false
	var err error
	if !l.filters.anySet() {
		if records, ok, err = l.newest(ctx, reader); err != nil {
			return err
		}
	}
	if !ok {
		if records, err = l.lastOfAll(ctx, reader); err != nil {
			return err
		}
	}
	if l.reverse {
		slices.Reverse(records)
	}
	for _, r := range records {
		if err := l.printer.print(r.Record, r.facts); err != nil {
			return err
		}
	}
	return nil
}

// recordWithFacts is a record with the facts for its row.
type recordWithFacts struct {
	replay.Record
	facts moveFacts
}

// recordsForFacts is the number of records before the last ones that are read to find the facts of
// their migrations.
const recordsForFacts = 4096

// newest returns the last records, and reads only the segments that have them. If the log has no
// summaries and the beginning of a migration is in an earlier segment, some of its facts are not known.
func (l *logCommand) newest(ctx context.Context, reader *replay.Reader) (last []recordWithFacts, ok bool, err error) {
	n, summarized := l.last, reader.Summarized()
	if l.output == outputTable && !summarized && n < math.MaxInt-recordsForFacts {
		n += recordsForFacts
	}
	records, unread, ok, err := reader.Newest(ctx, n)
	if err != nil || !ok {
		return nil, false, err
	}
	l.beginFold(reader.NewPartialFold())
	l.unread, l.view = unread, projection.New()
	for _, r := range records {
		var m moveFacts
		if r.Damage != nil {
			l.fold.AddDamage(*r.Damage)
		} else {
			m = l.apply(r)
		}
		last = append(last, recordWithFacts{r, m})
	}
	last = last[max(0, len(last)-l.last):]
	if l.output == outputTable && summarized {
		err = addFacts(ctx, reader, last)
	}
	return last, true, err
}

// addFacts sets the facts of records that follow each other. It finds the beginnings of their migrations
// with the summaries.
func addFacts(ctx context.Context, reader *replay.Reader, records []recordWithFacts) error {
	var q replay.Query
	bySeq := map[uint64]int{}
	for i, r := range records {
		if r.Damage == nil {
			bySeq[r.Seq] = i
			q.FromSeq, q.ToSeq = cmp.Or(q.FromSeq, r.Seq), r.Seq
		}
	}
	for f, err := range reader.Search(ctx, q, replay.SearchOptions{Rows: true}) {
		if err != nil {
			return err
		}
		if i, ok := bySeq[f.Seq]; ok && f.Damage == nil && f.HasRow {
			records[i].facts = moveFactsOf(f.Row)
		}
	}
	return nil
}

// apply applies an event that is not folded, because events before it were not read.
func (l *logCommand) apply(r replay.Record) moveFacts {
	l.lastEvent, l.nextSeq = r, r.Seq+1
	m := applyForFacts(l.view, r, func() {
		if r.Unknown != nil {
			l.view.ApplyUnknown(r.Seq, r.PrevSeq, r.Unknown.MigrationID)
			return
		}
		l.view.Apply(r.Seq, r.PrevSeq, r.Event)
	})
	m.facts.SourceUncertain, m.facts.TargetUncertain = false, false // events before it exist, but were not read
	return m
}

// lastOfAll reads the whole log and returns the last matching records.
func (l *logCommand) lastOfAll(ctx context.Context, reader *replay.Reader) (records []recordWithFacts, err error) {
	l.beginFold(reader.NewFold())
	p := l.progress("events read:")
	defer p.end()
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
		if err != nil {
			return nil, err
		}
		m := l.factsAfter(r, p)
		if !l.matcher.Match(r) {
			continue
		}
		if records = append(records, recordWithFacts{r, m}); len(records)-l.last >= max(l.last, 1024) {
			records = slices.Clone(records[len(records)-l.last:])
		}
	}
	return records[max(0, len(records)-l.last):], nil
}

const followInterval = 200 * time.Millisecond

// followAfter prints new records until ctx is canceled. It begins after the last record that was read.
func (l *logCommand) followAfter(ctx context.Context, reader *replay.Reader) error {
	live := reader.Live(l.lastEvent, l.nextSeq)
	l.statusf("waiting for events after #%d. To stop, press Ctrl-C", l.nextSeq-min(l.nextSeq, 1))
	for {
		if err := l.saveCursor(); err != nil {
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
				return fmt.Errorf("%s: %w", l.dir, err)
			}
			var m moveFacts
			if r.Damage == nil {
				m = l.apply(r)
			}
			if err := l.handle(r, m); err != nil || l.stopped {
				return err
			}
		}
	}
}
