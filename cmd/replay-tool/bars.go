package main

import (
	"fmt"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay/story"
)

const (
	pipeBarWidth = 32 // if lines may have any length
	minBarWidth  = 10
	maxBarWidth  = 48
)

// printBars prints a bar for each phase of an incarnation. The bars are linear over the incarnation. It
// prints nothing and returns false if there is nothing to compare: a single record, or times that went
// back.
func (s *showCommand) printBars(h showScreen, c story.Chapter) bool {
	if c.Incarnation == nil || len(c.Entries) < 2 {
		return false
	}
	var totalMS int64
	for _, p := range c.Phases {
		if !isRemovalDue(p) {
			totalMS += p.StayedMS
		}
		for _, try := range p.Tries {
			if try.StayedMS < 0 {
				return false
			}
		}
	}
	rows := make([][4]string, len(c.Phases))
	var widths [4]int
	for n, p := range c.Phases {
		rows[n] = [4]string{p.Phase.String(), shortSpan(uint64(p.StayedMS)), "", comparisonText(h, c, p)}
	}
	if next := nextPhase(h, c); next != "" {
		rows = append(rows, [4]string{next, "...", "", "not yet"})
	}
	for _, r := range rows {
		for i := range r {
			widths[i] = max(widths[i], len(r[i]))
		}
	}
	barWidth := pipeBarWidth
	if width := s.width(); width > 0 {
		barWidth = min(max(width-2-widths[0]-2-widths[1]-2-2-widths[3]-1, minBarWidth), maxBarWidth)
	}
	for n, p := range c.Phases {
		rows[n][2] = bar(c, p, totalMS, barWidth)
	}
	for _, r := range rows {
		line := fmt.Sprintf("  %-*s  %*s  %-*s  %s", widths[0], r[0], widths[1], r[1], barWidth+1, r[2], r[3])
		fmt.Fprintln(s.stdout, strings.TrimRight(line, " "))
	}
	return true
}

// isRemovalDue reports whether a phase is the wait for a removal that has not come. It has no bar,
// because it would hide the others.
func isRemovalDue(p story.PhaseStay) bool { return p.Phase == checkpoint.PhaseComplete && p.Open }

// bar returns the bar of a phase. A try after the first is a digit, at its position, see
// story.TryDigit.
func bar(c story.Chapter, p story.PhaseStay, totalMS int64, width int) string {
	end := "|"
	switch {
	case isRemovalDue(p):
		return ""
	case p.Open:
		end = ">"
	case isAbortedIn(c, p):
		end = "!"
	}
	columns := func(ms int64) int {
		if totalMS == 0 {
			return 0
		}
		return int(float64(ms) / float64(totalMS) * float64(width))
	}
	length := columns(p.StayedMS)
	if length == 0 {
		return end
	}
	b := []byte(strings.Repeat("=", length))
	var startMS int64
	for n, try := range p.Tries {
		if n > 0 {
			b[min(columns(startMS), length-1)] = story.TryDigit(try.Attempt)
		}
		startMS += try.StayedMS
	}
	if end != "|" {
		return string(b) + end
	}
	return string(b)
}

// isAbortedIn reports whether the incarnation was aborted, or its abort was begun, in the phase.
func isAbortedIn(c story.Chapter, p story.PhaseStay) bool {
	return p.Phase == c.Phase && (c.Outcome == story.Aborted || c.Outcome == story.InFlight && c.Reason != "")
}

// comparisonText compares the time in a phase with the other moves of the log.
func comparisonText(h showScreen, c story.Chapter, p story.PhaseStay) string {
	var parts []string
	if isRemovalDue(p) {
		return "not removed"
	}
	if p.SlowerThan.Samples > 0 && !(isAbortedIn(c, p) && p.StayedMS == 0) {
		text := fmt.Sprintf("slower than %3s", wholePercent(p.SlowerThan.Share))
		if len(p.Tries) > 1 {
			text = "last try " + text
		}
		parts = append(parts, text)
		if p.Open {
			parts = append(parts, "usually "+shortSpan(p.SlowerThan.UsualMS))
		}
	}
	switch {
	case isAbortedIn(c, p) && c.Outcome == story.Aborted:
		parts = append(parts, "aborted")
	case isAbortedIn(c, p):
		parts = append(parts, "abort under way")
	case p.Phase == c.Phase && c.Outcome == story.RemovedUnfinished:
		parts = append(parts, "removed")
	}
	return strings.Join(parts, ", ")
}

// nextPhase returns the phase that an incarnation in flight has not reached yet, or "".
func nextPhase(h showScreen, c story.Chapter) string {
	if h.Row == nil || c.EndLost || c.Outcome != story.InFlight || c.Reason != "" || c.Phase == 0 {
		return ""
	}
	return (c.Phase + 1).String()
}
