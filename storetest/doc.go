// Package storetest tests a coordinator that embeds the store. It interrupts the coordinator at each
// write, kills its process, and lets syncs and the disk fail, lets it start again, and checks the
// result against the log and a model of the cluster.
//
// It refuses to be imported by a program: only tests import it.
package storetest
