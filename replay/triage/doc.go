// Package triage summarizes a log for an operator who arrives with a question: whether the files can
// be trusted, which migrations are in flight and for how long, whether that is unusual in this log, the
// decisions of a coordinator that starts, and why moves were aborted.
//
// It refuses to know how the summary is printed.
package triage
