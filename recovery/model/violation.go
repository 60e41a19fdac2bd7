package model

import (
	"fmt"

	"migrationlog/checkpoint"
)

// Kind is the kind of a violation.
type Kind string

// The kinds of violations.
const (
	PeerInUse       Kind = "peer_in_use"      // a compensation removed a peer that the group or another migration uses
	PastCutover     Kind = "past_cutover"     // a compensation was carried out although the target leads
	Leak            Kind = "leak"             // a migration ended and left a learner, a voter or a ghost stub that nobody uses
	TwoCoordinators Kind = "two_coordinators" // two coordinators acted on one vShard
)

// Violation is an unsafe effect. Fields that its kind does not use are 0.
type Violation struct {
	Kind        Kind
	MigrationID checkpoint.MigrationID // whose coordinator acted; Leak: that added the peer
	VShardID    uint32
	GroupID     uint64                 // PeerInUse, PastCutover, Leak of a peer
	PeerID      uint64                 // the same; Leak of a ghost stub: its node
	With        checkpoint.MigrationID // the other migration; nil if the group itself uses the peer
}

// String returns the violation as a sentence without its migration.
func (v Violation) String() string {
	switch v.Kind {
	case PeerInUse:
		if v.With == (checkpoint.MigrationID{}) {
			return fmt.Sprintf("removes node %d from group %d, which uses it", v.PeerID, v.GroupID)
		}
		return fmt.Sprintf("removes node %d from group %d, in use by %s", v.PeerID, v.GroupID, v.With)
	case PastCutover:
		return fmt.Sprintf("undoes the move of vShard %d, which node %d leads", v.VShardID, v.PeerID)
	case Leak:
		if v.GroupID == 0 && v.PeerID == 0 {
			return "ends without its target, which the history does not have"
		}
		if v.GroupID == 0 {
			return fmt.Sprintf("leaves the ghost stub of vShard %d on node %d", v.VShardID, v.PeerID)
		}
		return fmt.Sprintf("leaves node %d in group %d", v.PeerID, v.GroupID)
	case TwoCoordinators:
		if v.With == v.MigrationID {
			return fmt.Sprintf("acts on vShard %d after its coordinator was superseded", v.VShardID)
		}
		return fmt.Sprintf("acts on vShard %d together with %s", v.VShardID, v.With)
	}
	return string(v.Kind)
}
