// Package faults is a TCP proxy between the sites of the cluster, which delays, drops and partitions.
// It refuses to know what the connections carry.
package faults
