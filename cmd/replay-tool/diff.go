package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

// diffCommand is one run of the command diff.
type diffCommand struct {
	*tool
	filters rowFilters
	at      []string
	all     bool
	dirs    []string

	lost    [2][]replay.SeqRange // of two logs: the lost events, and the last one
	lastSeq [2]uint64
}

func (t *tool) diff() *cobra.Command {
	d := &diffCommand{tool: t}
	c := &cobra.Command{
		Use:   "diff DIR [DIR2]",
		Short: "Compare the rows and the moves of a log at two points, or of two logs",
		Long: `Compare the rows and the moves of a log at two points, or of two logs.

With one --at, the log is compared at that point and at its end. With two, it is
compared at both. With DIR2, the ends of two logs are compared, and the command
prints up to which event both are copies of one log. If they are the logs of two
members of a consensus group, the command finds the first raft index at which their
histories differ, with few look-ups. --all or a filter compares their rows instead.

A line begins with > if the row has changed, with - if it is gone, with + if it is
new, and with * for a move that began and ended in between (--all). If DIR2 has
lost events of DIR, a line begins with ? if its row is stale. The filters
select lines, and do not change the numbers above them. The exit code is 7 if
there are differences.`,
		Example: `  replay-tool diff log --at -5m
  replay-tool diff log --at '#4000' --at '#6000' --all
  replay-tool diff log /backup/log --vshard 11
  replay-tool diff member-1 member-2`,
		Args: argCount(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			d.dirs = args
			return t.buffered(func() error { return d.run(c.Context()) })
		},
	}
	c.Flags().StringArrayVar(&d.at, "at", nil, "compare the log at this `point` with its end, or, given twice, at two points: "+pointFormats)
	c.Flags().BoolVar(&d.all, "all", false, "also list the moves that began and ended in between")
	d.filters.register(c)
	return c
}

func (d *diffCommand) run(ctx context.Context) error {
	if err := d.filters.read(); err != nil {
		return err
	}
	o := diff.Options{All: d.all}
	if len(d.dirs) == 2 {
		if len(d.at) > 0 {
			return usageErrorf("--at cannot be used with two directories: their ends are compared")
		}
		return d.runLogs(ctx, o)
	}
	if len(d.at) == 0 || len(d.at) > 2 {
		return usageErrorf("give one or two points with --at, or a second directory")
	}
	reader, err := replay.Open(d.dirs[0])
	if err != nil {
		return err
	}
	var points [2]replay.Point
	for i, text := range d.at {
		if points[i], err = d.times(ctx, reader).point(ctx, text); err != nil {
			return err
		}
	}
	fold := reader.NewFold()
	compared := diff.NewPoints(fold, points[0], points[1], o)
	p := d.progress("events read:")
	defer p.end()
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
		if err != nil {
			return err
		}
		compared.Add(r)
		p.update(fold.View.LastSeq())
	}
	if last := fold.View.LastSeq(); max(points[0].Seq, points[1].Seq) > last {
		return pointAfterEnd(max(points[0].Seq, points[1].Seq), last)
	}
	return d.finish(compared.Result(), []*replay.Fold{fold})
}

func (d *diffCommand) runLogs(ctx context.Context, o diff.Options) error {
	var readers [2]*replay.Reader
	for i, dir := range d.dirs {
		var err error
		if readers[i], err = replay.Open(dir); err != nil {
			return err
		}
	}
	if isDone, err := d.runHistories(ctx, readers); isDone || err != nil {
		return err
	}
	p := d.progress("events read:")
	defer p.end()
	result, folds, err := diff.Logs(ctx, readers[0], readers[1], o, p.update)
	if err != nil {
		return err
	}
	for i, fold := range folds {
		report := fold.Report()
		d.lost[i], d.lastSeq[i] = report.Lost, report.LastSeq
	}
	return d.finish(result, folds[:])
}

// finish prints the result. It returns the error with the exit code of the logs or of the differences,
// or nil.
func (d *diffCommand) finish(r diff.Result, folds []*replay.Fold) error {
	if err := d.write(r); err != nil {
		return err
	}
	return d.verdict(r.Equal(), folds)
}

