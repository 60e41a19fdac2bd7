package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// stateCommand is one run of the command state.
type stateCommand struct {
	*tool
	filters  rowFilters
	now      nowFlag
	at       string
	snapshot bool
	verbose  bool

	dir    string
	part   string                           // of the id of the only migration to show, or ""
	nowMS  measuredTo                       // the end of the time in a phase
	setBys map[checkpoint.MigrationID]setBy // with --verbose
}

func (t *tool) state() *cobra.Command {
	s := &stateCommand{tool: t}
	c := &cobra.Command{
		Use:   "state DIR [MIGRATION]",
		Short: "Show the latest row of each migration, now or at a point in the past",
		Long: `Show the latest row of each migration, now or at a point in the past.

The rows in flight come first, and of these the one that has been in its phase for
the longest time. FOR is this time. TRY is empty for the first try. With -v, BEGAN,
SOURCE and TARGET are the events that began the incarnation and set its nodes.`,
		Example: `  replay-tool state log --in-flight
  replay-tool state log --in-flight --older 5m --node 3
  replay-tool state log --at -20s
  replay-tool state log --at 781d20@Cutover
  replay-tool state log 781d20 -v`,
		Args: argCount(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("at") && s.at == "" {
				return usageErrorf("--at needs a value: " + pointFormats)
			}
			if err := s.filters.read(); err != nil {
				return err
			}
			s.dir = args[0]
			if len(args) > 1 {
				s.part = args[1]
			}
			run := s.run
			if s.snapshot {
				run = s.runSnapshot
			}
			return t.buffered(func() error { return run(c.Context()) })
		},
	}
	s.filters.register(c)
	s.now.register(c)
	c.Flags().StringVar(&s.at, "at", "", "show the state at this `point`: "+pointFormats)
	c.Flags().BoolVar(&s.snapshot, "snapshot", false, "show the rows of the newest snapshot, even if the log has lost their events")
	c.Flags().BoolVarP(&s.verbose, "verbose", "v", false, "show the events that set the facts of each row; SEQ set its phase")
	return c
}

// runSnapshot shows the rows of the newest intact snapshot. It does not read the segments.
func (s *stateCommand) runSnapshot(ctx context.Context) error {
	if s.at != "" || s.verbose {
		return usageErrorf("--snapshot cannot be used with --at or --verbose: remove one of them")
	}
	reader, err := replay.Open(s.dir)
	if err != nil {
		return err
	}
	view, err := reader.Snapshot()
	if err != nil {
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	rows := view.All()
	s.nowMS = measuredTo{latestMS(rows), "to the newest of these rows"}
	if s.now.text != "" {
		if s.nowMS, err = s.now.read(s.tool, s.times(ctx, reader), s.dir, 0); err != nil {
			return err
		}
	}
	if s.part != "" {
		search, err := newIDSearch(s.part)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r projection.Row) bool { return !search.matches(r.Checkpoint.MigrationID) })
	}
	shown, err := s.showRows(rows)
	if err != nil {
		return err
	}
	s.statusf("these rows are as of #%d. They do not include later events of the log", view.LastSeq())
	if shown == 0 && (s.part != "" || s.filters.anySet()) {
		return silentExit{exitNoMatch}
	}
	return nil
}

func (s *stateCommand) run(ctx context.Context) error {
	reader, err := replay.Open(s.dir)
	if err != nil {
		return err
	}
	times := s.times(ctx, reader)
	var point replay.Point
	if s.at != "" {
		if point, err = times.point(ctx, s.at); err != nil {
			return err
		}
	}
	fold, err := reader.FoldTo(ctx, point)
	if err != nil {
		return err
	}
	rows := fold.View.All()
	if s.part != "" {
		id, err := resolve(ctx, reader, s.part)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r projection.Row) bool { return r.Checkpoint.MigrationID != id })
	}
	last := fold.View.LastSeq()
	if point.Seq > last {
		return pointAfterEnd(point.Seq, last)
	}
	if err := s.explainTime(ctx, "state", s.dir, reader, last, point.TimeMS); err != nil {
		return err
	}
	if err := s.measure(ctx, times, fold, point, rows); err != nil {
		return err
	}
	if s.verbose {
		if s.setBys, err = setBysOf(ctx, reader, last); err != nil {
			return err
		}
	}
	s.reportCoverage(fold.Coverage(), s.dir)
	return s.print(fold.Report(), last, rows)
}

// measure sets the end of the time in a phase. For a point in the past it is the time of this point.
func (s *stateCommand) measure(ctx context.Context, times timeReader, fold *replay.Fold, point replay.Point, rows []projection.Row) (err error) {
	endMS := max(latestMS(rows), point.TimeMS)
	if last := fold.Last().Seq; last > 0 && point.TimeMS == 0 {
		for r, err := range times.reader.Find(ctx, replay.Query{FromSeq: last, ToSeq: last}, nil) {
			if err != nil {
				return err
			}
			endMS = max(endMS, r.WallMS())
		}
	}
	if s.at != "" && s.now.text == "" {
		s.nowMS = measuredTo{endMS, "to that point"}
		return nil
	}
	s.nowMS, err = s.now.read(s.tool, times, s.dir, endMS)
	return err
}

