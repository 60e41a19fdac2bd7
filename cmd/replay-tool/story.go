package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/replay"
	"migrationlog/replay/lint"
	"migrationlog/replay/story"
)

// print prints the history of a migration for people.
func (s *showCommand) print(h showScreen, ids shortIDs) {
	w := s.stdout
	several := incarnationCount(h) > 1
	middle := moveText(h.Facts)
	if several {
		middle = fmt.Sprintf("%d incarnations", incarnationCount(h))
	}
	fmt.Fprintf(w, "vshard %d   %s   %s\n", h.VShardID, middle, s.paint(styleDim, h.MigrationID.String()))
	for _, line := range outcomeLines(h, several) {
		s.sentence(outcomeStyle(h), len(undoIndent), line)
	}
	if h.InDoubt {
		s.sentence(styleWarning, len("IN DOUBT: "), "IN DOUBT: a lost event may have been the last event of this migration")
	}
	if h.Facts.SourceUncertain || h.Facts.TargetUncertain {
		s.sentence(stylePlain, 0, "(a value with ? may belong to an earlier incarnation of the id, because a later event may be lost)")
	}
	if h.OnRestart != nil {
		s.printRestart(h.OnRestart, ids)
	}
	s.printFindingCounts(h.findings)
	for n, c := range h.Chapters {
		fmt.Fprintln(w)
		if several && c.Incarnation != nil {
			s.sentence(stylePlain, 2, incarnationTitle(c))
		}
		if s.bars && s.printBars(h, c) {
			fmt.Fprintln(w)
		}
		if c.Incarnation != nil && c.Restored {
			s.sentence(stylePlain, 2, notKept(h.begin))
		}
		s.printSteps(h, c, n == len(h.Chapters)-1)
	}
	if text := earlierText(h.Before, h.VShardID, ids); text != "" {
		s.sentence(stylePlain, 2, text)
	}
}

func incarnationCount(h showScreen) (n int) {
	for _, c := range h.Chapters {
		if c.Incarnation != nil {
			n++
		}
	}
	return n
}

// moveText returns the nodes and the group of a move.
func moveText(f projection.Facts) string {
	from, to, group := factCells(f)
	return fmt.Sprintf("node %s -> %s   group %s", from, to, group)
}

func outcomeStyle(h showScreen) style {
	switch h.Outcome {
	case story.InFlight:
		return styleBold
	case story.Aborted, story.RemovedUnfinished:
		return styleError
	}
	return stylePlain
}

// outcomeLines describes the state of the migration in words.
func outcomeLines(h showScreen, several bool) []string {
	last := h.Last()
	in := ""
	if several {
		in = fmt.Sprintf(" in incarnation %d", last.Number)
	}
	if isOfSnapshot(h) {
		return []string{fmt.Sprintf("at %s, according to a snapshot. The event itself, seq %d, is lost", h.Row.Checkpoint.Phase(), h.Row.Seq)}
	}
	switch h.Outcome {
	case story.InFlight:
		return inFlightLines(h, in)
	case story.Done:
		text := "COMPLETE" + in + after(last)
		if !h.Facts.HasSource {
			from, to, group := factCells(h.Facts)
			text += fmt.Sprintf(", of which the log has no AddLearner: node %s -> %s, group %s", from, to, group)
		}
		waited := h.to.ms - min(h.to.ms, h.Row.Checkpoint.TimestampMS)
		return append([]string{text}, fmt.Sprintf("not removed for %s, %s", shortSpan(waited), h.to.text))
	case story.Aborted:
		return append([]string{fmt.Sprintf("ABORTED at %s%s%s: %s", phaseOrUnknown(last.Phase), in, after(last), quotedReason(last.Reason))}, undoLines(last)...)
	case story.Removed:
		return []string{"COMPLETE" + in + after(last) + ", and removed"}
	case story.RemovedUnfinished:
		return []string{fmt.Sprintf("REMOVED at %s%s%s, before it was complete", phaseOrUnknown(last.Phase), in, after(last))}
	}
	return []string{noOutcome(last)}
}

// isOfSnapshot reports whether the row comes from a snapshot, because its event is lost.
func isOfSnapshot(h showScreen) bool {
	entries := h.Chapters[len(h.Chapters)-1].Entries
	return h.Row != nil && h.Row.Seq > entries[len(entries)-1].Seq
}