// verdict prints the findings about the logs, and returns the error with the exit code.
func (d *diffCommand) verdict(isEqual bool, folds []*replay.Fold) error {
	differences := 0
	if !isEqual {
		differences = 1
	}
	var worst error
	for i, fold := range folds {
		report := fold.Report()
		if len(folds) > 1 && !report.Clean() {
			d.statusf("in %s:", quoted(d.dirs[i]))
		}
		d.dir = d.dirs[min(i, len(d.dirs)-1)]
		d.reportFindings(report)
		if err := findingsExit(report, differences); rankOfExit(err) > rankOfExit(worst) {
			worst = err
		}
	}
	return worst
}

// rankOfExit orders the exit codes of several logs: the one with the highest rank is used.
func rankOfExit(err error) int {
	for rank, code := range []int{exitClean, exitTornTail, exitHarmless, exitFindings, exitDamage} {
		if exitCode(err) == code {
			return rank
		}
	}
	return 0
}

// The lines of NDJSON, and the parts of JSON.
type (
	changeJSON struct {
		Change      diff.Kind              `json:"change"`
		MigrationID checkpoint.MigrationID `json:"migration_id"`
		VShardID    uint32                 `json:"vshard_id"`
		FirstSeq    uint64                 `json:"first_seq,omitempty"` // of a move that began and ended in between
		Before      *stateRow              `json:"before"`
		After       *stateRow              `json:"after"`
		Ended       *endedJSON             `json:"ended"`
	}
	endedJSON struct {
		Kind   replay.Kind      `json:"kind"`
		Seq    uint64           `json:"seq"`
		Phase  checkpoint.Phase `json:"phase,omitempty"`
		Reason string           `json:"reason,omitempty"`
	}
	sideJSON struct {
		Seq  uint64 `json:"seq"`
		TSMS uint64 `json:"ts_ms"`
		Rows int    `json:"rows"`
	}
	copiesJSON struct {
		Relation   diff.Relation `json:"relation"`
		CommonSeq  uint64        `json:"common_seq"`
		OnlyFirst  diff.Counts   `json:"only_first"`
		OnlySecond diff.Counts   `json:"only_second"`
	}
	diffJSON struct {
		From    sideJSON       `json:"from"`
		To      sideJSON       `json:"to"`
		Rows    map[string]int `json:"rows"`
		Between diff.Counts    `json:"between"`
		Copies  *copiesJSON    `json:"copies,omitempty"`
		Changes []changeJSON   `json:"changes"`
	}
)

func changeJSONOf(c diff.Change) changeJSON {
	out := changeJSON{Change: c.Kind, MigrationID: c.ID, VShardID: c.VShardID, FirstSeq: c.FirstSeq}
	for from, to := range map[*projection.Row]**stateRow{c.Before: &out.Before, c.After: &out.After} {
		if from != nil {
			*to = new(stateRowOf(*from))
		}
	}
	if e := c.Ended; e != nil {
		out.Ended = &endedJSON{e.Kind, e.Seq, e.Phase, e.Reason}
	}
	return out
}

func (d *diffCommand) write(r diff.Result) error {
	var shown []diff.Change
	for _, c := range r.Changes {
		if d.selects(c, r) {
			shown = append(shown, c)
		}
	}
	if d.output == outputTable {
		d.text(r, shown)
		return nil
	}
	changes := []changeJSON{}
	for _, c := range shown {
		changes = append(changes, changeJSONOf(c))
	}
	if d.output == outputNDJSON {
		return writeLines(d.tool, changes)
	}
	out := diffJSON{
		From: sideJSON(r.From), To: sideJSON(r.To), Between: r.Between, Changes: changes,
		Rows: map[string]int{"new": r.New, "gone": r.Gone, "moved": r.Moved, "same": r.Same, "lost": r.Lost, "stale": r.Stale},
	}
	if c := r.Copies; c != nil {
		out.Copies = &copiesJSON{c.Relation, c.CommonSeq, c.OnlyFirst, c.OnlySecond}
	}
	return d.writeJSON(out)
}

// selects reports whether the filters select one of the rows of a change.
func (d *diffCommand) selects(c diff.Change, r diff.Result) bool {
	switch {
	case c.After != nil && d.filters.matches(traitsOf(*c.After, r.To.TSMS)), c.Before != nil && d.filters.matches(traitsOf(*c.Before, r.From.TSMS)):
		return true
	}
	return c.Kind == diff.Passed && d.filters.matches(rowTraits{phase: c.Ended.Phase, vshard: c.VShardID})
}

