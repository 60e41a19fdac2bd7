// Package stats counts the moves of a history, measures the stays in their phases and the pauses of
// writes, and finds the quiet parts of the history.
//
// It reads records one by one and needs constant memory for each node, vShard, minute and reason. It
// does not know where the records come from, nor how a number is shown.
package stats
