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
	Leak            Kind = "leak"             // a migration ended and left a learner, a voter or a ghost stub that nobody uses, or it was aborted and its target is unknown
	TwoCoordinators Kind = "two_coordinators" // two coordinators acted on one vShard
)

// Violation is an unsafe effect. A field that is not used for its kind is 0.
type Violation struct {
	Kind        Kind
	MigrationID checkpoint.MigrationID // the migration whose coordinator acted; Leak: the one that ended
	VShardID    uint32
	GroupID     uint64 // PeerInUse, PastCutover, Leak of a peer: its group
	PeerID      uint64 // PeerInUse, PastCutover, Leak of a peer or of a ghost stub: its node

	// With is the other migration. PeerInUse: the one that uses the peer, or nil if the group
	// itself uses it. TwoCoordinators: the one that acts on the vShard too, or MigrationID if its
	// own coordinator was superseded. PastCutover and Leak: nil.
	With checkpoint.MigrationID
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
			return "is aborted, but the log does not name its target, so no peer was removed"
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