func (d *diffCommand) text(r diff.Result, shown []diff.Change) {
	clock := d.clock()
	if r.Copies != nil {
		d.copiesText(*r.Copies)
	}
	side := func(s diff.Side) string {
		switch {
		case s.TSMS == 0:
			return fmt.Sprintf("#%d", s.Seq)
		case clock.newDay(s.TSMS) == "" && clock.style == timeISO:
			return fmt.Sprintf("#%d %s", s.Seq, clock.short(s.TSMS))
		}
		return fmt.Sprintf("#%d %s", s.Seq, clock.show(s.TSMS))
	}
	fmt.Fprintf(d.stdout, "%s to %s", side(r.From), side(r.To))
	if r.From.TSMS > 0 && r.To.TSMS >= r.From.TSMS {
		fmt.Fprintf(d.stdout, ", %s", shortSpan(r.To.TSMS-r.From.TSMS))
	}
	fmt.Fprintf(d.stdout, "\n  rows      %d -> %d   %d new, %d gone, %d moved on, %d the same\n", r.From.Rows, r.To.Rows, r.New, r.Gone, r.Moved, r.Same)
	if r.Lost+r.Stale > 0 {
		fmt.Fprintf(d.stdout, "            %d lost and %d stale in %s, because it has lost their events\n", r.Lost, r.Stale, quoted(d.dirs[1]))
	}
	b := r.Between
	fmt.Fprintf(d.stdout, "  moves     %d began, %d done, %d aborted\n", b.Began, b.Done, b.Aborted)
	if b.Passed > 0 {
		fmt.Fprintf(d.stdout, "            %d began and ended in between and left no row", b.Passed)
		if !d.all {
			fmt.Fprint(d.stdout, " (--all lists them)")
		}
		fmt.Fprintln(d.stdout)
	}
	if b.Lost > 0 && r.Copies == nil {
		fmt.Fprintf(d.stdout, "  lost      %s in between: the numbers may be too low\n", count(b.Lost, "event"))
	}
	d.changesText(shown)
	if n := len(r.Changes) - len(shown); n > 0 {
		d.statusf("%s not shown, because the filters do not select them", count(n, "line"))
	}
}

func (d *diffCommand) copiesText(c diff.Copies) {
	a, b := quoted(d.dirs[0]), quoted(d.dirs[1])
	switch c.Relation {
	case diff.Different:
		fmt.Fprintf(d.stdout, "%s and %s are different logs: only their rows are compared\n", a, b)
		return
	case diff.Identical:
		if c.CommonSeq == 0 {
			fmt.Fprintf(d.stdout, "%s and %s have no event\n", a, b)
			return
		}
		fmt.Fprintf(d.stdout, "%s and %s have the same events, up to #%d\n", a, b, c.CommonSeq)
		return
	}
	fmt.Fprintf(d.stdout, "%s and %s are copies of one log up to #%d\n", a, b, c.CommonSeq)
	switch c.Relation {
	case diff.FirstIsPrefix:
		fmt.Fprintf(d.stdout, "  %s continues with %s\n", b, count(c.OnlySecond.Events, "event"))
	case diff.SecondIsPrefix:
		fmt.Fprintf(d.stdout, "  %s continues with %s\n", a, count(c.OnlyFirst.Events, "event"))
	case diff.Incomplete:
		for i, only := range []diff.Counts{c.OnlySecond, c.OnlyFirst} {
			if only.Events > 0 {
				fmt.Fprintf(d.stdout, "  %s\n", d.missingText(i, only.Events))
			}
		}
	default:
		fmt.Fprintf(d.stdout, "  then they diverged: %s in %s only, %s in %s only\n", count(c.OnlyFirst.Events, "event"), a, count(c.OnlySecond.Events, "event"), b)
	}
}

// missingText returns the line about the events that a log does not have and its copy has.
func (d *diffCommand) missingText(i int, events uint64) string {
	dir, other := quoted(d.dirs[i]), quoted(d.dirs[1-i])
	text := fmt.Sprintf("%s does not have %s of %s", dir, count(events, "event"), other)
	if len(d.lost[i]) > 0 {
		text += fmt.Sprintf(". It has lost %s", rangesText(d.lost[i]))
	}
	if d.lastSeq[i] < d.lastSeq[1-i] {
		text += fmt.Sprintf(". It ends at #%d", d.lastSeq[i])
	}
	return text
}

