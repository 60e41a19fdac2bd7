// Package driver runs the cluster: it starts the processes, asks for the moves, kills the coordinator,
// and collects the evidence for the checks. It refuses to help the cluster: the processes find each
// other, and recover, without it.
package driver
