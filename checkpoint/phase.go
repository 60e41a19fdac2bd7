package checkpoint

import "fmt"

// Phase is one of the six steps of a migration. Phases are ordered as they are
// reached and may be compared with <. The zero value is no phase.
type Phase uint8

// The phases, with the moment at which the coordinator records each.
const (
	PhaseAddLearner         Phase = iota + 1 // just before the target is proposed as a learner
	PhaseCatchUp                             // just after that change has committed
	PhasePromoteLearner                      // just after the promotion to voter has committed
	PhaseLeadershipTransfer                  // just before leadership is transferred
	PhaseCutover                             // after the transfer has committed; from here it can only go forward
	PhaseComplete                            // after the forwarding stub is installed and saved
)

var phaseNames = [...]string{
	PhaseAddLearner:         "AddLearner",
	PhaseCatchUp:            "CatchUp",
	PhasePromoteLearner:     "PromoteLearner",
	PhaseLeadershipTransfer: "LeadershipTransfer",
	PhaseCutover:            "Cutover",
	PhaseComplete:           "Complete",
}

func (p Phase) known() bool { return p >= PhaseAddLearner && p <= PhaseComplete }

// String returns the phase's name, such as "AddLearner".
func (p Phase) String() string {
	if !p.known() {
		return fmt.Sprintf("Phase(%d)", uint8(p))
	}
	return phaseNames[p]
}

// MarshalText returns the name that [ParsePhase] reads, or [ErrUnknownPhase].
func (p Phase) MarshalText() ([]byte, error) {
	if !p.known() {
		return nil, fmt.Errorf("%w: %d", ErrUnknownPhase, uint8(p))
	}
	return []byte(phaseNames[p]), nil
}

// UnmarshalText reads a phase's name, or returns [ErrUnknownPhase].
func (p *Phase) UnmarshalText(text []byte) error {
	parsed, err := ParsePhase(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// ParsePhase reads a phase's name, spelled as String spells it. Any other text
// is an [ErrUnknownPhase].
func ParsePhase(name string) (Phase, error) {
	for p := PhaseAddLearner; p <= PhaseComplete; p++ {
		if phaseNames[p] == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%w: %q (the phases are AddLearner, CatchUp, PromoteLearner, LeadershipTransfer, Cutover, Complete)", ErrUnknownPhase, name)
}
