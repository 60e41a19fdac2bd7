// Command forensics measures the questions of an operator on a log of ten million events: with
// replay-tool as a process and with calls of package replay, with and without the summaries of
// segments, and with SQLite on the exported SQL. It does not know how a question is answered. See
// docs/BENCHMARKS.md.
package main
