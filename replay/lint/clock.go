package lint

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/histogram"
	"migrationlog/replay/story"
)

const (
	silenceMS    = 10_000 // a longer time between two events is a silence
	notRemovedMS = 60_000 // a row that is longer at Complete is not removed
	slowFloorMS  = 100    // a shorter stay is never slow
	slowSamples  = 20     // a phase with fewer finished stays has no slow ones
)

// checkClock compares the clock of the next event with those before it.
func (l *Linter) checkClock(r replay.Record) {
	before, at := l.last, r.WallMS()
	l.last = mark{at, r.Seq}
	if at < l.highest.value {
		l.report(clockBack, nil, span{l.highest.seq, r.Seq}, l.highest.seq, r.Seq).set([]any{"back_ms", l.highest.value - at},
			"the clock is %s below that of an earlier event", story.Span(l.highest.value-at))
	} else {
		l.highest = l.last
	}
	if before.seq == 0 || at < before.value || at-before.value <= silenceMS || l.flying == 0 {
		return
	}
	l.silenceMS += at - before.value
	l.report(silence, nil, span{before.seq, r.Seq}, before.seq, r.Seq).set([]any{"ms", at - before.value, "in_flight", l.flying},
		"no event for %s, with %d in flight", story.Span(at-before.value), l.flying)
}

// checkStay checks a stay that a record has ended.
func (l *Linter) checkStay(m *move, s story.Stay) {
	if s.From.Phase == checkpoint.PhaseComplete && s.To.Kind != replay.KindRemove {
		return
	}
	from := l.sinceBegin(m, mark{s.From.AtMS, s.From.Seq})
	l.checkLength(m, stay{from: from, to: s.To, phase: s.From.Phase, ms: int64(s.To.AtMS - from.value)})
}

// stay is the time from a record to the next one of its incarnation, or to the end of the history.
type stay struct {
	from  mark
	to    story.Step // zero: to the end
	phase checkpoint.Phase
	ms    int64
	abort bool // from a step of an abort, and not from a checkpoint
}

// checkAbortStep checks the time between the steps of an abort that was begun.
func (l *Linter) checkAbortStep(m *move, r replay.Record) {
	if from := m.abortStep; from.seq != 0 && r.PrevSeq == from.seq && r.Kind() != replay.KindEpochRaised && r.Unknown == nil {
		from = l.sinceBegin(m, from)
		to := story.Step{Seq: r.Seq, AtMS: r.WallMS(), Kind: r.Kind()}
		l.checkLength(m, stay{from: from, to: to, phase: m.latest.phase, ms: int64(to.AtMS - from.value), abort: true})
	}
	m.abortStep = mark{}
	if k := r.Kind(); k == replay.KindAbortBegun || k == replay.KindCompensated {
		m.abortStep, m.silenceMS = mark{r.WallMS(), r.Seq}, l.silenceMS
	}
}

// checkAtEnd checks a move that has not ended.
func (l *Linter) checkAtEnd(m *move) {
	endMS := l.tracker.EndMS()
	switch open, ok := m.inc.OpenStay(endMS); {
	case m.abortStep.seq != 0:
		from := l.sinceBegin(m, m.abortStep)
		l.checkLength(m, stay{from: from, phase: m.latest.phase, ms: int64(endMS - from.value), abort: true})
	case ok && m.latest.phase != checkpoint.PhaseComplete:
		from := l.sinceBegin(m, mark{open.From.AtMS, open.From.Seq})
		l.checkLength(m, stay{from: from, phase: m.latest.phase, ms: int64(endMS - from.value)})
	}
	if row := m.latest; row.phase == checkpoint.PhaseComplete && endMS-min(endMS, m.latestMS) > notRemovedMS {
		l.report(notRemoved, m, span{row.seq, l.last.seq}, row.seq).set([]any{"ms", endMS - m.latestMS}, "complete for %s, and not removed", story.Span(endMS-m.latestMS))
	}
}

