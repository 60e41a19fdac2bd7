package whatif

import "migrationlog/recovery"

// Outcome is the end of an incarnation, as it really happened.
type Outcome string

// The outcomes.
const (
	Completed Outcome = "completed" // it reached Complete
	Aborted   Outcome = "aborted"   // before Complete
	Removed   Outcome = "removed"   // before Complete
	Unknown   Outcome = "unknown"   // before Complete; the event that ended it is lost
	InFlight  Outcome = "in_flight" // it had a row before Complete at the end of the history
)

// Outcomes lists all outcomes.
var Outcomes = []Outcome{Completed, Aborted, Removed, Unknown, InFlight}

// Result compares the decisions of the policies with the history.
type Result struct {
	EndMS        uint64 // the time at which the walk ended
	Incarnations map[Outcome]int
	Policies     []PolicyResult // in the order of the arguments of New
	// Disagreements has each row about which the first two policies would have decided differently,
	// with the first moment.
	Disagreements []Disagreement
}

// PolicyResult compares the decisions of one policy with the history. Its lists have the order of
// the moments at which the incarnations ended, or at which the questions were asked.
type PolicyResult struct {
	// WronglyAborted has the incarnations that completed after a moment at which the policy would
	// have aborted them.
	WronglyAborted []Difference
	// EndedEarlier has the incarnations that did not complete, and that the policy would have
	// aborted before they ended.
	EndedEarlier []Difference
	Questions    []Decision // the questions that an operator would have received, each once for a row
	Decisions    int        // the number of decisions that were made or changed
}

// Decision is a decision and the event after which it would have been made. Its Inputs have the
// time.
type Decision struct {
	recovery.Decision
	AfterSeq uint64
}

// Difference is the first decision to abort an incarnation, with the real outcome.
type Difference struct {
	Decision
	Outcome Outcome
	EndSeq  uint64 // the event that completed or ended the incarnation; 0 if it is in flight
	EndMS   uint64 // the clock of that event; the end of the walk if the incarnation is in flight
}

// Disagreement has two decisions about one row at the same moment.
type Disagreement struct {
	First, Second recovery.Decision
	AfterSeq      uint64
}
