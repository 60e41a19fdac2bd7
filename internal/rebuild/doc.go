// Package rebuild builds a store's view when it opens, from a snapshot and the segments after it,
// or from the whole log. It decodes only the events that the view needs.
//
// It refuses to write. It also refuses to interpret a log that is not intact, and leaves that to
// replay.Fold, which decodes every frame.
package rebuild
