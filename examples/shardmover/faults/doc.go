// Package faults is a TCP proxy that delays and drops bytes between the sites of the cluster, and
// partitions the sites.
// It refuses to know what the connections carry.
package faults