// noOutcome explains why a migration without a row has no outcome.
func noOutcome(last story.Chapter) string {
	switch {
	case last.Entries[len(last.Entries)-1].Unknown != nil && last.Incarnation == nil:
		return "without a row. A newer version wrote the last event"
	case last.Incarnation == nil || last.Phase == 0:
		return "without a row, because no checkpoint is in the log"
	}
	return "without a row, according to a snapshot. The event that ended it is lost"
}

func inFlightLines(h showScreen, in string) []string {
	text := fmt.Sprintf("IN FLIGHT at %s%s for %s, %s", h.Row.Checkpoint.Phase(), in, shortSpan(h.ForMS), h.to.text)
	if c := h.SlowerThan; c.Samples > 0 {
		text += fmt.Sprintf(": slower than %s of %d", wholePercent(c.Share), c.Samples)
	}
	lines := []string{text}
	if a := h.Facts.Abort; a != nil {
		lines = append(lines, fmt.Sprintf("ABORT UNDER WAY: %s, %s", quotedReason(a.Reason), strings.TrimPrefix(abortProgress(a), "abort begun, ")))
	} else if hasCompensated(h) {
		lines = append(lines, "a compensation is recorded, but the log does not have the beginning of the abort")
	}
	return lines
}

func hasCompensated(h showScreen) bool {
	return slices.ContainsFunc(h.Last().Entries, func(e story.Entry) bool { return e.Kind() == replay.KindCompensated })
}

// after returns the duration of an incarnation that is not in flight.
func after(c story.Chapter) string {
	if !c.HasTook || c.FirstSeq == c.LastSeq {
		return ""
	}
	return " after " + signedSpan(c.TookMS)
}

// signedSpan returns a time span that is negative if the clock went back.
func signedSpan(ms int64) string {
	if ms < 0 {
		return "-" + shortSpan(uint64(-ms))
	}
	return shortSpan(uint64(ms))
}

func phaseOrUnknown(p checkpoint.Phase) string {
	if p == 0 {
		return "an unknown phase"
	}
	return p.String()
}

// undoIndent is the start of the second line of undoLines.
const undoIndent = "to undo it:  "

// undoLines compares the compensations of an abort with the compensations that its furthest phase
// demands.
func undoLines(c story.Chapter) []string {
	lines := []string{undoIndent + compensationsText(c.Compensations)}
	indent := strings.Repeat(" ", len(undoIndent))
	switch {
	case c.Furthest >= checkpoint.PhaseCutover:
		return append(lines, indent+fmt.Sprintf("but a move that has reached %s cannot be undone", c.Furthest))
	case !c.HasTarget:
		return append(lines, indent+"(the log does not have the target)")
	case sameSteps(c):
		return append(lines, indent+fmt.Sprintf("as %s demands", c.Furthest))
	}
	return append(lines, indent+fmt.Sprintf("but %s demands %s", c.Furthest, compensationsText(c.Demanded)))
}

// compensationsText lists compensations, in order.
func compensationsText(list []checkpoint.Compensation) string {
	if len(list) == 0 {
		return "nothing"
	}
	parts := make([]string, len(list))
	for i, c := range list {
		parts[i] = compensationDetail(c)
	}
	return strings.Join(parts, ", ")
}

// printRestart prints the decision of a coordinator that starts now.
func (s *showCommand) printRestart(d *recovery.Decision, ids shortIDs) {
	text := "a coordinator that starts now "
	switch d.Action {
	case recovery.CleanUp:
		text += "removes it"
	case recovery.Resume:
		text += "resumes it: the next checkpoint is " + d.NextPhase.String()
	case recovery.Abort:
		text += "aborts it: " + compensationsText(d.Compensations)
		if len(d.Compensations) == 0 {
			text = "a coordinator that starts now records its abort, because all steps are carried out"
		}
	case recovery.AskFirst:
		text += fmt.Sprintf("asks (%s):", d.Reason)
	}
	s.sentence(stylePlain, 2, text)
	for _, a := range d.Asks {
		s.sentence(stylePlain, 2, "  "+question(d, a, ids))
	}
}

// incarnationTitle describes an incarnation if there are several.
func incarnationTitle(c story.Chapter) string {
	text := fmt.Sprintf("incarnation %d", c.Number)
	switch {
	case c.EndLost:
		return text + ", whose end is lost"
	case c.Outcome == story.Aborted:
		return text + fmt.Sprintf(", aborted%s: %s; undone: %s", after(c), quotedReason(c.Reason), compensationsText(c.Compensations))
	case c.Outcome == story.Removed:
		return text + fmt.Sprintf(", complete%s, and removed", after(c))
	case c.Outcome == story.RemovedUnfinished:
		return text + fmt.Sprintf(", removed at %s%s, before it was complete", phaseOrUnknown(c.Phase), after(c))
	}
	return text
}

