// Package rebuild builds a store's view when it opens, from a snapshot and the segments after it,
// or from the whole log. It decodes only the events that the view needs.
//
// It writes nothing. If it finds lost events, it does not interpret them: replay.Fold then decodes
// every frame and decides which migrations are in doubt.
package rebuild
