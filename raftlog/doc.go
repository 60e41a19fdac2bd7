// Package raftlog runs a migrationlog store under hashicorp/raft: it turns committed entries into a
// replica of the store on every member, and calls of a coordinator into entries. It refuses to be a
// consensus protocol, and to know how the replica is stored: the order of the entries comes from raft,
// and the files belong to migrationlog.Replica.
//
// A member opens an [FSM] with [Open], calls [Configure], and passes the FSM to raft.NewRaft. The
// coordinator on the leader writes with a [Proposer]. Reads on any member use [FSM.Store]. The page
// docs/REPLICATION.md of the repository describes the guarantees, and the operation of a cluster.
package raftlog