// printSteps prints the records of an incarnation.
func (s *showCommand) printSteps(h showScreen, c story.Chapter, isLast bool) {
	clock := s.clock()
	g := s.newGrid(
		column{title: "SEQ", right: true}, column{title: "INDEX", right: true, rank: 3}, column{title: clock.title(), rank: 2}, column{title: "STEP"},
		column{title: "STAYED", right: true, rank: 1}, column{title: "", free: true},
	)
	marks := marksOf(h)
	for n, e := range c.Entries {
		if e.LostBefore != 0 {
			g.add(styleWarning, "?", "", "-", fmt.Sprintf("LOST #%d", e.LostBefore), "", fmt.Sprintf("#%d links to it", e.Seq))
		}
		g.addDay(clock, e.WallMS())
		g.add(stepStyle(e), strconv.FormatUint(e.Seq, 10), indexCell(e.RaftIndex), clock.short(e.WallMS()), stepTitle(e), stayedCell(h, c, e), stepDetail(c, n))
		for _, mark := range marks[e.Seq] {
			g.add(styleWarning, "", "", "", "", "", mark)
		}
	}
	if isLast && isOfSnapshot(h) {
		g.add(styleWarning, "?", "", "-", fmt.Sprintf("LOST #%d", h.Row.Seq), "", "a snapshot has its row")
	}
	g.print()
}

// printFindingCounts prints how many findings each rule has, the errors first.
func (s *showCommand) printFindingCounts(found []lint.Finding) {
	for _, severity := range []lint.Severity{lint.Error, lint.Warning} {
		total, counts := 0, map[string]int{}
		for _, f := range found {
			if f.Severity == severity {
				total++
				counts[f.Rule]++
			}
		}
		var parts []string
		for _, rule := range lint.Rules() {
			switch n := counts[rule.ID]; {
			case n == 1:
				parts = append(parts, rule.ID)
			case n > 1:
				parts = append(parts, fmt.Sprintf("%s %d", rule.ID, n))
			}
		}
		if total > 0 {
			s.sentence(severityStyle(severity), 2, fmt.Sprintf("%s: %s", count(total, severity.String()), strings.Join(parts, ", ")))
		}
	}
}

func severityStyle(severity lint.Severity) style {
	if severity == lint.Error {
		return styleError
	}
	return styleWarning
}

// marksOf returns the marks of each record with a finding. A finding about a stay marks the record with
// which it began, and any other one the record that completes it.
func marksOf(h showScreen) map[uint64][]string {
	isOurs, marks := isAbout(h.History), map[uint64][]string{}
	for _, f := range h.findings {
		mark := "! "
		if !f.Certain {
			mark = "? "
		}
		mark += f.Rule + ": " + f.Message
		seqs := slices.Clone(f.Seqs)
		if f.Rule != "slow-phase" && f.Rule != "stalled" {
			slices.Reverse(seqs)
		}
		n := slices.IndexFunc(seqs, func(seq uint64) bool { return isOurs(lint.Finding{Seqs: []uint64{seq}}) })
		marks[seqs[n]] = append(marks[seqs[n]], mark)
	}
	return marks
}

func stepStyle(e story.Entry) style {
	switch e.Kind() {
	case replay.KindAbort, replay.KindAbortBegun:
		return styleError
	}
	return stylePlain
}

// stepTitle returns the STEP of a record, with the number of the try if it is not the first.
func stepTitle(e story.Entry) string {
	if e.Kind() == replay.KindAbort {
		return "ABORT"
	}
	text := stepOf(e.Record)
	if u, ok := e.Event.(checkpoint.Upserted); ok && u.Checkpoint.Attempt > 0 {
		text += ", " + tryText(u.Checkpoint.Phase(), u.Checkpoint.Attempt)
	}
	return text
}

// tryText names a checkpoint with an attempt above 0.
func tryText(p checkpoint.Phase, attempt uint32) string {
	if checkpoint.RestoresFacts(p, attempt) {
		return "to restore facts"
	}
	return fmt.Sprintf("try %d", story.TryNumber(attempt))
}

