// Command replay-tool shows the history, the state and the damage of a migration log, to
// people as text and to scripts as JSON and exit codes. It refuses to know how a log is stored.
//
// Data goes to stdout, everything else to stderr. Only demo and import write to a log. The manual
// is docs/TOOL.md.
package main
