package whatif

import (
	"migrationlog/checkpoint"
	"migrationlog/recovery"
)

// run has the decisions of one policy during a walk.
type run struct {
	tracker *tracker
	open    map[checkpoint.MigrationID]*findings // of the incarnations that have not ended
	result  PolicyResult
}

// findings has the decisions about one incarnation that the result may need.
type findings struct {
	abort *Decision           // the first abort; nil if there was none
	asked []recovery.Decision // each question once
}

func newRun(p recovery.Policy) *run {
	return &run{tracker: newTracker(p), open: map[checkpoint.MigrationID]*findings{}}
}

// decided records a decision that was made or has changed after event seq. It ignores an unfinished
// abort, because the coordinator of the history has decided it, and not the policy.
func (r *run) decided(d *recovery.Decision, seq uint64) {
	r.result.Decisions++
	if d.Action != recovery.Abort && d.Action != recovery.AskFirst || d.Reason == recovery.AbortUnfinished {
		return
	}
	f := r.open[d.MigrationID()]
	if f == nil {
		f = &findings{}
		r.open[d.MigrationID()] = f
	}
	if d.Action == recovery.Abort {
		if f.abort == nil {
			f.abort = &Decision{*d, seq}
		}
		return
	}
	for i := range f.asked {
		if same(&f.asked[i], d) {
			return
		}
	}
	f.asked = append(f.asked, *d)
	r.result.Questions = append(r.result.Questions, Decision{*d, seq})
}

// finish compares the decisions about an incarnation with its outcome.
func (r *run) finish(id checkpoint.MigrationID, outcome Outcome, endSeq, endMS uint64) {
	f := r.open[id]
	delete(r.open, id)
	switch {
	case f == nil || f.abort == nil:
	case outcome == Completed:
		r.result.WronglyAborted = append(r.result.WronglyAborted, Difference{*f.abort, outcome, endSeq, endMS})
	default:
		r.result.EndedEarlier = append(r.result.EndedEarlier, Difference{*f.abort, outcome, endSeq, endMS})
	}
}