// latestMS returns the highest clock of the rows, or 0.
func latestMS(rows []projection.Row) (ms uint64) {
	for _, r := range rows {
		ms = max(ms, r.Checkpoint.TimestampMS)
	}
	return ms
}

// print prints the rows after the event asOf and the findings, and returns their exit code.
func (s *stateCommand) print(report replay.Report, asOf uint64, rows []projection.Row) error {
	shown := 0
	// If the migration has no row, the message below replaces the table.
	noRow := s.part != "" && len(rows) == 0
	if s.output != outputTable || !noRow {
		var err error
		if shown, err = s.showRows(rows); err != nil {
			return err
		}
	}
	s.reportFindings(report)
	if noRow {
		s.statusf("migration %s has no row at this point: it was aborted or removed, had not started, or its events are lost. To see its history, run: replay-tool show %s %s", s.part, quoted(s.dir), s.part)
	}
	if err := reportExit(report); err != nil {
		return err
	}
	isBeforeLog := s.at != "" && asOf == 0
	if noRow || isBeforeLog || shown == 0 && s.filters.anySet() {
		return silentExit{exitNoMatch}
	}
	return nil
}

// showRows prints the rows that the filters select, in the format of --output. JSON has them in the
// order of their ids. It returns their number.
func (s *stateCommand) showRows(all []projection.Row) (shown int, err error) {
	rows := slices.DeleteFunc(slices.Clone(all), func(r projection.Row) bool { return !s.filters.matches(traitsOf(r, s.nowMS.ms)) })
	if s.output == outputTable {
		s.table(rows, all)
		return len(rows), nil
	}
	lines := make([]stateRow, len(rows))
	for i, r := range rows {
		lines[i] = stateRowOf(r)
		lines[i].ForMS = new(traitsOf(r, s.nowMS.ms).ageMS)
		if by, ok := s.setBys[r.Checkpoint.MigrationID]; ok {
			lines[i].SetBy = &by
		}
	}
	return len(rows), writeLines(s.tool, lines)
}

// table prints the rows for people, and the number of rows that the filters left out.
func (s *stateCommand) table(rows, all []projection.Row) {
	if len(all) == 0 {
		s.statusf("no migration has a row")
		return
	}
	slices.SortStableFunc(rows, compareRows)
	ids := shortestIDs(nil)
	for _, r := range all {
		ids.add(r.Checkpoint.MigrationID)
	}
	clock := s.clock()
	g := s.newGrid(
		column{title: "VSHARD", right: true}, column{title: "MOVE"}, column{title: "PHASE"}, column{title: "FOR", right: true},
		column{title: "TRY", right: true, rank: 2}, column{title: "SEQ", right: true, rank: 3}, column{title: "INDEX", right: true, rank: 8}, column{title: clock.title(), rank: 4, style: styleDim},
		column{title: "ID", rank: 1, style: styleDim}, column{title: "GROUP", right: true, rank: 6}, column{title: "MIGRATION", rank: 7, style: styleDim},
		column{title: "BEGAN", right: true}, column{title: "SOURCE", right: true}, column{title: "TARGET", right: true}, column{title: "NOTE", free: true, rank: 5})
	for _, r := range rows {
		g.addDay(clock, r.Checkpoint.TimestampMS)
		s.addRow(g, clock, ids, r)
	}
	g.print()
	if len(rows) == 0 {
		s.statusf("no row matches")
	} else {
		s.statusf("FOR is measured %s", s.nowMS.sentence(s.tool))
	}
	s.countOthers(rows, all)
}

// addRow adds a row of the state to the grid.
func (s *stateCommand) addRow(g *grid, clock *clock, ids shortIDs, r projection.Row) {
	c := r.Checkpoint
	look := stylePlain
	if isInFlight(r) {
		look = styleBold
	}
	var notes []string
	if r.Doubt == projection.InDoubt {
		look = styleWarning
		notes = append(notes, "? "+r.Doubt.String())
	}
	if r.Facts.Abort != nil {
		look = styleWarning
		notes = append(notes, "! "+abortProgress(r.Facts.Abort))
	}
	if checkpoint.RestoresFacts(c.Phase(), c.Attempt) {
		look = styleWarning
		notes = append(notes, "! facts restored, and no row after it")
	}
	try := tryCell(c.Phase(), c.Attempt)
	_, _, group := factCells(r.Facts)
	by := s.setBys[c.MigrationID]
	g.add(look, strconv.FormatUint(uint64(c.Payload.Shard()), 10), moveCell(r.Facts), c.Phase().String(), s.timeInPhase(c.TimestampMS), try,
		strconv.FormatUint(r.Seq, 10), indexCell(r.LastIndex), clock.short(c.TimestampMS), ids.of(c.MigrationID), group, c.MigrationID.String(), seqCell(by.Began), seqCell(by.Source), seqCell(by.Target), strings.Join(notes, ", "))
}

