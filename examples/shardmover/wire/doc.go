// Package wire connects the processes of the cluster over TCP. Each process has one listener, which
// serves several services: its API, and one service for each raft replica. It refuses to know about
// raft, and about the meaning of a service.
package wire
