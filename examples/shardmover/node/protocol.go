package node

import (
	"github.com/google/uuid"

	"migrationlog/examples/shardmover/shard"
)

// The methods of a node's API.
const (
	MethodWrite    = "write"    // Write: a client's write
	MethodLocate   = "locate"   // Group → Location
	MethodState    = "state"    // Group → shard.State, of the leader
	MethodView     = "view"     // Group → shard.View, of the leader
	MethodLocal    = "local"    // Group → Local, of any replica
	MethodHost     = "host"     // Host: begin to host an empty replica
	MethodDrop     = "drop"     // Drop: stop hosting a replica and delete its data
	MethodHang     = "hang"     // Hang: the driver makes a replica hang
	MethodProgress = "progress" // Group → shard.Progress
	MethodFence    = "fence"    // Fence → shard.View, of the leader
	MethodChange   = "change"   // Effect → Done, of the leader
	MethodTransfer = "transfer" // Effect → Done, of the leader
	MethodStub     = "stub"     // Stub: forward clients of a group
)

// Write is one write of a client.
type Write struct {
	Group  uint64 `json:"group"`
	Client string `json:"client"`
	Write  uint64 `json:"write"`
}

// Group names a group.
type Group struct {
	Group uint64 `json:"group"`
}

// Location is a node's knowledge about a group.
type Location struct {
	Hosted shard.ReplicaID `json:"hosted"` // the node's own replica; zero: none
	Leader shard.ReplicaID `json:"leader"` // zero: not known
}

// Local is the state of one replica.
type Local struct {
	Hosted shard.ReplicaID `json:"hosted"`
	State  shard.State     `json:"state"`
}

// Host asks a node to host an empty replica, which waits for the leader of its group.
type Host struct {
	Replica shard.ReplicaID `json:"replica"`
}

// Drop asks a node to close a replica and to delete its data. The replica must have been removed from
// its group.
type Drop struct {
	Replica shard.ReplicaID `json:"replica"`
}

// Hang makes a replica unreachable for its peers, for the rest of its life.
type Hang struct {
	Replica shard.ReplicaID `json:"replica"`
	// Voter lets it hang when it becomes a voter, instead of at once.
	Voter bool `json:"voter"`
}

// Fence makes a group refuse every effect with a lower epoch.
type Fence struct {
	Group uint64 `json:"group"`
	Epoch uint64 `json:"epoch"` // of the coordinator
}

// Change changes the membership of a group.
type Change struct {
	Change shard.Change  `json:"change"`
	Epoch  uint64        `json:"epoch"`
	Undoes *Compensation `json:"undoes,omitempty"` // set if the change is a compensation of an abort
}

// Transfer makes another replica the leader of its group.
type Transfer struct {
	To     shard.ReplicaID `json:"to"`
	Epoch  uint64          `json:"epoch"`
	Undoes *Compensation   `json:"undoes,omitempty"`
}

// Compensation identifies one step of an abort. The node records it in the journal of its effects
// before it carries it out.
type Compensation struct {
	MigrationID uuid.UUID `json:"migration_id"`
	Step        uint32    `json:"step"`
	Epoch       uint64    `json:"epoch"`
	// KnownIndex is the index up to which the coordinator had applied the log of the checkpoints. It
	// had seen every event up to this index.
	KnownIndex uint64 `json:"known_index"`
}

// Stub asks a node to send the clients of a group to another node.
type Stub struct {
	Group  uint64 `json:"group"`
	Epoch  uint64 `json:"epoch"`
	Target uint64 `json:"target"` // node
}

// Done is the result of a Change.
type Done struct {
	Index uint64 `json:"index"` // of the new configuration
}

// None is an empty result.
type None struct{}
