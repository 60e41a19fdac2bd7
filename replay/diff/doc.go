// Package diff compares the rows and the moves of a log at two points, or those of two logs.
//
// A difference of rows does not show a move that began and ended in between. The package therefore
// also counts the moves. It does not know where the records come from, nor how a difference is
// shown.
package diff
