// Package coordinator is a process that moves replicas. Three of them form the metadata group, a raft
// group whose state is the store of the checkpoints. The leader carries out the moves. If it dies,
// another one leads, and continues from the checkpoints. It refuses to know how a group changes its
// membership.
package coordinator
