// Package intact reads a log without damage: several segments in parallel, and of the events only
// those that the rows at the end need.
//
// It refuses to interpret a log that is not intact, and returns ErrNotIntact for it. It writes
// nothing. Package replay reads such a log frame by frame.
package intact

import "errors"

// ErrNotIntact is returned if a segment is not intact, or if an event is not linked to its
// migration's previous event. Only a fold of every frame can then interpret the log.
var ErrNotIntact = errors.New("the log must be read frame by frame")
