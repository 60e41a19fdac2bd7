// Package whatif compares the decisions of a policy, at every moment of a history, with the events
// that followed: which migrations that completed would have been aborted, and which that did not
// complete would have been ended earlier.
//
// It refuses to know about files, clocks, and where events come from.
package whatif