// timeInPhase returns the FOR column of a row that was written at a time.
func (s *stateCommand) timeInPhase(sinceMS uint64) string {
	if sinceMS > s.nowMS.ms {
		return "-" + shortSpan(sinceMS-s.nowMS.ms) // a clock went back, or --now is before the row
	}
	return shortSpan(s.nowMS.ms - sinceMS)
}

// countOthers prints the number of rows that the filters left out, or the number of rows in flight if
// rows at Complete follow them.
func (s *stateCommand) countOthers(rows, all []projection.Row) {
	inFlight := func(list []projection.Row) (n int) {
		for _, r := range list {
			if isInFlight(r) {
				n++
			}
		}
		return n
	}
	if n := inFlight(rows); n > 0 && n < len(rows) {
		s.statusf("%s in flight and %d Complete and not removed. To see only the first ones, add --in-flight", isOrAre(uint64(n), "row"), len(rows)-n)
	}
	otherInFlight := inFlight(all) - inFlight(rows)
	if other := len(all) - len(rows) - otherInFlight; other > 0 {
		s.statusf("%s Complete and not removed", others(other))
	}
	if otherInFlight > 0 {
		s.statusf("%s in flight", others(otherInFlight))
	}
}

func others(n int) string {
	if n == 1 {
		return "1 other row is"
	}
	return fmt.Sprintf("%d other rows are", n)
}

// setBy has the numbers of the events that set the facts of a row. 0: the fact is not known.
type setBy struct {
	Source uint64 `json:"source_node"` // also of the pause budget
	Target uint64 `json:"target_node"` // also of the group
	Phase  uint64 `json:"phase"`
	Began  uint64 `json:"began"` // the first event of the incarnation; 0 if the row was restored
}

// seqCell returns a seq, or "" if there is none.
func seqCell(seq uint64) string {
	if seq == 0 {
		return ""
	}
	return "#" + strconv.FormatUint(seq, 10)
}

// setBysOf returns the events that set the facts of the rows after the event last.
func setBysOf(ctx context.Context, reader *replay.Reader, last uint64) (map[checkpoint.MigrationID]setBy, error) {
	all := map[checkpoint.MigrationID]setBy{}
	for r, err := range readAhead(reader.Records(ctx, replay.Query{ToSeq: last})) {
		if err != nil {
			return nil, err
		}
		id, _ := r.Migration()
		switch e := r.Event.(type) {
		case checkpoint.Upserted:
			by, ok := all[id]
			if !ok || r.PrevSeq == 0 { // the end of an earlier incarnation may be lost
				by = setBy{Began: r.Seq}
			}
			by.Phase = r.Seq
			if _, ok := e.Checkpoint.Payload.(checkpoint.AddLearner); ok {
				by.Source = r.Seq
			}
			if _, _, ok := checkpoint.TargetOf(e.Checkpoint.Payload); ok {
				by.Target = r.Seq
			}
			all[id] = by
		case checkpoint.Restored:
			all[id] = setBy{Source: knownSeq(e.Facts.HasSource, r.Seq), Target: knownSeq(e.Facts.HasTarget, r.Seq), Phase: r.Seq}
		case checkpoint.Aborted, checkpoint.Removed:
			delete(all, id)
		}
	}
	return all, nil
}

// knownSeq returns the seq of the event that set a fact, or 0 if the fact is not known.
func knownSeq(known bool, seq uint64) uint64 {
	if !known {
		return 0
	}
	return seq
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
	for r, err := range reader.Find(ctx, replay.Query{FromSeq: asOf + 1}, nil) {
		if err != nil {
			return err
		}
		if r.Damage == nil {
			next, nextMS = r.Seq, r.WallMS()
			break
		}
	}
	if next != 0 {
		for r, err := range reader.Find(ctx, replay.Query{FromSeq: next + 1, UntilMS: timeMS}, nil) {
			if err != nil {
				return err
			}
			if r.Damage == nil {
				if n == 0 {
					first = r.Seq
				}
				n, last = n+1, r.Seq
			}
		}
	}
	switch {
	case next == 0:
		t.statusf("the state is as of #%d, the end of the log", asOf)
	case asOf == 0:
		t.statusf("no event is included: the first one, #%d, has a later clock, %s", next, t.isoTime(nextMS))
	default:
		t.statusf("the state is as of #%d: the next event, #%d, has a later clock, %s", asOf, next, t.isoTime(nextMS))
	}
	if n > 0 {
		t.statusf("not included: %s with a clock up to that time (the first is #%d), because a clock went back or #%d has a wrong clock. To include them, run: replay-tool %s %s --at '#%d'",
			count(n, "later event"), first, next, command, quoted(dir), last)
	}
	return nil
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
