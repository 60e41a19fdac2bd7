package lint

import (
	"fmt"
	"slices"
	"strings"
)

// Severity is the weight of a finding. A higher value is worse.
type Severity uint8

// The severities.
const (
	Info    Severity = iota + 1 // worth counting, and normal
	Warning                     // unusual, or it may be explained by a lost event
	Error                       // the history breaks the contract
)

var severityNames = [...]string{Info: "info", Warning: "warning", Error: "error"}

// String returns "info", "warning" or "error".
func (s Severity) String() string {
	if int(s) >= len(severityNames) || severityNames[s] == "" {
		return fmt.Sprintf("Severity(%d)", uint8(s))
	}
	return severityNames[s]
}

// MarshalText returns the name of the severity.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSeverity reads the name of a severity.
func ParseSeverity(name string) (Severity, error) {
	if i := slices.Index(severityNames[:], name); i > 0 {
		return Severity(i), nil
	}
	return 0, fmt.Errorf("unknown severity %q: use info, warning or error", name)
}

// Rule is one rule of a correct history. docs/LINT.md has an example of each.
type Rule struct {
	ID         string
	Severity   Severity // of a finding that no lost event can explain
	Definition string   // the event that breaks the rule, in one sentence
	Reason     string   // the consequence
	Action     string   // the next steps of an operator
}

// ruleIndex is the position of a rule in Rules.
type ruleIndex int

// The rules, in the order of Rules.
const (
	phaseBack ruleIndex = iota
	phaseSkip
	promoteBeforeCatchUp
	writeAfterAbort
	writeAfterRemove
	vshardOverlap
	targetChanged
	moveChanged
	sourceIsTarget
	sourceGone
	targetPresent
	notAVoter
	logIndexBack
	pauseOverBudget
	stubMissing
	abortLeavesBehind
	abortUndoesOther
	abortAfterCutover
	removeUnfinished
	duplicateDiffers
	attemptBack
	attemptGap
	abortOtherCompensations
	clockBack
	hlcBack
	hlcSkew
	silence
	stalled
	slowPhase
	flapping
	pauseUnlikeClock
	retry
	aborted
	notRemoved
	pauseNearBudget
	repeated
	idClock
	ruleCount
)

// Rules returns all rules: the errors, the warnings and then the rules of severity info.
func Rules() []Rule { return slices.Clone(rules[:]) }

// FindRule returns the rule with the id. Its error names similar ids.
func FindRule(id string) (Rule, error) {
	if i, err := indexOf(id); err == nil {
		return rules[i], nil
	} else {
		return Rule{}, err
	}
}

func indexOf(id string) (ruleIndex, error) {
	var similar []string
	for i := range rules {
		if rules[i].ID == id {
			return ruleIndex(i), nil
		}
		if word, _, _ := strings.Cut(id, "-"); word != "" && strings.Contains(rules[i].ID, word) {
			similar = append(similar, rules[i].ID)
		}
	}
	if len(similar) > 0 {
		return 0, fmt.Errorf("unknown rule %q: similar rules are %s", id, strings.Join(similar, ", "))
	}
	return 0, fmt.Errorf("unknown rule %q", id)
}

// Actions that several rules have in common.
const (
	actTwoWriters = "Look for a second coordinator: two processes, or one that did not stop. Give each coordinator an epoch, and write with the guards IfSeq and InOrder, which refuse such an event."
	actCompare    = "Compare the replicas of the group with the row before anything undoes or finishes the move."
	actMembership = "Ask the group for its members. Then correct the list from which the coordinator chooses nodes."
	actClock      = "Compare the clocks of the hosts that run the coordinator. Order events by seq, and do not trust the durations near this event."
)

