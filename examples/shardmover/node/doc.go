// Package node is a process that hosts replicas of shard groups, and serves clients and the
// coordinator. It refuses to know about the phases of a move.
package node
