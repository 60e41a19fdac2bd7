// Command bench measures migrationlog beside other stores that could do its job,
// in one run, and says how it stands against its targets. It knows workloads and
// figures; how each store is used is package peer's to know. See
// docs/BENCHMARKS.md.
package main