var rules = [ruleCount]Rule{
	phaseBack: {"phase-back", Error,
		"A checkpoint has an earlier phase than the checkpoint before it in the same incarnation, and its attempt is not above the highest attempt recorded for that phase (0 if the phase was never recorded).",
		"The row moved back: a second coordinator wrote late, or a restart did not increase the attempt.",
		actTwoWriters},
	phaseSkip: {"phase-skip", Error,
		"The phase of a checkpoint is more than one above the highest phase so far in its incarnation. An incarnation begins at 0, so that a first checkpoint other than AddLearner is a finding. It is not a finding if promote-before-catchup finds the same event.",
		"A step ran unrecorded, or an event is lost: the steps to undo are not known.",
		actCompare + " Then correct the coordinator: it must record each phase, also the short ones."},
	promoteBeforeCatchUp: {"promote-before-catchup", Error,
		"A PromoteLearner has no CatchUp before it in its incarnation.",
		"A learner got a vote although its addition was never recorded.",
		"Ask the group whether the new voter has all of the log. Until it has, the group can lose its quorum sooner than its size suggests."},
	writeAfterAbort: {"write-after-abort", Error,
		"A checkpoint has an id whose last incarnation ended with an abort.",
		"A coordinator that should have stopped brings a row back.",
		actTwoWriters + " Each new move needs a new id."},
	writeAfterRemove: {"write-after-remove", Error,
		"A checkpoint has an id whose last incarnation ended with a removal.",
		"A coordinator that should have stopped brings a row back.",
		actTwoWriters + " Each new move needs a new id."},
	vshardOverlap: {"vshard-overlap", Error,
		"The first checkpoint of an incarnation lies inside the flight of an incarnation of another id and the same vShard. A flight lasts from the first checkpoint to the first of Complete, abort and removal. Each pair is one finding.",
		"Two moves change one set of replicas.",
		"Stop one of the two moves, after you have compared the replicas of the group with both rows. Begin moves with the guard IfVShardFree."},
	targetChanged: {"target-changed", Error,
		"An event names another target than the first one that its incarnation named.",
		"Undoing the move would remove the wrong node.",
		actCompare + " A move to another node needs a new id."},
	moveChanged: {"move-changed", Error,
		"An event has another vShard, group or source node than the first one of its incarnation.",
		"Undoing the move would change the wrong group.",
		actCompare + " Look for two moves that share an id."},
	sourceIsTarget: {"source-is-target", Error,
		"An AddLearner has the same node as source and target.",
		"The move does nothing, and undoing it removes the source.",
		"Do not abort the move by its compensations. Remove the row after you have seen that the source is still a voter, and correct the choice of the target."},
	sourceGone: {"source-gone", Error,
		"The source of an AddLearner has left the group: it was the source of the last Complete, or the target of the last abort, that named it in this group.",
		"The coordinator uses an outdated list of members.",
		actMembership},
	targetPresent: {"target-present", Error,
		"The target of an AddLearner is known to be in the group: it was the source of an AddLearner or the target of a Complete, and has not left since.",
		"The coordinator uses an outdated list of members, and undoing the move would remove a member.",
		actMembership},
	notAVoter: {"not-a-voter", Error,
		"A LeadershipTransfer has target_is_voter=false.",
		"Leadership goes to a node that cannot lead.",
		"Ask the group who leads it. Correct the coordinator: it must see the promotion committed before it transfers leadership."},
	logIndexBack: {"log-index-back", Error,
		"The learner_log_index_at_add of a CatchUp is below that of an earlier CatchUp of the same group.",
		"The log of the group was reset, or the event is another cluster's.",
		"Find out whether the group was restored from a backup, or whether two clusters write into one log."},
	pauseOverBudget: {"pause-over-budget", Error,
		"The actual_pause_us of a Complete is above the write_pause_budget_us of the last AddLearner of its incarnation.",
		"Writes were held longer than allowed.",
		"Look at LeadershipTransfer and Cutover of this move with 'replay-tool show'. Raise the budget, or move this vShard at a quieter time."},
	stubMissing: {"stub-missing", Error,
		"A Complete has ghost_stub_installed=false.",
		"Requests with the old route do not reach the vShard.",
		"Install the stub on the source, or flush the routes of the clients."},
	abortLeavesBehind: {"abort-leaves-behind", Error,
		"An abort lacks a compensation that the contract demands for the latest phase of its incarnation (kinds are compared). An abort with every compensation of the furthest phase is correct too, and RestoreLeaderHint is not demanded if the source is not known.",
		"A learner or a voter stays in the group.",
		"Ask the group for its members, and remove the target of the move."},
	abortUndoesOther: {"abort-undoes-other", Error,
		"A compensation has another group than its incarnation, or another peer than the target (RestoreLeaderHint: than the source). Each compensation is one finding.",
		"The wrong node was removed, or the wrong leader restored.",
		"Ask both groups for their members. Add the removed node again, and remove the target of the move."},
	abortAfterCutover: {"abort-after-cutover", Error,
		"The highest phase of the incarnation of an abort is Cutover or Complete.",
		"The move was past the point of no return: its target leads.",
		"Ask the group who leads it and which replicas it has. A move past Cutover can only be finished."},
	removeUnfinished: {"remove-unfinished", Error,
		"The latest phase of the incarnation of a removal is not Complete.",
		"A move is forgotten before it was finished or undone.",
		actCompare + " Abort a move that must end early, and remove only rows at Complete."},
	duplicateDiffers: {"duplicate-differs", Error,
		"Two checkpoints of one incarnation have the same phase and attempt, and another payload. The severity is info if only started_at_hlc differs.",
		"It is not clear which of the two is true.",
		"Ask the cluster which of the two is true, and write that one with the guard Strict."},
	attemptBack: {"attempt-back", Warning,
		"A checkpoint has the phase of the checkpoint before it, and a lower attempt.",
		"A second coordinator wrote late.",
		actTwoWriters},
	attemptGap: {"attempt-gap", Warning,
		"The attempt of a checkpoint is more than one above the highest attempt recorded for its phase in the incarnation. The first one of a phase may be 0.",
		"A try was not recorded.",
		"Look at the coordinator's own log for the try. Record each try before it begins."},
	abortOtherCompensations: {"abort-other-compensations", Warning,
		"No compensation of an abort is missing, but the kinds or their order match the contract neither for the latest nor for the furthest phase.",
		"The abort did more than the contract demands, or did it in another order.",
		"Compare the list with the table in RECOVERY.md. Take the compensations from recovery.Plan."},
	clockBack: {"clock-back", Warning,
		"The clock of an event is below that of an event with a lower seq.",
		"The times here are wrong.",
		actClock},
	hlcBack: {"hlc-back", Warning,
		"The started_at_hlc of an AddLearner is below an earlier one. Wall times are compared first, and then the counters.",
		"The hybrid clock went back, which it must never do.",
		"Find out whether two coordinators with clocks of their own start moves, or whether a coordinator loses its clock at a restart."},
	hlcSkew: {"hlc-skew", Warning,
		"The wall time in started_at_hlc and the clock of its AddLearner differ by more than 1 s.",
		"Another node's clock is ahead, and the hybrid clock has followed it.",
		actClock},
	silence: {"silence", Warning,
		"Two neighboring events are more than 10 s apart while at least one move is in flight.",
		"The coordinator was gone, or the clock jumped. It was not the fault of the moves.",
		"Look at the coordinator's own log: was it stopped, or blocked? If it recorded nothing unusual, compare the clocks of the hosts."},
	stalled: {"stalled", Warning,
		"The time from an event to the next one of its incarnation, less the silences in it, is at least the value of --stall. The time of the last event ends at the highest clock of the log. A row at Complete that was not removed does not count.",
		"The move waits, while the coordinator records other moves.",
		"Look at the target node, and at the move with 'replay-tool show'. If the move is in flight, 'replay-tool plan' shows the effect of a restart."},
	slowPhase: {"slow-phase", Warning,
		"A stay is not stalled, and is longer than 100 ms and than exp(m+4s)-1. With x = ln(1+ms) over the finished stays of the phase, m is the median of x and s is 1.4826 times the median distance from m, but at least ln 2. Silences do not count. The phase needs 20 finished stays.",
		"The stay is far longer than usual in this log.",
		"Look at the move with 'replay-tool show', and at the nodes and at the group at that time."},
	flapping: {"flapping", Warning,
		"Three aborts of one vShard follow one another with no Complete of it between. Each series is one finding.",
		"The coordinator tries again without success.",
		"Look at the reasons of the aborts with 'replay-tool log --vshard N --kind abort'. Correct the cause before the next try."},
	pauseUnlikeClock: {"pause-unlike-clock", Warning,
		"The actual_pause_us of a Complete and the time from the last LeadershipTransfer to the first Cutover differ by more than 1 s.",
		"The pause that was reported is not the pause that was recorded.",
		"Find out where the coordinator measures the pause. A clock may have jumped during the transfer."},
	retry: {"retry", Info,
		"A checkpoint has an attempt above 0.",
		"A step was tried again.",
		"Nothing, if there are few. 'replay-tool stats' shows the phases that are tried again."},
	aborted: {"aborted", Info,
		"An abort ended a migration with a row.",
		"A move was given up.",
		"Nothing, if there are few. 'replay-tool triage' groups the reasons."},
	notRemoved: {"not-removed", Info,
		"At the end of the log a row is at Complete, and is older than 60 s.",
		"The clean-up does not run.",
		"Look at the clean-up of the coordinator. 'replay-tool plan' lists these rows as clean_up."},
	pauseNearBudget: {"pause-near-budget", Info,
		"The actual pause is at least 80 % of the budget, and not above it.",
		"The next pause may be too long.",
		"Compare the pauses of this group with 'replay-tool stats', and raise the budget before it is exceeded."},
	repeated: {"repeated", Info,
		"A checkpoint has the phase, attempt and payload of the checkpoint before it, which only Confirm appends.",
		"A doubt was cleared.",
		"Nothing."},
	idClock: {"id-clock", Info,
		"The time in a UUIDv7 and the clock of the AddLearner differ by more than 1 s.",
		"The id was made much earlier than the move, or on a host with another clock.",
		"Nothing, if ids are made ahead. Otherwise compare the clocks of the hosts."},
}
