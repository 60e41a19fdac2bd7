package whatif

import (
	"bytes"
	"maps"
	"math"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

// Walk follows a history event by event, and makes the decisions of one or more policies at every
// moment at which they can change: after each event, and between two events when a row becomes
// stale. Use New.
type Walk struct {
	runs         []*run
	incarnations map[checkpoint.MigrationID]*incarnation
	outcomes     map[Outcome]int
	disagreed    []Disagreement
	seq          uint64 // of the last event
	nowMS        uint64
}

// incarnation is an incarnation that has not ended.
type incarnation struct {
	completedSeq uint64 // 0 before Complete
	completedMS  uint64
	disagreedSeq uint64 // seq of the last row about which the policies disagreed
}

// New returns a walk at the start of a history, with at least one policy. With two it also compares
// them.
func New(policies ...recovery.Policy) *Walk {
	w := &Walk{incarnations: map[checkpoint.MigrationID]*incarnation{}, outcomes: map[Outcome]int{}}
	for _, p := range policies {
		w.runs = append(w.runs, newRun(p))
	}
	return w
}

// Event is one event of the history.
type Event struct {
	Seq         uint64
	ClockMS     uint64 // Unix milliseconds
	MigrationID checkpoint.MigrationID
	Row         *projection.Row // the migration's row after the event; nil if it has none
	Abort       bool            // the event is an abort
}

// Add walks to the next event. The time of the walk becomes the event's clock. If this clock is
// earlier than the time of the walk, stale rows may be fresh again.
func (w *Walk) Add(e Event) {
	w.move(e)
	if e.Row == nil {
		w.end(e.MigrationID, e)
	} else {
		w.set(*e.Row, e)
	}
	w.decide()
}

// Replace is like Add, but replaces all rows. Call it if rows of other migrations may have changed
// too, because events were lost or a snapshot was adopted. Event.Row is ignored. Event.MigrationID
// is nil if there is no event.
func (w *Walk) Replace(e Event, rows []projection.Row) {
	w.move(e)
	gone := maps.Clone(w.incarnations)
	for _, row := range rows {
		delete(gone, row.Checkpoint.MigrationID)
		w.set(row, e)
	}
	for _, id := range sortedKeys(gone) {
		w.end(id, e)
	}
	w.decide()
}

// NowMS returns the time of the walk.
func (w *Walk) NowMS() uint64 { return w.nowMS }

// Decisions returns the present decisions of the first policy about all rows, in the order of the
// migration ids. Their Inputs may be of an earlier time at which the decisions were the same.
func (w *Walk) Decisions() []recovery.Decision { return w.runs[0].tracker.decisions() }

// move walks to the time of an event.
func (w *Walk) move(e Event) {
	w.Advance(e.ClockMS) //mutant:whatif-between-events
	w.seq, w.nowMS = e.Seq, e.ClockMS
	for _, r := range w.runs {
		r.tracker.setNow(e.ClockMS)
	}
}

// Advance walks forward to a time without an event. It does nothing if nowMS is before the time of
// the walk.
func (w *Walk) Advance(nowMS uint64) {
	for {
		nextMS := w.nextStaleMS()
		if nextMS > nowMS || nextMS == math.MaxUint64 {
			break
		}
		w.nowMS = nextMS
		for _, r := range w.runs {
			r.tracker.setNow(nextMS)
		}
		w.decide()
	}
	w.nowMS = max(w.nowMS, nowMS)
}

// nextStaleMS returns the next time at which a row becomes stale by any policy.
func (w *Walk) nextStaleMS() uint64 {
	next := w.runs[0].tracker.nextStaleMS()
	for _, r := range w.runs[1:] {
		next = min(next, r.tracker.nextStaleMS())
	}
	return next
}

// AskForMigrations records the question about the moves without a row. Call it if a lost event
// cannot be attributed to a migration.
func (w *Walk) AskForMigrations() {
	for _, r := range w.runs {
		policy := r.tracker.policy
		policy.UnnamedInDoubt = true
		r.result.Questions = append(r.result.Questions, Decision{recovery.Plan(nil, policy, w.nowMS)[0], w.seq})
	}
}

// set replaces the migration's row after an event.
func (w *Walk) set(row projection.Row, e Event) {
	id := row.Checkpoint.MigrationID
	in := w.incarnations[id]
	if in == nil {
		in = &incarnation{}
		w.incarnations[id] = in
	}
	if row.Checkpoint.Phase() == checkpoint.PhaseComplete && in.completedSeq == 0 {
		in.completedSeq, in.completedMS = e.Seq, e.ClockMS
	}
	for _, r := range w.runs {
		r.tracker.setRow(row)
	}
}

// end ends the migration's incarnation, if it has one, with an event of the migration or of another.
func (w *Walk) end(id checkpoint.MigrationID, e Event) {
	in := w.incarnations[id]
	if in == nil {
		return
	}
	delete(w.incarnations, id)
	outcome := Unknown
	switch {
	case id == e.MigrationID && e.Abort:
		outcome = Aborted
	case id == e.MigrationID:
		outcome = Removed
	}
	w.finish(id, in, outcome, e.Seq, e.ClockMS)
	for _, r := range w.runs {
		r.tracker.removeRow(id)
	}
}

// finish compares the decisions about an incarnation with its outcome.
func (w *Walk) finish(id checkpoint.MigrationID, in *incarnation, outcome Outcome, endSeq, endMS uint64) {
	if in.completedSeq != 0 {
		outcome, endSeq, endMS = Completed, in.completedSeq, in.completedMS
	}
	w.outcomes[outcome]++
	for _, r := range w.runs {
		r.finish(id, outcome, endSeq, endMS)
	}
}

// decide makes the decisions that may have changed, and compares those of the first two policies.
func (w *Walk) decide() {
	changed := map[checkpoint.MigrationID]bool{}
	for _, r := range w.runs {
		r.tracker.flush(func(d *recovery.Decision) {
			r.decided(d, w.seq)
			if len(w.runs) > 1 {
				changed[d.MigrationID()] = true
			}
		})
	}
	for _, id := range sortedKeys(changed) {
		first, second, in := w.runs[0].tracker.rows[id].decision, w.runs[1].tracker.rows[id].decision, w.incarnations[id]
		if !same(&first, &second) && in.disagreedSeq != first.Row.Seq {
			in.disagreedSeq = first.Row.Seq
			w.disagreed = append(w.disagreed, Disagreement{first, second, w.seq})
		}
	}
}

// Finish walks on to nowMS and returns the result. If nowMS is before the clock of the last event,
// the walk ends at that clock. All events count in both cases.
func (w *Walk) Finish(nowMS uint64) Result {
	w.Advance(nowMS)
	for _, id := range sortedKeys(w.incarnations) {
		w.finish(id, w.incarnations[id], InFlight, 0, w.nowMS)
	}
	result := Result{EndMS: w.nowMS, Incarnations: w.outcomes, Disagreements: w.disagreed}
	for _, r := range w.runs {
		result.Policies = append(result.Policies, r.result)
	}
	return result
}

func sortedKeys[V any](m map[checkpoint.MigrationID]V) []checkpoint.MigrationID {
	return slices.SortedFunc(maps.Keys(m), func(a, b checkpoint.MigrationID) int { return bytes.Compare(a[:], b[:]) })
}
