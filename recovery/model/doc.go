// Package model is a cluster in memory: groups with voters, learners and a leader, and the moves of
// vShards between their nodes. It carries out the effects of a move and the compensations of an
// abort, and records each unsafe one.
//
// It refuses to know about files, clocks, and who decides on the effects.
package model
