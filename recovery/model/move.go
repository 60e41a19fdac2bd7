package model

import (
	"fmt"

	"migrationlog/checkpoint"
)

// Move is one migration: the values that its checkpoints record.
type Move struct {
	MigrationID checkpoint.MigrationID
	VShardID    uint32
	Group       uint64
	Source      uint64 // the node that leads the group
	Target      uint64
}

// Payload returns the payload of the checkpoint of a phase.
func (m Move) Payload(p checkpoint.Phase) checkpoint.Payload {
	switch p {
	case checkpoint.PhaseAddLearner:
		return checkpoint.AddLearner{VShardID: m.VShardID, SourceNode: m.Source, TargetNode: m.Target, SourceGroup: m.Group}
	case checkpoint.PhaseCatchUp:
		return checkpoint.CatchUp{VShardID: m.VShardID}
	case checkpoint.PhasePromoteLearner:
		return checkpoint.PromoteLearner{VShardID: m.VShardID, TargetNode: m.Target, SourceGroup: m.Group}
	case checkpoint.PhaseLeadershipTransfer:
		return checkpoint.LeadershipTransfer{VShardID: m.VShardID, TargetIsVoter: true, NewLeaderNodeID: m.Target, SourceGroup: m.Group}
	case checkpoint.PhaseCutover:
		return checkpoint.Cutover{VShardID: m.VShardID, NewLeaderNodeID: m.Target, SourceGroup: m.Group}
	case checkpoint.PhaseComplete:
		return checkpoint.Complete{VShardID: m.VShardID, GhostStubInstalled: true}
	}
	panic(fmt.Sprintf("model: there is no phase %d", p))
}

// Effect is one change of the cluster that a move needs.
type Effect uint8

// The effects, in the order in which a move carries them out.
const (
	AddLearner         Effect = iota + 1 // add the target to the group as a learner
	CatchUp                              // wait until the learner has the group's log
	PromoteLearner                       // make the learner a voter
	TransferLeadership                   // make the voter the leader: from here on the move only goes forward
	InstallStub                          // install the ghost stub, which forwards from the source to the target
)

// String returns the name of the effect.
func (e Effect) String() string {
	names := [...]string{"no effect", "add the learner", "catch up", "promote the learner", "transfer leadership", "install the ghost stub"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("Effect(%d)", uint8(e))
}

// EffectsAfter returns the effects that lie between the checkpoint of a phase and the next one.
// Some checkpoints are written before an effect and others after it, so a phase can have none or
// two.
func EffectsAfter(p checkpoint.Phase) []Effect {
	switch p {
	case checkpoint.PhaseAddLearner: // its checkpoint is written just before the proposal
		return []Effect{AddLearner}
	case checkpoint.PhaseCatchUp: // just after the learner was added
		return []Effect{CatchUp, PromoteLearner}
	case checkpoint.PhaseLeadershipTransfer: // just before the transfer
		return []Effect{TransferLeadership}
	case checkpoint.PhaseCutover: // just after the transfer
		return []Effect{InstallStub}
	}
	return nil // PromoteLearner just after the promotion, Complete just after the stub
}
