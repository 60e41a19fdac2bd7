package checkpoint

import "fmt"

// CompensationKind is the kind of a step that undoes a migration. The zero value is invalid.
type CompensationKind uint8

// These are the compensations, each with the fields of Compensation that it uses.
const (
	RemoveLearner     CompensationKind = iota + 1 // GroupID, PeerID: the target
	RemoveVoter                                   // GroupID, PeerID: the target
	RestoreLeaderHint                             // GroupID, PeerID: the source
	RemoveGhostStub                               // VShardID
)

var compensationNames = [...]string{
	RemoveLearner:     "RemoveLearner",
	RemoveVoter:       "RemoveVoter",
	RestoreLeaderHint: "RestoreLeaderHint",
	RemoveGhostStub:   "RemoveGhostStub",
}

func (k CompensationKind) known() bool { return k >= RemoveLearner && k <= RemoveGhostStub }

// String returns the kind's name, such as "RemoveLearner".
func (k CompensationKind) String() string {
	if !k.known() {
		return fmt.Sprintf("CompensationKind(%d)", uint8(k))
	}
	return compensationNames[k]
}

// MarshalText returns the kind's name, or ErrUnknownCompensation.
func (k CompensationKind) MarshalText() ([]byte, error) {
	if !k.known() {
		return nil, fmt.Errorf("%w: %d", ErrUnknownCompensation, uint8(k))
	}
	return []byte(compensationNames[k]), nil
}

// UnmarshalText reads a kind's name, or returns ErrUnknownCompensation.
func (k *CompensationKind) UnmarshalText(text []byte) error {
	for i := RemoveLearner; i <= RemoveGhostStub; i++ {
		if compensationNames[i] == string(text) {
			*k = i
			return nil
		}
	}
	return fmt.Errorf("%w: %q (the kinds are RemoveLearner, RemoveVoter, RestoreLeaderHint, RemoveGhostStub)", ErrUnknownCompensation, text)
}

// Compensation is one step that undoes a migration. An abort lists the steps in the order in which
// they are carried out.
type Compensation struct {
	Kind     CompensationKind
	GroupID  uint64
	PeerID   uint64
	VShardID uint32
}