var changeSigns = map[diff.Kind]string{diff.Moved: ">", diff.Gone: "-", diff.New: "+", diff.Passed: "*", diff.Lost: "-", diff.Stale: "?"}

func (d *diffCommand) changesText(changes []diff.Change) {
	ids := shortestIDs(nil)
	for _, c := range changes {
		ids.add(c.ID)
	}
	g := d.newGrid(column{title: ""}, column{title: "VSHARD", right: true}, column{title: "CHANGE"}, column{title: "ID", style: styleDim}, column{title: "SEQ", rank: 1}, column{title: "REASON", free: true, rank: 2})
	for _, c := range changes {
		style, reason := stylePlain, ""
		if c.Ended != nil && c.Ended.Kind == replay.KindAbort {
			style, reason = styleError, c.Ended.Reason
		}
		g.add(style, changeSigns[c.Kind], strconv.FormatUint(uint64(c.VShardID), 10), changeText(c), ids.of(c.ID), changeSeqs(c), reason)
	}
	g.print()
}

// changeText describes a change, such as "CatchUp -> Complete, then removed".
func changeText(c diff.Change) string {
	switch c.Kind {
	case diff.New:
		return rowText(*c.After)
	case diff.Passed:
		return phaseText(c.Ended.Phase) + endText(c.Ended)
	case diff.Lost:
		return rowText(*c.Before) + ", lost"
	case diff.Stale:
		if c.Ended != nil {
			return rowText(*c.After) + ", stale: lost" + strings.TrimPrefix(endText(c.Ended), ", then")
		}
		return rowText(*c.After) + ", stale: lost " + rowText(*c.Before)
	case diff.Gone:
		if c.Ended == nil {
			return rowText(*c.Before)
		}
		text := rowText(*c.Before)
		if c.Ended.Phase != c.Before.Checkpoint.Phase() {
			text += " -> " + phaseText(c.Ended.Phase)
		}
		return text + endText(c.Ended)
	}
	before, after := rowText(*c.Before), rowText(*c.After)
	switch {
	case c.Ended != nil:
		return before + endText(c.Ended) + ", then " + after
	case before == after && c.After.Facts.Abort != nil:
		return before + ", " + abortProgress(c.After.Facts.Abort)
	case before == after:
		return before + ", written again"
	}
	return before + " -> " + after
}

// rowText returns the phase of a row, its try, and whether it is in doubt.
func rowText(r projection.Row) string {
	text := r.Checkpoint.Phase().String()
	if r.Checkpoint.Attempt > 0 {
		text += ", " + tryText(r.Checkpoint.Phase(), r.Checkpoint.Attempt)
	}
	if r.Doubt == projection.InDoubt {
		text += "?"
	}
	return text
}

func phaseText(p checkpoint.Phase) string {
	if p == 0 {
		return "?"
	}
	return p.String()
}

func endText(e *diff.Ended) string {
	if e.Kind == replay.KindAbort {
		return ", then aborted"
	}
	return ", then removed"
}

// changeSeqs returns the numbers of the events that set the rows, or that ended the move.
func changeSeqs(c diff.Change) string {
	switch c.Kind {
	case diff.New:
		return fmt.Sprintf("#%d", c.After.LastSeq)
	case diff.Lost:
		return fmt.Sprintf("#%d", c.Before.LastSeq)
	case diff.Stale:
		if c.Ended != nil {
			return fmt.Sprintf("#%d, lost #%d", c.After.LastSeq, c.Ended.Seq)
		}
		return fmt.Sprintf("#%d, lost #%d", c.After.LastSeq, c.Before.LastSeq)
	case diff.Passed:
		return fmt.Sprintf("#%d -> #%d", c.FirstSeq, c.Ended.Seq)
	case diff.Gone:
		if c.Ended == nil {
			return fmt.Sprintf("#%d", c.Before.LastSeq)
		}
		return fmt.Sprintf("#%d", c.Ended.Seq)
	}
	return fmt.Sprintf("#%d -> #%d", c.Before.LastSeq, c.After.LastSeq)
}
