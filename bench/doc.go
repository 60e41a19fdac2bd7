// Command bench measures migrationlog and other stores that could do its job in one run, and
// compares the figures with migrationlog's targets. It does not know how a store is used: that is
// package peer's job. See docs/BENCHMARKS.md.
package main
