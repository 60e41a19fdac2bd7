package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/projection"
	"migrationlog/replay"
)

func (t *tool) state() *cobra.Command {
	var at string
	var snapshot bool
	c := &cobra.Command{
		Use:   "state DIR [MIGRATION]",
		Short: "Show the latest row of each migration, now or at a point in the past",
		Args:  argCount(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("at") && at == "" {
				return usageErrorf("--at needs a value: #SEQ or a time")
			}
			if snapshot {
				if at != "" {
					return usageErrorf("--at and --snapshot cannot be used together: remove one of them")
				}
				return t.buffered(func() error { return t.runSnapshot(args[0], args[1:]) })
			}
			return t.buffered(func() error { return t.runState(c.Context(), args[0], args[1:], at) })
		},
	}
	c.Flags().StringVar(&at, "at", "", "show the state at this `point`: #SEQ, or a time ("+timeFormats+")")
	c.Flags().BoolVar(&snapshot, "snapshot", false, "show the rows of the newest snapshot, even if the log has lost their events")
	return c
}

// runSnapshot shows the rows of the newest intact snapshot. It does not read the segments.
func (t *tool) runSnapshot(dir string, idPart []string) error {
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	view, err := reader.Snapshot()
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	rows := view.All()
	if len(idPart) > 0 {
		search, err := newIDSearch(idPart[0])
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r projection.Row) bool { return !search.matches(r.Checkpoint.MigrationID) })
	}
	if err := t.showRows(rows); err != nil {
		return err
	}
	t.statusf("these rows are as of #%d. They do not include later events of the log", view.LastSeq())
	if len(rows) == 0 && len(idPart) > 0 {
		return silentExit{exitNoMatch}
	}
	return nil
}

// showRows prints rows in the format of --output.
func (t *tool) showRows(rows []projection.Row) error {
	if t.output == outputTable {
		return t.stateTable(rows)
	}
	lines := make([]stateRow, len(rows))
	for i, r := range rows {
		lines[i] = stateRowOf(r)
	}
	return writeLines(t, lines)
}

func (t *tool) runState(ctx context.Context, dir string, idPart []string, at string) error {
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	var point replay.Point
	if at != "" {
		if point, err = t.times(ctx, reader).point(ctx, at); err != nil {
			return err
		}
	}
	fold, err := reader.FoldTo(ctx, point)
	if err != nil {
		return err
	}
	rows := fold.View.All()
	if len(idPart) > 0 {
		id, err := resolve(ctx, reader, idPart[0])
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r projection.Row) bool { return r.Checkpoint.MigrationID != id })
	}
	if last := fold.View.LastSeq(); point.Seq > last {
		return usageErrorf("--at %s: the log ends with #%d, give that or an earlier number", at, last)
	}
	if err := t.explainTime(ctx, "state", dir, reader, fold.View.LastSeq(), point.TimeMS); err != nil {
		return err
	}
	report := fold.Report()
	// If the migration has no row, the message below replaces the table.
	if t.output != outputTable || len(rows) > 0 || len(idPart) == 0 {
		if err := t.showRows(rows); err != nil {
			return err
		}
	}
	t.reportFindings(report)
	noRow := len(idPart) > 0 && len(rows) == 0
	if noRow {
		t.statusf("migration %s has no row at this point: it was aborted or removed, had not started, or its events are lost. To see its history, run: replay-tool show %s %s", idPart[0], quoted(dir), idPart[0])
	}
	if err := reportExit(report); err != nil {
		return err
	}
	if noRow {
		return silentExit{exitNoMatch}
	}
	return nil
}

// explainTime prints to stderr the last event that the state at a time includes. Clocks may go
// back. If later events also have clocks up to that time, explainTime prints their number, and the
// command that includes them.
func (t *tool) explainTime(ctx context.Context, command, dir string, reader *replay.Reader, asOf, timeMS uint64) error {
	if timeMS == 0 || t.quiet {
		return nil
	}
	var next, first, last, n uint64
	var nextMS uint64
	for r, err := range readAhead(reader.Records(ctx, replay.Query{FromSeq: asOf + 1})) {
		switch {
		case err != nil:
			return err
		case r.Damage != nil:
			continue
		case next == 0:
			next, nextMS = r.Seq, r.WallMS()
		case r.WallMS() <= timeMS:
			if n == 0 {
				first = r.Seq
			}
			n, last = n+1, r.Seq
		}
	}
	switch {
	case next == 0:
		t.statusf("the state is as of #%d, the end of the log", asOf)
	case asOf == 0:
		t.statusf("no event is included, because #%d has the clock %s", next, t.isoTime(nextMS))
	default:
		t.statusf("the state is as of #%d, because #%d has the clock %s", asOf, next, t.isoTime(nextMS))
	}
	if n > 0 {
		t.statusf("not included: %s with a clock up to that time (the first is #%d), because a clock went back or #%d has a wrong clock. To include them, run: replay-tool %s %s --at '#%d'",
			count(n, "later event"), first, next, command, quoted(dir), last)
	}
	return nil
}

func (t *tool) stateTable(rows []projection.Row) error {
	if len(rows) == 0 {
		t.statusf("no migration has a row")
		return nil
	}
	clock := t.clock()
	tw := table(t.stdout, "MIGRATION", "VSHARD", "PHASE", "ATTEMPT", "FROM", "TO", "GROUP", "SEQ", "TIME", "")
	for _, r := range rows {
		c := r.Checkpoint
		var notes []string
		if r.Doubt == projection.InDoubt {
			notes = append(notes, r.Doubt.String())
		}
		if r.Facts.Abort != nil {
			notes = append(notes, abortProgress(r.Facts.Abort))
		}
		from, to, group := factCells(r.Facts)
		row(tw, c.MigrationID.String(), strconv.FormatUint(uint64(c.Payload.Shard()), 10), c.Phase().String(),
			strconv.FormatUint(uint64(c.Attempt), 10), from, to, group,
			strconv.FormatUint(r.Seq, 10), clock.show(c.TimestampMS), strings.Join(notes, ", "))
	}
	return tw.Flush()
}

// factCells returns the source node, the target node and the source group. A fact that is not known
// is "?". A fact that may belong to an earlier incarnation ends with "?".
func factCells(f projection.Facts) (from, to, group string) {
	from, to, group = "?", "?", "?"
	if f.HasSource {
		from = strconv.FormatUint(f.SourceNode, 10) + questionMark(f.SourceUncertain)
	}
	if f.HasTarget {
		to = strconv.FormatUint(f.TargetNode, 10) + questionMark(f.TargetUncertain)
		group = strconv.FormatUint(f.SourceGroup, 10) + questionMark(f.TargetUncertain)
	}
	return from, to, group
}

func questionMark(uncertain bool) string {
	if uncertain {
		return "?"
	}
	return ""
}

// compareRows orders rows by importance: first those in flight, and of these the one that has been in
// its phase for the longest time.
func compareRows(a, b projection.Row) int {
	if isInFlight(a) != isInFlight(b) {
		if isInFlight(a) {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Checkpoint.TimestampMS, b.Checkpoint.TimestampMS), cmp.Compare(a.Seq, b.Seq))
}

// rowDescription describes a row in a few words.
func rowDescription(r projection.Row, nowMS uint64) string {
	m := traitsOf(r, nowMS)
	return fmt.Sprintf("vshard %d, %s, %s", m.vshard, m.phase, shortSpan(m.ageMS))
}
