// Package rebuild makes the view of a log when a store starts: from a snapshot and the segments
// after it, decoding only the events that the view needs.
//
// It refuses to write, and to interpret a log that is not intact: that is left to replay.Fold, which
// decodes every frame.
package rebuild
