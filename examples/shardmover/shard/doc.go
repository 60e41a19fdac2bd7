// Package shard is one replica of a shard group: a raft instance of its own, with a small key-value
// machine. It refuses to know why a replica is added or removed.
package shard
