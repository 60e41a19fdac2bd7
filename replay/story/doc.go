// Package story groups the records of a history into incarnations, and measures the stays in each
// phase.
//
// An incarnation is the run of events of one migration id from its first checkpoint without a row to
// its abort or removal. A stay is the time from a checkpoint to the next record of its incarnation.
// The phase of a stay is the phase of that checkpoint, which was recorded when the phase began.
//
// A Confirmation repeats or corrects a row after a loss. It is no try of a phase.
package story
