package coordinator

import (
	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/wire"
)

// The methods of a coordinator's API.
const (
	MethodBegin   = "begin"   // Move: begin a move; of the leader
	MethodOutcome = "outcome" // Move, of which only ID is used → Outcome; of the leader
	MethodStatus  = "status"  // None → Status
)

// None is an empty request or result.
type None struct{}

// Move is a replica that moves from one node to another. In this example each group has one vShard,
// with the same number.
type Move struct {
	ID     checkpoint.MigrationID `json:"id"`
	Group  uint64                 `json:"group"`
	Source uint64                 `json:"source"` // node
	Target uint64                 `json:"target"` // node
}

// Outcome is the state of a move.
type Outcome string

// The outcomes.
const (
	Absent   Outcome = "absent" // it has not begun
	InFlight Outcome = "in_flight"
	Complete Outcome = "complete"
	Aborted  Outcome = "aborted"
)

// Status is the state of one coordinator.
type Status struct {
	Leading      bool   `json:"leading"` // and recovered
	Epoch        uint64 `json:"epoch"`
	AppliedIndex uint64 `json:"applied_index"`
	DigestIndex  uint64 `json:"digest_index"`
	Digest       string `json:"digest"` // hexadecimal
	InFlight     int    `json:"in_flight"`
}

// Progress is one step of the leader. It writes each as a line of JSON to its standard output.
type Progress struct {
	Coordinator uint64                 `json:"coordinator"`
	Step        string                 `json:"step"`
	ID          checkpoint.MigrationID `json:"id"`
	Group       uint64                 `json:"group"`
	Detail      string                 `json:"detail,omitempty"`
}

// The steps of Progress. The names of the phases are steps too.
const (
	StepLeads       = "leads"
	StepAbortBegun  = "abort_begun"
	StepCompensated = "compensated"
	StepAborted     = "aborted"
	StepRemoved     = "removed"
	StepAsks        = "asks" // recovery has a question, which should never happen here
)

// notLeading is the error of a coordinator that does not lead.
func notLeading(leader string) error {
	return wire.Errorf(wire.NotLeader, leader, "this coordinator does not lead")
}
