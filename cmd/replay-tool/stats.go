package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/replay"
	"migrationlog/replay/stats"
)

// statsCommand is one run of the command stats.
type statsCommand struct {
	*tool
	by      string
	slowest int
	period  period
	vshards []string
	nodes   []string
}

// The groupings of stats.
const (
	byPhase  = "phase"
	byNode   = "node"
	byVShard = "vshard"
	byMinute = "minute"
	byReason = "reason"
)

var groupings = []string{byPhase, byNode, byVShard, byMinute, byReason}

func (t *tool) stats() *cobra.Command {
	s := &statsCommand{tool: t}
	c := &cobra.Command{
		Use:   "stats DIR",
		Short: "Count the moves, and measure their phases and the pauses of writes",
		Long: `Count the moves, and measure their phases and the pauses of writes.

A phase names the row that was last written. The time in it is that of the work
after this row:
  AddLearner          proposing the learner
  CatchUp             catching up and promoting
  PromoteLearner      almost nothing
  LeadershipTransfer  the transfer, while writes are paused
  Cutover             installing the stub
  Complete            waiting for removal

A stay runs from a checkpoint to the next event of its move, and counts if that
event is in the log. Percentiles are at nearest rank. A whole move runs from its
first event to Complete or to the abort. Each move counts once: as done, as
aborted, as removed unfinished, or as in flight at the end.

--since and --last select what ended in the period. --until ends the history
there. --by node counts the moves by their target, and UNREACHABLE are those
aborted for a reason with this word. -o json has all groupings, and -o ndjson the
lines of one.`,
		Example: `  replay-tool stats log
  replay-tool stats log --by node --last 1h
  replay-tool stats log --by reason --node 3
  replay-tool stats log --slowest 20`,
		Args: argCount(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return t.buffered(func() error { return s.run(c, args[0]) })
		},
	}
	c.Flags().StringVar(&s.by, "by", byPhase, "`grouping` of the lines: "+strings.Join(groupings, ", "))
	completeFlag(c, "by", groupings...)
	c.Flags().IntVar(&s.slowest, "slowest", 0, "list the `N` longest stays in one phase instead of the groups")
	s.period.register(c)
	c.Flags().StringSliceVar(&s.vshards, "vshard", nil, "only moves of the vShard with this `number`, or of those of a range such as 1-13")
	c.Flags().StringSliceVar(&s.nodes, "node", nil, "only moves from or to the node with this `number`")
	return c
}

