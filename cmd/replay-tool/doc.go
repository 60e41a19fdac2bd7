// Command replay-tool knows how people and scripts ask a migration log what
// happened: flags, output and exit codes. It refuses to know how a log is stored.
//
// Data goes to stdout, everything else to stderr. No command but demo and import
// writes to a log. docs/TOOL.md describes it.
package main
