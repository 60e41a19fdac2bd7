// Package rebuild builds a store's view when it opens, from a snapshot and the segments after it,
// or from the whole log. It decodes only the events that the view needs.
//
// It refuses to write. If the log is not intact, it leaves the interpretation to replay.Fold, which
// decodes every frame.
package rebuild