func (s *statsCommand) run(c *cobra.Command, dir string) error {
	if !slices.Contains(groupings, s.by) {
		return usageErrorf("--by %s: unknown grouping, use one of %s", s.by, strings.Join(groupings, ", "))
	}
	switch flags := c.Flags(); {
	case flags.Changed("slowest") && (s.slowest < 1 || s.slowest > maxSlowest):
		return usageErrorf("--slowest %d: give a number from 1 to %d", s.slowest, maxSlowest)
	case flags.Changed("slowest") && flags.Changed("by"):
		return usageErrorf("--slowest and --by cannot be used together: remove one of them")
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	o := stats.Options{Slowest: s.slowest}
	if o.SinceMS, o.UntilMS, err = s.period.read(c, s.times(c.Context(), reader)); err != nil {
		return err
	}
	if o.VShards, err = parseVShards(s.vshards); err != nil {
		return err
	}
	if o.Nodes, err = parseNodes(s.nodes); err != nil {
		return err
	}
	keepHeapSmall()
	counted := stats.New(o)
	fold, covered, err := s.foldPeriod(c.Context(), reader, dir, replay.PeriodOptions{SinceMS: o.SinceMS, UntilMS: o.UntilMS}, func(r replay.Record) error {
		counted.Add(r)
		return nil
	})
	if err != nil {
		return err
	}
	result := counted.Result()
	if err := s.write(result); err != nil {
		return err
	}
	report := fold.Report()
	s.reportCoverage(covered, dir)
	s.reportFindings(report)
	s.suggestLongest(result, dir)
	if err := reportExit(report); err != nil {
		return err
	}
	if result.Events == 0 && (s.period.isSet() || len(o.VShards)+len(o.Nodes) > 0) {
		return silentExit{exitNoMatch}
	}
	return nil
}

// maxSlowest limits the stays of --slowest, which are kept in memory.
const maxSlowest = 100_000

// suggestLongest prints the command that lists the longest stays.
func (s *statsCommand) suggestLongest(r stats.Result, dir string) {
	if s.output != outputTable || s.by != byPhase || s.slowest > 0 || r.Done.Count+r.Aborted.Count == 0 {
		return
	}
	args := "--slowest 20"
	for _, flag := range []struct{ name, value string }{
		{"since", s.period.since}, {"until", s.period.until}, {"last", s.period.last},
		{"vshard", strings.Join(s.vshards, ",")}, {"node", strings.Join(s.nodes, ",")},
	} {
		if flag.value != "" {
			args += fmt.Sprintf(" --%s %s", flag.name, quoted(flag.value))
		}
	}
	s.statusf("next: replay-tool stats %s %s   the longest stays", quoted(dir), args)
}

func (s *statsCommand) write(r stats.Result) error {
	switch s.output {
	case outputJSON:
		return s.writeJSON(r)
	case outputNDJSON:
		return s.writeGroups(r)
	}
	if r.Events == 0 {
		s.statusf("no event matches")
		return nil
	}
	if s.slowest > 0 {
		s.slowestText(r)
		return nil
	}
	switch s.by {
	case byNode:
		s.nodesText(r)
	case byVShard:
		s.vshardsText(r)
	case byMinute:
		s.minutesText(r)
	case byReason:
		s.reasonsText(r)
	default:
		s.phasesText(r)
	}
	s.notes(r)
	return nil
}

// writeGroups writes one line for each group, and a last one with the key others if some groups are
// beyond the limit.
func (s *statsCommand) writeGroups(r stats.Result) error {
	if s.slowest > 0 {
		return writeLines(s.tool, r.Slowest)
	}
	switch s.by {
	case byNode:
		return writeLines(s.tool, withOthers(r.Nodes, r.OtherNodes))
	case byVShard:
		return writeLines(s.tool, withOthers(r.VShards, r.OtherVShards))
	case byMinute:
		return writeLines(s.tool, withOthers(r.Minutes, r.OtherMinutes))
	case byReason:
		return writeLines(s.tool, withOthers(r.Reasons, r.OtherReasons))
	}
	return writeLines(s.tool, r.Phases)
}

func withOthers[V any](list []V, others *V) (lines []any) {
	for _, v := range list {
		lines = append(lines, v)
	}
	if others != nil {
		lines = append(lines, map[string]*V{"others": others})
	}
	return lines
}

func (s *statsCommand) phasesText(r stats.Result) {
	columns := func(title string) []column {
		const longestName = len("LeadershipTransfer")
		list := []column{{title: fmt.Sprintf("%-*s", longestName, title)}}
		for _, title := range []string{"N", "p50", "p90", "p99", "max"} {
			list = append(list, column{title: title, right: true})
		}
		return append(list, column{title: "TOTAL", right: true, rank: 2}, column{title: "SHARE", right: true, rank: 1})
	}
	stays := s.newGrid(columns("STAYED IN")...)
	for _, p := range r.Phases {
		stays.add(stylePlain, phaseCells(p)...)
	}
	stays.print()
	fmt.Fprintln(s.stdout)
	moves := s.newGrid(columns("WHOLE MOVES")...)
	moves.add(stylePlain, durationCells("done", r.Done)...)
	moves.add(stylePlain, durationCells("aborted", r.Aborted)...)
	p := r.Paused
	if p.Count > 0 {
		moves.add(stylePlain, "writes paused", numberText(p.Count), pauseSpan(p.P50US), pauseSpan(p.P90US), pauseSpan(p.P99US), pauseSpan(p.MaxUS), pauseSpan(p.TotalUS))
	}
	moves.print()
	if p.MaxBudgetShare > 0 {
		fmt.Fprintf(s.stdout, "\nA pause of writes used at most %s of its budget.\n", percent(p.MaxBudgetShare, 1))
	}
}

// slowestText prints the longest stays, the longest one first.
func (s *statsCommand) slowestText(r stats.Result) {
	ids := shortestIDs(nil)
	for _, stay := range r.Slowest {
		ids.add(stay.MigrationID)
	}
	g := s.newGrid(column{title: "SEQ", right: true}, column{title: "VSHARD", right: true}, column{title: "MOVE"}, column{title: "PHASE"},
		column{title: "TRY", right: true, rank: 1}, column{title: "STAYED", right: true}, column{title: "ID", style: styleDim})
	for _, stay := range r.Slowest {
		try := ""
		if stay.Attempt > 0 {
			try = strconv.FormatUint(uint64(stay.Attempt)+1, 10)
		}
		g.add(stylePlain, numberText(stay.Seq), strconv.FormatUint(uint64(stay.VShardID), 10), nodeText(stay.SourceNode)+" -> "+nodeText(stay.TargetNode),
			stay.Phase.String(), try, shortSpan(stay.StayedMS), ids.of(stay.MigrationID))
	}
	g.print()
	s.statusf("a stay that has not ended is not listed: see replay-tool state --in-flight")
}

func phaseCells(p stats.PhaseStays) []string {
	cells := durationCells(p.Phase.String(), p.Durations)
	if p.Count > 0 {
		cells = append(cells, percent(p.Share, 1))
	}
	return cells
}

func durationCells(name string, d stats.Durations) []string {
	if d.Count == 0 {
		return []string{name, "0"}
	}
	return []string{name, numberText(d.Count), shortSpan(d.P50MS), shortSpan(d.P90MS), shortSpan(d.P99MS), shortSpan(d.MaxMS), shortSpan(d.TotalMS)}
}

func numberText(n uint64) string { return strconv.FormatUint(n, 10) }

// percent returns a share as a percentage with that many decimals.
func percent(share float64, decimals int) string {
	return strconv.FormatFloat(share*100, 'f', decimals, 64) + "%"
}

// othersName is the first cell of the row for all groups beyond the limit.
const othersName = "others"

func (s *statsCommand) nodesText(r stats.Result) {
	g := s.newGrid(column{title: "NODE", right: true}, column{title: "AS SOURCE", right: true}, column{title: "AS TARGET", right: true}, column{title: "DONE TO", right: true},
		column{title: "ABORTED TO", right: true}, column{title: "UNREACHABLE", right: true}, column{title: "IN FLIGHT TO", right: true},
		column{title: "UNFINISHED", right: true, rank: 2}, column{title: "END LOST", right: true, rank: 1})
	add := func(name string, n stats.Node) {
		g.add(stylePlain, name, numberText(n.AsSource), numberText(n.AsTarget), numberText(n.Done), numberText(n.Aborted), numberText(n.Unreachable), numberText(n.InFlight), some(n.RemovedUnfinished), some(n.EndLost))
	}
	for _, n := range r.Nodes {
		add(numberText(n.Node), n)
	}
	if r.OtherNodes != nil {
		add(othersName, *r.OtherNodes)
	}
	g.print()
}

// some returns a number, or "" for 0, so that a column of zeros is not printed.
func some(n uint64) string {
	if n == 0 {
		return ""
	}
	return numberText(n)
}

func (s *statsCommand) vshardsText(r stats.Result) {
	g := s.newGrid(column{title: "VSHARD", right: true}, column{title: "MOVES", right: true}, column{title: "DONE", right: true}, column{title: "ABORTED", right: true},
		column{title: "IN FLIGHT", right: true}, column{title: "RETRIES", right: true, rank: 4}, column{title: "MEAN", right: true, rank: 2}, column{title: "LONGEST", right: true},
		column{title: "PAUSED", right: true, rank: 3}, column{title: "LONGEST PAUSE", right: true, rank: 5}, column{title: "UNFINISHED", right: true, rank: 6}, column{title: "END LOST", right: true, rank: 7})
	add := func(name string, v stats.VShard) {
		mean := ""
		if v.Done > 0 {
			mean = shortSpan(v.DoneMS / v.Done)
		}
		g.add(stylePlain, name, numberText(v.Total), numberText(v.Done), numberText(v.Aborted), numberText(v.InFlight), numberText(v.Retries), mean, shortSpan(v.MaxDoneMS),
			pauseSpan(v.PausedUS), pauseSpan(v.MaxPausedUS), some(v.RemovedUnfinished), some(v.EndLost))
	}
	for _, v := range r.VShards {
		add(strconv.FormatUint(uint64(v.VShardID), 10), v)
	}
	if r.OtherVShards != nil {
		add(othersName, *r.OtherVShards)
	}
	g.print()
}

func (s *statsCommand) minutesText(r stats.Result) {
	clock := s.clock()
	g := s.newGrid(column{title: clock.title()}, column{title: "EVENTS", right: true}, column{title: "STARTED", right: true}, column{title: "DONE", right: true},
		column{title: "ABORTED", right: true}, column{title: "RETRIES", right: true, rank: 2}, column{title: "MOST IN FLIGHT", right: true}, column{title: "PAUSED", right: true, rank: 1})
	add := func(name string, m stats.Minute) {
		g.add(stylePlain, name, numberText(m.Events), numberText(m.Started), numberText(m.Done), numberText(m.Aborted), numberText(m.Retries), numberText(m.MaxInFlight), pauseSpan(m.PausedUS))
	}
	for _, m := range r.Minutes {
		g.addDay(clock, m.FromMS)
		add(strings.TrimSuffix(clock.short(m.FromMS), ":00.000"), m)
	}
	if r.OtherMinutes != nil {
		add(othersName, *r.OtherMinutes)
	}
	g.print()
}

func (s *statsCommand) reasonsText(r stats.Result) {
	if len(r.Reasons) == 0 {
		s.statusf("no move was aborted")
		return
	}
	g := s.newGrid(column{title: "ABORTS", right: true}, column{title: "IN"}, column{title: "AFTER", right: true, rank: 1}, column{title: "REASON", free: true}, column{title: "BY TARGET NODE", rank: 2})
	add := func(reason string, a stats.Reason) {
		phase := "?"
		if a.Phase != 0 {
			phase = a.Phase.String()
		}
		g.add(stylePlain, numberText(a.Count), phase, spanRange(a.MinMS, a.MaxMS), reason, targetsText(a.ByTarget))
	}
	for _, a := range r.Reasons {
		add(a.Reason, a)
	}
	if r.OtherReasons != nil {
		add("other reasons", *r.OtherReasons)
	}
	g.print()
}

// spanRange returns the shortest and the longest of several spans.
func spanRange(minMS, maxMS uint64) string {
	shortest, longest := shortSpan(minMS), shortSpan(maxMS)
	if shortest == longest {
		return shortest
	}
	return shortest + "-" + longest
}

// targetsText lists numbers by node, the highest number first: "8=21 1=19".
func targetsText(counts map[uint64]uint64) string {
	nodes := slices.SortedFunc(maps.Keys(counts), func(a, b uint64) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	parts := make([]string, len(nodes))
	for i, n := range nodes {
		parts[i] = fmt.Sprintf("%d=%d", n, counts[n])
	}
	return strings.Join(parts, " ")
}

// notes prints the sums, and the part of the history that was not measured.
func (s *statsCommand) notes(r stats.Result) {
	m := r.Moves
	text := fmt.Sprintf("%s in %s: %d done, %d aborted, %d in flight", count(m.Total, "move"), count(r.Events, "event"), m.Done, m.Aborted, m.InFlight)
	if m.RemovedUnfinished > 0 {
		text += fmt.Sprintf(", %d removed before Complete", m.RemovedUnfinished)
	}
	if m.EndLost > 0 {
		text += fmt.Sprintf(", %d whose end is lost", m.EndLost)
	}
	if m.Retries > 0 {
		text += fmt.Sprintf("; %d tried again", m.Retries)
	}
	s.statusf("%s", text)
	if r.Negative > 0 {
		s.statusf("%s not measured, because a clock went back", isOrAre(r.Negative, "duration"))
	}
	if r.Lost > 0 {
		s.statusf("%s lost: the stays and moves of these are not measured", isOrAre(r.Lost, "event"))
	}
}

// isOrAre returns count with the verb to be: "1 event is", "2 events are".
func isOrAre(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return count(n, thing) + " are"
}