// tryCell returns the number of the try, or an empty text for the first one and for an AddLearner that
// restores facts.
func tryCell(p checkpoint.Phase, attempt uint32) string {
	if attempt == 0 || checkpoint.RestoresFacts(p, attempt) {
		return ""
	}
	return strconv.FormatUint(story.TryNumber(attempt), 10)
}

// stayedCell returns the time to the next record, or "> " and the time so far.
func stayedCell(h showScreen, c story.Chapter, e story.Entry) string {
	if e.StayedMS != nil {
		return signedSpan(*e.StayedMS)
	}
	if c.Incarnation == nil || c.EndLost || c.Ended() {
		return ""
	}
	if stay, ok := c.OpenStay(h.to.ms); ok && stay.From.Seq == e.Seq && h.Row != nil {
		return "> " + shortSpan(uint64(max(stay.MS, 0)))
	}
	return ""
}

// stepDetail returns the details of a record of an incarnation.
func stepDetail(c story.Chapter, n int) string {
	e := c.Entries[n]
	var parts []string
	if e.StayedMS != nil && *e.StayedMS < 0 {
		parts = append(parts, "the clock went back")
	}
	switch event := e.Event.(type) {
	case checkpoint.Upserted:
		parts = append(parts, checkpointDetail(c, n, event.Checkpoint.Payload))
	case checkpoint.Restored:
		parts = append(parts, "at "+restoredDetail(event))
	case checkpoint.AbortBegun:
		parts = append(parts, quotedReason(event.Reason), compensationsText(event.Compensations))
	case checkpoint.Compensated:
		text := fmt.Sprintf("step %d", event.Step)
		if c.Incarnation != nil && uint64(event.Step) < uint64(len(c.Compensations)) {
			text += ": " + compensationDetail(c.Compensations[event.Step])
		}
		parts = append(parts, text)
	case nil:
		parts = append(parts, eventDetail(e.Record))
	}
	if epoch := e.Epoch(); epoch > 0 {
		parts = append(parts, fmt.Sprintf("epoch %d", epoch))
	}
	return strings.Join(slices.DeleteFunc(parts, func(text string) bool { return text == "" }), ", ")
}

// checkpointDetail returns the details of a payload, or "same payload as before" if it repeats that
// of the record before it.
func checkpointDetail(c story.Chapter, n int, p checkpoint.Payload) string {
	if n > 0 {
		if before, ok := c.Entries[n-1].Event.(checkpoint.Upserted); ok && before.Checkpoint.Payload == p {
			return "same payload as before"
		}
	}
	switch p := p.(type) {
	case checkpoint.AddLearner:
		return fmt.Sprintf("node %d -> %d, budget %s", p.SourceNode, p.TargetNode, pauseSpan(p.WritePauseBudgetUS))
	case checkpoint.Complete:
		text, _ := completeDetail(p, c.PauseBudgetUS)
		return text
	}
	return payloadDetail(p)
}

// earlierText describes the moves of the vShard before the migration. It is empty if there are none.
func earlierText(b story.EarlierMoves, vshard uint32, ids shortIDs) string {
	if b.Moves == 0 {
		return ""
	}
	text := fmt.Sprintf("before it, vshard %d had %s, %d aborted; the last, %s, ", vshard, count(b.Moves, "move"), b.Aborted, ids.of(b.Last.ID))
	if !b.HasTook {
		return text + "is in flight"
	}
	return text + "took " + signedSpan(b.TookMS)
}

// wholePercent returns a share in whole percent, rounded to the nearest. Only a whole is 100%.
func wholePercent(share float64) string {
	if share < 1 {
		share = min(share, 0.99)
	}
	return fmt.Sprintf("%.0f%%", share*100)
}

// sentence prints a text that may be longer than a line. The lines after the first begin with blanks.
func (t *tool) sentence(st style, indent int, text string) {
	for _, line := range linesOf(text, t.width(), indent) {
		fmt.Fprintln(t.stdout, t.paint(st, line))
	}
}

// linesOf breaks a text at blanks, into lines of that width if it is not 0. The lines after the first
// begin with blanks. A longer word has a longer line.
func linesOf(text string, width, indent int) (lines []string) {
	for line := text; line != ""; line = text {
		text = ""
		if width > 0 && textWidth(line) > width {
			if end := strings.LastIndexByte(line[:min(width+1, len(line))], ' '); end > indent {
				line, text = line[:end], strings.Repeat(" ", indent)+strings.TrimLeft(line[end:], " ")
			}
		}
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}
