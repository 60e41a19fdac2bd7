package checkpoint

import "fmt"

// CompensationKind is one way of undoing a step. The zero value is none.
type CompensationKind uint8

// The compensations. Which fields of a Compensation each one uses is said
// behind it.
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

// Compensation is one step of undoing a migration. An abort lists them in the
// order in which they are to be done.
type Compensation struct {
	Kind     CompensationKind
	GroupID  uint64
	PeerID   uint64
	VShardID uint32
}
