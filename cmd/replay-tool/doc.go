// Command replay-tool shows people and scripts the history, the state and the damage of a migration
// log: it defines flags, output and exit codes. It refuses to know how a log is stored.
//
// Data goes to stdout, everything else to stderr. Only demo and import write to a log. The manual is
// docs/TOOL.md.
package main
