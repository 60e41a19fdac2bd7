package check

import (
	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

// Evidence is everything that a run has left behind.
type Evidence struct {
	Kills         int
	Moves         []Move
	Groups        []Group
	Clients       []Client
	Members       []coordinator.Status // of the metadata group, after the last event
	History       []replay.Record      // of the metadata group
	Histories     []diff.Histories     // the first member compared with each of the others
	Compensations []node.Compensation  // that the nodes have carried out
	Violations    []string             // that were seen during the run
}

// Move is one move that the driver has asked for, with the outcome that a coordinator has returned.
type Move struct {
	ID      checkpoint.MigrationID
	Outcome coordinator.Outcome
}

// Group is the end of one shard group.
type Group struct {
	ID       uint64
	Replicas int // that it must have
	View     shard.View
	State    shard.State  // of the leader
	Local    []node.Local // of every node that hosts a replica
}

// Client is the end of one client. The writes 1 to Acknowledged were acknowledged.
type Client struct {
	Name         string
	Group        uint64
	Acknowledged uint64
}
