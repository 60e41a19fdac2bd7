package stats

import (
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// Interval is a part of the history in which no incarnation is between LeadershipTransfer and
// Complete. It begins after the event FirstSeq, and each event up to LastSeq leaves it quiet.
type Interval struct {
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	EndSeq   uint64 `json:"end_seq,omitempty"` // the LeadershipTransfer or Cutover that ended it; 0 at the end of the history
	FromMS   uint64 `json:"from_ms"`
	ToMS     uint64 `json:"to_ms"` // clock of the event EndSeq, or of LastSeq
	MS       int64  `json:"ms"`    // negative if a clock went back
	// Uncertain is true if a lost event may have been a LeadershipTransfer, so that a move may have
	// been past it.
	Uncertain bool `json:"uncertain"`
}

// QuietPoint is a moment after an event at which the history is quiet.
type QuietPoint struct {
	Seq       uint64 `json:"seq"`
	AtMS      uint64 `json:"ts_ms"`
	Uncertain bool   `json:"uncertain"`
}

// QuietSummary has the sums of all intervals.
type QuietSummary struct {
	Intervals          uint64      `json:"intervals"`
	UncertainIntervals uint64      `json:"uncertain_intervals"`
	Points             uint64      `json:"quiet_points"` // events after which the history is quiet
	QuietMS            uint64      `json:"quiet_ms"`     // without intervals in which a clock went back
	SpanMS             uint64      `json:"span_ms"`      // between the lowest and the highest clock
	Longest            *Interval   `json:"longest"`
	Last               *QuietPoint `json:"last_quiet"` // the last point that was added, see Quiet.Until
}

// Quiet finds the quiet intervals of a history. It needs memory for each move between
// LeadershipTransfer and Complete, and, after a loss, for each row in doubt.
type Quiet struct {
	// Until limits the point that Summary returns as Last. The zero value is the end of the history.
	Until replay.Point

	busy        map[checkpoint.MigrationID]struct{} // between LeadershipTransfer and Complete
	suspects    []checkpoint.MigrationID            // rows in doubt at the last loss
	snapshotSeq uint64
	open        *Interval
	pastUntil   bool
	minMS       uint64
	maxMS       uint64
	sum         QuietSummary
}

// NewQuiet returns the search at the beginning of a history.
func NewQuiet() *Quiet { return &Quiet{busy: map[checkpoint.MigrationID]struct{}{}} }

// Add adds the next record, which the fold has just added. It returns the interval that the record
// ends, or nil.
func (q *Quiet) Add(f *replay.Fold, r replay.Record) (ended *Interval) {
	if r.Damage != nil {
		q.addDamage(f, r.Damage)
		return nil
	}
	if row, ok := r.Event.(checkpoint.Restored); ok { // the state between two restored rows never existed
		q.set(row.Checkpoint.MigrationID, isBusy(rowOf(f, row)))
		return nil
	}
	atMS := r.WallMS()
	if q.maxMS == 0 {
		q.minMS = atMS
	}
	q.minMS, q.maxMS = min(q.minMS, atMS), max(q.maxMS, atMS)
	q.pastUntil = q.pastUntil || q.Until.Before(r)
	if f.SnapshotSeq() != q.snapshotSeq {
		q.snapshotSeq = f.SnapshotSeq()
		q.addRows(f.View)
	} else if id, ok := r.Migration(); ok {
		row, hasRow := f.View.Get(id)
		q.set(id, hasRow && isBusy(row))
	}
	if len(q.busy) > 0 {
		return q.end(r.Seq, atMS)
	}
	q.addPoint(f.View, r.Seq, atMS)
	return nil
}

func rowOf(f *replay.Fold, e checkpoint.Restored) projection.Row {
	row, _ := f.View.Get(e.Checkpoint.MigrationID)
	return row
}

// isBusy reports whether a row is between LeadershipTransfer and Complete.
func isBusy(r projection.Row) bool {
	furthest := max(r.Checkpoint.Phase(), r.Facts.FurthestPhase)
	return furthest >= checkpoint.PhaseLeadershipTransfer && furthest < checkpoint.PhaseComplete
}

func (q *Quiet) set(id checkpoint.MigrationID, busy bool) {
	if busy {
		q.busy[id] = struct{}{}
	} else {
		delete(q.busy, id)
	}
}

// addRows takes all rows from the view, after the fold has adopted those of a snapshot.
func (q *Quiet) addRows(v *projection.View) {
	clear(q.busy)
	q.suspects = nil
	for row := range v.Rows() {
		q.set(row.Checkpoint.MigrationID, isBusy(row))
	}
}

func (q *Quiet) addDamage(f *replay.Fold, d *replay.Damage) {
	if d.Lost() == 0 {
		return
	}
	if q.open != nil {
		q.open.Uncertain = true
	}
	q.suspects = nil
	for _, row := range f.View.Suspect() {
		if row.Doubt == projection.InDoubt {
			q.suspects = append(q.suspects, row.Checkpoint.MigrationID)
		}
	}
}

// uncertain reports whether a move that the view has before LeadershipTransfer may be past it.
func (q *Quiet) uncertain(v *projection.View) bool {
	if !v.HasUnresolvedLosses() {
		return false
	}
	inDoubt := func(id checkpoint.MigrationID) bool {
		row, ok := v.Get(id)
		return ok && row.Doubt == projection.InDoubt && row.Checkpoint.Phase() != checkpoint.PhaseComplete
	}
	return v.Doubt(checkpoint.MigrationID{}) == projection.InDoubt || slices.ContainsFunc(q.suspects, inDoubt)
}

// addPoint adds an event after which the history is quiet.
func (q *Quiet) addPoint(v *projection.View, seq, atMS uint64) {
	q.sum.Points++
	if q.open == nil {
		q.open = &Interval{FirstSeq: seq, FromMS: atMS, Uncertain: q.uncertain(v)}
	}
	q.open.LastSeq, q.open.ToMS = seq, atMS
	if !q.pastUntil {
		q.sum.Last = &QuietPoint{seq, atMS, q.uncertain(v)}
	}
}

// end ends the open interval, if there is one, with the event after which it is not quiet. The seq
// is 0 at the end of the history.
func (q *Quiet) end(seq, atMS uint64) *Interval {
	i := q.open
	if i == nil {
		return nil
	}
	q.open = nil
	i.EndSeq, i.ToMS, i.MS = seq, atMS, int64(atMS-i.FromMS)
	q.sum.Intervals++
	if i.Uncertain {
		q.sum.UncertainIntervals++
	}
	if i.MS >= 0 {
		q.sum.QuietMS += uint64(i.MS)
	}
	if q.sum.Longest == nil || i.MS > q.sum.Longest.MS {
		q.sum.Longest = i
	}
	return i
}

// Finish ends the history. It returns the interval that is open at the end, or nil.
func (q *Quiet) Finish() *Interval {
	if q.open == nil {
		return nil
	}
	return q.end(0, q.open.ToMS)
}

// Summary returns the sums of all intervals that have ended.
func (q *Quiet) Summary() QuietSummary {
	q.sum.SpanMS = q.maxMS - q.minMS
	return q.sum
}
