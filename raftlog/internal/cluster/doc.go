// Package cluster runs members of a Raft group for tests: real raft nodes with real files, in one
// process with links that can be cut, or as child processes that can be killed. It also keeps the
// history of proposals, and compares it with the members' logs.
//
// It refuses to know how a member stores its state: tests pass the functions that open it.
package cluster
