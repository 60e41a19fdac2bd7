// Package histogram counts durations in milliseconds.
//
// A Histogram is exact up to 10 seconds. Above, it has buckets of 1 %. Its size therefore does not
// depend on the number of durations, and the percentiles of a long history need constant memory.
package histogram