// checkLength checks whether a stay was too long, without the silences in it.
func (l *Linter) checkLength(m *move, s stay) {
	silentMS := l.silenceMS - m.silenceMS
	ms := s.ms - int64(silentMS)
	seqs, last := []uint64{s.from.seq}, l.last.seq
	var next any
	if s.to.Seq != 0 {
		seqs, last, next = append(seqs, s.to.Seq), s.to.Seq, s.to.Kind
		if s.to.Phase != 0 {
			next = s.to.Phase
		}
	}
	lost := span{s.from.seq, last}
	where := nameOr(s.phase, "an unknown phase")
	if s.abort {
		where = "the abort"
	}
	limit := l.limitOf(s.phase)
	switch {
	case ms >= l.options.Stall.Milliseconds():
		l.report(stalled, m, lost, seqs...).set([]any{"phase", phaseName(s.phase), "ms", ms, "silence_ms", silentMS, "stall_ms", l.options.Stall.Milliseconds(), "next", next},
			"%s for %s, %s", where, story.Span(uint64(ms)), followedBy(next))
	case !s.abort && limit != nil && float64(ms) > limit.ms:
		meanwhile := last - s.from.seq
		if s.to.Seq != 0 {
			meanwhile--
		}
		l.report(slowPhase, m, lost, seqs...).set(
			[]any{"phase", s.phase, "ms", ms, "median_ms", limit.medianMS, "p99_ms", limit.p99MS, "limit_ms", uint64(math.Round(limit.ms)), "samples", limit.samples, "events_meanwhile", meanwhile},
			"%s for %s; usually %s, 99%% of %d within %s. %s", s.phase, story.Span(uint64(ms)), story.Span(limit.medianMS), limit.samples, story.Span(limit.p99MS), recordedMeanwhile(meanwhile))
	}
}

func followedBy(next any) string {
	switch next := next.(type) {
	case nil:
		return "to the end of the log"
	case checkpoint.Phase:
		return "then " + next.String()
	case replay.Kind:
		return "then " + string(next)
	}
	return ""
}

func recordedMeanwhile(events uint64) string {
	switch events {
	case 0:
		return "No event of others was recorded meanwhile: the coordinator may have waited too"
	case 1:
		return "1 event of others was recorded meanwhile: the coordinator was at work"
	}
	return strconv.FormatUint(events, 10) + " events of others were recorded meanwhile: the coordinator was at work"
}

// slowLimit is the limit of a phase beyond which a stay is slow.
type slowLimit struct {
	ms              float64
	medianMS, p99MS uint64
	samples         uint64
}

// limitOf returns the limit of a phase, or nil if the history has too few finished stays.
func (l *Linter) limitOf(p checkpoint.Phase) *slowLimit {
	h := l.baseline.Phase(p)
	if l.limits[p] == nil && h.Count() >= slowSamples {
		l.limits[p] = limitOf(h)
	}
	return l.limits[p]
}

// limitOf computes exp(m+4s)-1 on x = ln(1+ms). Stays are spread over three decades, and clocks tick
// in ms, so that a distance from the median in ms would find thousands of normal stays.
func limitOf(h *histogram.Histogram) *slowLimit {
	m := math.Log1p(float64(h.Quantile(0.5)))
	type distance struct {
		x     float64
		count uint64
	}
	var distances []distance
	for ms, count := range h.All() {
		distances = append(distances, distance{math.Abs(math.Log1p(float64(ms)) - m), count})
	}
	slices.SortFunc(distances, func(a, b distance) int { return cmp.Compare(a.x, b.x) })
	rank, mad := (h.Count()+1)/2, 0.0
	for _, d := range distances {
		mad = d.x
		if rank <= d.count {
			break
		}
		rank -= d.count
	}
	s := max(1.4826*mad, math.Ln2)
	limit := max(math.Expm1(m+4*s), slowFloorMS)
	return &slowLimit{ms: limit, medianMS: h.Quantile(0.5), p99MS: h.Quantile(0.99), samples: h.Count()}
}

// signed is story.Span for a difference.
func signed(ms int64) string {
	if ms < 0 {
		return "-" + story.Span(uint64(-ms))
	}
	return story.Span(uint64(ms))
}
