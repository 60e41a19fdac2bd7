package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/recovery"
	"migrationlog/replay"
	"migrationlog/replay/lint"
	"migrationlog/replay/triage"
)

const (
	maxShownInFlight = 20
	maxShownReasons  = 5
	maxShownTargets  = 12
	fullIDWidth      = 140 // from this width on, tables have whole ids
)

// print prints the first screen for people.
func (m *triageCommand) print(s triageScreen, ids shortIDs) {
	m.printTrust(s)
	m.printDoubt(s)
	if s.isReplica && s.Report.Damaged() {
		m.sentence(styleWarning, 0, replicaAdvice(s.Report))
	}
	fmt.Fprintln(m.stdout)
	m.printInFlight(s, ids)
	fmt.Fprintln(m.stdout)
	m.printMoves(s)
	m.printFindings(s, ids)
	if s.NotRemoved > 0 {
		fmt.Fprintf(m.stdout, "LEFT OVER    %s Complete and not removed\n", isOrAre(s.NotRemoved, "row"))
	}
	m.printNext(s)
}

// printTrust prints whether the files can be trusted, and whether a writer has them open.
func (m *triageCommand) printTrust(s triageScreen) {
	head, st := trustText(s), stylePlain
	if s.Report.Damaged() {
		st = styleError
	}
	head = fmt.Sprintf("log %.8s   %s", s.Log, head)
	writer := writerText(s.Writer)
	line := head + "   " + writer
	isLong := m.width() > 0 && textWidth(line) > m.width() || s.Report.Damaged()
	if !isLong {
		fmt.Fprintln(m.stdout, m.paint(st, line))
	} else {
		m.sentence(st, len("log 12345678   "), head)
	}
	if s.Report.TornTail != nil {
		m.sentence(styleWarning, 0, fmt.Sprintf("torn tail: %s, %s", count(uint64(s.Report.TornTail.Length), "byte"), tornExplanation))
	}
	if isLong {
		fmt.Fprintln(m.stdout, writer)
	}
	if times := m.timesText(s); times != "" {
		m.sentence(stylePlain, 0, times)
	}
	if text := m.beginningText(s.begin); text != "" {
		m.sentence(stylePlain, 0, text)
	}
}

// trustText returns the verdict on the bytes.
func trustText(s triageScreen) string {
	r := s.Report
	if r.Damaged() {
		lost := r.LostCount()
		if lost == 0 {
			return fmt.Sprintf("DAMAGED: no event is known to be lost, but the damage can hide a loss or lead to one (replay-tool verify %s)", quoted(s.dir))
		}
		verb := "are"
		if lost == 1 {
			verb = "is"
		}
		return fmt.Sprintf("DAMAGED: %d of %s %s lost, %s, %s (replay-tool verify %s)",
			lost, count(r.FramesOK+lost, "event"), verb, rangesText(r.Lost), acknowledgedText(r), quoted(s.dir))
	}
	text := "no event"
	if s.Events > 0 {
		text = fmt.Sprintf("%s, seq %d to %d", count(s.Events, "event"), s.Seq[0], s.Seq[1])
	}
	if s.UncheckedSegments > 0 {
		text += fmt.Sprintf("; %s not checked", count(s.UncheckedSegments, "segment"))
	} else {
		text = "bytes whole: " + text
	}
	if n := r.CountFindings(segment.Harmless); n > 0 {
		text += ", " + count(n, "harmless finding")
	}
	return text
}

