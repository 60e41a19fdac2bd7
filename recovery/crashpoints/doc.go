// Package crashpoints cuts a history after each event, as a crash would, and carries out the
// decisions about each prefix on the model of a cluster. It finds decisions that are unsafe, and
// decisions that do not converge.
//
// It refuses to know about files, clocks, and where events come from.
package crashpoints
