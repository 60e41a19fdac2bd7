// Package recovery decides the next step of each migration after a crash: clean up, abort, resume,
// or ask. The decision depends only on the rows of the projection, a policy and a time.
//
// It refuses to know about files, clocks, and how a decision is carried out.
package recovery