// rangesText lists the first ranges of lost numbers.
func rangesText(ranges []replay.SeqRange) string {
	var parts []string
	for n, r := range ranges {
		if n == 3 {
			parts = append(parts, fmt.Sprintf("%d more", len(ranges)-n))
			break
		}
		text := fmt.Sprintf("#%d", r.First)
		if r.Last > r.First {
			text += fmt.Sprintf(" to #%d", r.Last)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func acknowledgedText(r replay.Report) string {
	switch acknowledged := replay.CountSeqs(r.AcknowledgedLost); {
	case acknowledged == 0:
		return "none of which is known to have been acknowledged"
	case acknowledged < r.LostCount():
		return fmt.Sprintf("%d of which had been acknowledged", acknowledged)
	case acknowledged == 1:
		return "which had been acknowledged"
	}
	return "all of which had been acknowledged"
}

func writerText(w triage.Writer) string {
	switch {
	case w.Alive != nil && *w.Alive:
		return fmt.Sprintf("process %d has it open", w.PID)
	case w.Alive == nil && w.PID != 0:
		return fmt.Sprintf("process %d has it open, or had it open when it was killed", w.PID)
	case w.Alive == nil:
		return "it is not known whether a writer has it open"
	case w.PID != 0:
		return fmt.Sprintf("no writer has it open: process %d was killed", w.PID)
	}
	return "no writer has it open"
}

// timesText returns the span of the log. It is empty if the log has no event.
func (m *triageCommand) timesText(s triageScreen) string {
	if s.FromMS == 0 {
		return ""
	}
	clock := m.clock()
	from, to := clock.show(s.FromMS), clock.show(s.ToMS)
	if clock.style == timeISO && s.ToMS <= checkpoint.MaxTimestampMS {
		first, last := clock.at(s.FromMS), clock.at(s.ToMS)
		from, to = first.Format(time.DateTime), last.Format(time.DateTime)
		if first.Format(time.DateOnly) == last.Format(time.DateOnly) {
			to = last.Format(time.TimeOnly)
		}
		to += " " + clock.zone.name
	}
	text := fmt.Sprintf("%s to %s, %s", from, to, shortSpan(s.ToMS-s.FromMS))
	if n := len(s.Report.Lost); n > 0 && s.Report.Lost[n-1].Last > s.Report.LastSeq {
		text += ", and lost after that"
	}
	if s.NowMS >= s.ToMS {
		return text + fmt.Sprintf("   last event %s ago", shortSpan(s.NowMS-s.ToMS))
	}
	return text + fmt.Sprintf("   last event %s after now: a clock is wrong", shortSpan(s.ToMS-s.NowMS))
}

// doNotTrust begins the lines about doubt.
const doNotTrust = "DO NOT TRUST "

// printDoubt prints which rows lost events may have changed.
func (m *triageCommand) printDoubt(s triageScreen) {
	r := s.Report
	rows, doubtful := int(s.NotRemoved)+len(s.InFlight), s.RowsInDoubt
	missing := len(r.InDoubt) - doubtful // the log names these migrations, and has no row of them
	if doubtful == 0 && missing == 0 && !r.UnnamedInDoubt {
		return
	}
	var text string
	switch {
	case doubtful == 0:
		text = "that all migrations are listed"
	case doubtful == rows:
		text = fmt.Sprintf("any of the %s, %d of them in flight: each may have moved on", count(rows, "row"), len(s.InFlight))
	default:
		text = fmt.Sprintf("%d of the %s, %d of them in flight: each may have moved on", doubtful, count(rows, "row"), s.Doubtful())
	}
	if missing > 0 {
		text += fmt.Sprintf("; %s without a row may have one (replay-tool verify %s)", count(missing, "migration"), quoted(s.dir))
	}
	if r.UnnamedInDoubt && len(r.Lost) > 0 {
		text += fmt.Sprintf("; migrations that began after #%d may be missing", r.Lost[0].First-1)
	}
	fmt.Fprintln(m.stdout)
	m.sentence(styleWarning, len(doNotTrust), doNotTrust+text)
	if s.UnprovenSnapshot > 0 {
		m.sentence(stylePlain, len(doNotTrust), fmt.Sprintf("%*srows as of #%d, an event that the log has lost: replay-tool state %s --snapshot", len(doNotTrust), "", s.UnprovenSnapshot, quoted(s.dir)))
	}
}

// printInFlight prints the migrations in flight, and the effect of a restart.
func (m *triageCommand) printInFlight(s triageScreen, ids shortIDs) {
	number := strconv.Itoa(len(s.InFlight))
	if len(s.Report.InDoubt) > 0 || s.Report.UnnamedInDoubt {
		number += "?"
	}
	if len(s.InFlight) == 0 {
		fmt.Fprintf(m.stdout, "IN FLIGHT %s\n", number)
		return
	}
	past := "none"
	if n := s.PastNoReturn(); n > 0 {
		past = strconv.Itoa(n)
	}
	m.sentence(styleBold, 0, fmt.Sprintf("IN FLIGHT %s   %s past Cutover (the point of no return)   FOR %s", number, past, s.to.text))
	isWide := m.width() == 0 || m.width() >= fullIDWidth
	g := m.newGrid(
		column{title: ""}, column{title: "VSHARD", right: true}, column{title: "MOVE"}, column{title: "GROUP", right: true, rank: 5},
		column{title: "PHASE"}, column{title: "TRY", right: true, rank: 3}, column{title: strings.Replace(m.clock().title(), "TIME", "PHASE SINCE", 1), rank: 4},
		column{title: "FOR", right: true}, column{title: "SLOWER THAN", right: true, rank: 2}, column{title: "A RESTART WOULD", free: true}, column{title: "ID"},
	)
	shown := s.InFlight
	if len(shown) > maxShownInFlight && !m.wide {
		shown = shown[:maxShownInFlight]
	}
	for _, r := range shown {
		m.addInFlight(g, r, isWide, ids)
	}
	g.print()
	if more := len(s.InFlight) - len(shown); more > 0 {
		fmt.Fprintf(m.stdout, "%d more: replay-tool state %s --in-flight\n", more, quoted(s.dir))
	}
	m.sentence(stylePlain, 0, restartText(s))
}

func (m *triageCommand) addInFlight(g *grid, r triage.Row, isWide bool, ids shortIDs) {
	st, mark := stylePlain, ""
	switch {
	case r.InDoubt:
		st, mark = styleWarning, "?"
	case r.Slow():
		st, mark = styleError, "!"
	}
	group, since, try, id := "", "", "", ids.of(r.MigrationID)
	if isWide {
		group, since, id = nodeText(r.SourceGroup), m.clock().short(r.SinceMS), r.MigrationID.String()
		try = tryCell(r.Phase, r.Attempt)
	}
	slower := "no samples"
	if r.SlowerThan != nil {
		slower = fmt.Sprintf("%s of %d", wholePercent(*r.SlowerThan), r.Samples)
	}
	g.add(st, mark, strconv.FormatUint(uint64(r.VShardID), 10), nodeText(r.SourceNode)+" -> "+nodeText(r.TargetNode), group,
		r.Phase.String(), try, since, shortSpan(r.ForMS), slower, decisionText(r.OnRestart), id)
}

func nodeText(n *uint64) string {
	if n == nil {
		return "?"
	}
	return strconv.FormatUint(*n, 10)
}

// decisionText returns a decision in a few words, after "a restart would".
func decisionText(d recovery.Decision) string {
	switch d.Action {
	case recovery.Resume:
		return "resume, " + d.NextPhase.String()
	case recovery.Abort:
		kinds := []string{"abort"}
		if d.Reason == recovery.AbortUnfinished {
			kinds[0] = "go on with the abort"
		}
		for _, c := range d.Compensations {
			kinds = append(kinds, c.Kind.String())
		}
		return strings.Join(kinds, ", ")
	case recovery.AskFirst:
		return fmt.Sprintf("ask, %s", d.Reason)
	}
	return string(d.Action)
}

// restartText describes the effect of a restart in one sentence.
func restartText(s triageScreen) string {
	r, n := s.Restart, len(s.InFlight)
	timeout := shortTimeout(r.AbortTimeoutMS)
	if r.Stale == n && r.ResumedAtEnd == n {
		return fmt.Sprintf("A coordinator that starts now finds %s older than %s (--abort-timeout) and aborts %s; one that starts within %s of the last event resumes %s.",
			allOf(n), timeout, them(n), timeout, them(n))
	}
	var parts []string
	if r.Abort > 0 {
		text := fmt.Sprintf("aborts %d", r.Abort)
		if r.Stale > 0 {
			text += fmt.Sprintf(" (%d older than %s, --abort-timeout)", r.Stale, timeout)
		}
		parts = append(parts, text)
	}
	if r.Resume > 0 {
		parts = append(parts, fmt.Sprintf("resumes %d", r.Resume))
	}
	if r.Ask > 0 {
		parts = append(parts, fmt.Sprintf("asks about %d", r.Ask))
	}
	if len(parts) > 1 {
		parts = append(parts[:len(parts)-2], parts[len(parts)-2]+" and "+parts[len(parts)-1])
	}
	return fmt.Sprintf("A coordinator that starts now %s: replay-tool plan %s", strings.Join(parts, ", "), quoted(s.dir))
}

// shortTimeout is like shortSpan without a last part that is zero: 1h, and not 1h0m.
func shortTimeout(ms uint64) string {
	text := shortSpan(ms)
	for _, zero := range []string{"d0h", "h0m", "m0s"} {
		if before, ok := strings.CutSuffix(text, zero); ok {
			return before + zero[:1]
		}
	}
	return text
}

func allOf(n int) string {
	if n == 1 {
		return "it"
	}
	return fmt.Sprintf("all %d", n)
}

func them(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}

// printMoves prints the totals of the moves, and the causes of the aborts.
func (m *triageCommand) printMoves(s triageScreen) {
	v := s.Moves
	head := fmt.Sprintf("MOVES %d", v.Total)
	if s.SinceMS > 0 {
		head += " since " + m.clock().show(s.SinceMS)
	}
	if v.Total > 0 {
		head += fmt.Sprintf("   %d done   %d aborted (%.0f%%)   %d in flight", v.Done, v.Aborted, 100*float64(v.Aborted)/float64(v.Total), v.InFlight)
	}
	for _, extra := range []struct {
		n    uint64
		text string
	}{{v.Retried, "tried again"}, {v.RemovedUnfinished, "removed before Complete"}, {v.EndLost, "whose end is lost"}} {
		if extra.n > 0 {
			head += fmt.Sprintf("   %d %s", extra.n, extra.text)
		}
	}
	m.sentence(stylePlain, 0, head)
	if len(s.Aborts) == 0 {
		return
	}
	shown := s.Aborts[:min(len(s.Aborts), maxShownReasons)]
	m.printAborts(shown)
	if more := len(s.Aborts) - len(shown); more > 0 {
		var n uint64
		for _, a := range s.Aborts[len(shown):] {
			n += a.Count
		}
		fmt.Fprintf(m.stdout, "%s more for %s: replay-tool triage %s -o json\n", count(n, "abort"), count(more, "other reason"), quoted(s.dir))
	}
}

// abortIndent is the width of the number of aborts before a reason.
const abortIndent = 6

// printAborts prints two lines for each group of aborts. Only the reason is cut.
func (m *triageCommand) printAborts(groups []triage.AbortGroup) {
	reasons, places := make([]string, len(groups)), make([]string, len(groups))
	reasonWidth, placeWidth := 0, 0
	for n, a := range groups {
		reasons[n], places[n] = printable(a.Reason), placeText(a)
		reasonWidth, placeWidth = max(reasonWidth, textWidth(reasons[n])), max(placeWidth, textWidth(places[n]))
	}
	reasonWidth = min(reasonWidth, maxReasonBytes)
	if width := m.width(); width > 0 {
		reasonWidth = min(reasonWidth, max(width-abortIndent-2-placeWidth, minFreeWidth))
	}
	for n, a := range groups {
		reason := cutText(reasons[n], reasonWidth)
		blanks := strings.Repeat(" ", reasonWidth-textWidth(reason))
		fmt.Fprintf(m.stdout, "%*d  %s%s  %s\n", abortIndent-2, a.Count, reason, blanks, places[n])
		m.sentence(stylePlain, 2*abortIndent, strings.Repeat(" ", abortIndent)+byTargetText(a))
	}
}

// placeText returns the phase of the aborts, and the range of the times in it.
func placeText(a triage.AbortGroup) string {
	switch {
	case a.Reason == triage.OtherReasons:
		return "in several phases"
	case a.Phase == nil:
		return "in an unknown phase"
	}
	text := "in " + a.Phase.String()
	if a.AfterMS == nil {
		return text
	}
	shortest, longest := signedSpan(a.AfterMS[0]), signedSpan(a.AfterMS[1])
	if shortest == longest {
		return text + ", after " + shortest
	}
	return text + ", after " + shortest + " to " + longest
}

// byTargetText lists the targets with the most aborts, and the targets that stand out.
func byTargetText(a triage.AbortGroup) string {
	if len(a.ByTarget) == 0 {
		return "the targets are not known"
	}
	nodes := slices.Collect(maps.Keys(a.ByTarget))
	slices.SortFunc(nodes, func(x, y uint64) int {
		return cmp.Or(cmp.Compare(a.ByTarget[y], a.ByTarget[x]), cmp.Compare(x, y))
	})
	var text strings.Builder
	text.WriteString("to node")
	for n, node := range nodes {
		if n == maxShownTargets {
			fmt.Fprintf(&text, " and %d more", len(nodes)-n)
			break
		}
		fmt.Fprintf(&text, " %d=%d", node, a.ByTarget[node])
	}
	switch out := a.StandsOut; {
	case out == nil:
	case len(out) == 0:
		text.WriteString("   none stands out")
	case len(out) == 1:
		fmt.Fprintf(&text, "   node %d stands out", out[0])
	default:
		text.WriteString("   " + strings.Join(strings.Fields(strings.Trim(fmt.Sprint(out), "[]")), ", ") + " stand out")
	}
	return text.String()
}

// ruleFindings has the findings of one rule.
type ruleFindings struct {
	count   int
	worst   lint.Finding // the first one of the highest severity
	vshards []string     // without repetitions
}

// printFindings prints one line for each rule that events break, the errors first.
func (m *triageCommand) printFindings(s triageScreen, ids shortIDs) {
	from := ""
	if s.LintedFrom > s.Seq[0] {
		from = fmt.Sprintf(" from #%d on", s.LintedFrom)
	}
	if s.SinceMS > 0 {
		from = " since " + m.clock().show(s.SinceMS)
	}
	if len(s.Findings) == 0 {
		fmt.Fprintf(m.stdout, "FINDINGS 0   no event%s breaks a rule\n", from)
		return
	}
	fmt.Fprintf(m.stdout, "FINDINGS %d%s   (all: replay-tool lint %s)\n", len(s.Findings), from, quoted(s.dir))
	byRule := map[string]*ruleFindings{}
	for _, f := range s.Findings {
		r := byRule[f.Rule]
		if r == nil {
			r = &ruleFindings{worst: f}
			byRule[f.Rule] = r
		}
		r.add(f)
	}
	g := m.newGrid(column{title: ""}, column{title: "RULE"}, column{title: "COUNT", right: true}, column{title: "VSHARD"}, column{title: "FINDING", free: true}, column{title: "ID", rank: 1})
	for _, rule := range lint.Rules() {
		if r := byRule[rule.ID]; r != nil {
			g.add(severityStyle(r.worst.Severity), r.cells(rule.ID, ids)...)
		}
	}
	g.print()
}

// maxShownVShards is the largest number of vShards in a line about a rule.
const maxShownVShards = 4

func (r *ruleFindings) add(f lint.Finding) {
	r.count++
	if f.Severity > r.worst.Severity {
		r.worst = f
	}
	if f.VShardID == nil {
		return
	}
	text := strconv.FormatUint(uint64(*f.VShardID), 10)
	switch {
	case slices.Contains(r.vshards, text) || len(r.vshards) > maxShownVShards:
	case len(r.vshards) == maxShownVShards:
		r.vshards = append(r.vshards, "…")
	default:
		r.vshards = append(r.vshards, text)
	}
}

func (r *ruleFindings) cells(rule string, ids shortIDs) []string {
	mark, id := "!", ""
	if !r.worst.Certain {
		mark = "?"
	}
	if r.count == 1 && r.worst.MigrationID != (checkpoint.MigrationID{}) {
		id = ids.of(r.worst.MigrationID)
	}
	return []string{mark, rule, strconv.Itoa(r.count), strings.Join(r.vshards, ", "), r.worst.Message, id}
}

// printNext prints the next commands, with their purpose.
func (m *triageCommand) printNext(s triageScreen) {
	if len(s.Next) == 0 {
		return
	}
	width := 0
	for _, command := range s.Next {
		width = max(width, textWidth(command))
	}
	fmt.Fprintln(m.stdout)
	for n, command := range s.Next {
		label := "NEXT"
		if n > 0 {
			label = ""
		}
		line := fmt.Sprintf("%-4s  %-*s  %s", label, width, command, purposeOf(command))
		if m.width() > 0 && textWidth(line) > m.width() {
			line = fmt.Sprintf("%-4s  %s", label, command)
		}
		fmt.Fprintln(m.stdout, line)
	}
}

// purposes has a few words for the commands that nextCommands returns.
var purposes = map[string]string{
	"verify":   "all damage and all doubts",
	"lint":     "the events that break rules",
	"show":     "the move longest in its phase",
	"plan":     "the decisions of a coordinator",
	"timeline": "the moves around it",
	"state":    "all rows",
	"log":      "the last events",
}

func purposeOf(command string) string {
	if strings.HasSuffix(command, " --snapshot") {
		return "the rows as of a lost event"
	}
	return purposes[strings.Fields(command)[1]]
}
