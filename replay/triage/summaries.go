package triage

import (
	"migrationlog/checkpoint"
	"migrationlog/internal/summary"
	"migrationlog/projection"
	"migrationlog/replay/histogram"
	"migrationlog/replay/story"
)

// CountsOf returns the counts of a log from the sum of its segment summaries, from the finished stays in
// each phase, and from its present rows. Moves.EndLost is 0, because a summary does not count the moves
// whose end is lost. AbortGroup.StandsOut is nil.
func CountsOf(t summary.Totals, stays [checkpoint.PhaseComplete + 1]histogram.Histogram, rows []projection.Row) Counts {
	complete := uint64(0)
	for _, r := range rows {
		if r.Checkpoint.Phase() == checkpoint.PhaseComplete {
			complete++
		}
	}
	done := t.RemovedDone + complete
	others := t.RemovedDone + t.Aborted + uint64(len(rows))
	baseline := story.BaselineOf(stays)
	return Counts{
		FromMS: t.EarliestMS, ToMS: t.LatestMS, Events: t.Events,
		Moves: Moves{
			Total: t.Begun, Done: done, Aborted: t.Aborted, InFlight: uint64(len(rows)) - complete, Retried: t.Retries,
			RemovedUnfinished: t.Begun - min(t.Begun, others),
		},
		Aborts: groupsOf(t.Aborts), Baseline: &baseline,
	}
}

// groupsOf adds up the aborts of all targets.
func groupsOf(list []summary.AbortGroup) []AbortGroup {
	groups := map[groupKey]*AbortGroup{}
	for _, a := range list {
		key := groupKey{a.Reason, a.Phase}
		if a.Other {
			key = groupKey{OtherReasons, 0}
		}
		g := groups[key]
		if g == nil {
			g = newAbortGroup(key)
			g.StandsOut = nil
			groups[key] = g
		}
		g.Count += a.Count
		if a.HasTarget {
			g.ByTarget[a.TargetNode] += a.Count
		}
		if a.Phase != 0 {
			g.addAfter(a.MinMS, a.MaxMS)
		}
	}
	return sorted(groups)
}
