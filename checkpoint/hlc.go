package checkpoint

import "cmp"

// HLC is a reading of a hybrid logical clock: wall time in nanoseconds since
// the Unix epoch, and a counter that orders readings of the same nanosecond.
type HLC struct {
	WallNS  uint64 `cbor:"1,keyasint" json:"wall_ns"`
	Logical uint32 `cbor:"2,keyasint" json:"logical"`
}

// Compare returns -1 if h is before other, 0 if they are equal, and +1 if h is after other. It
// compares the wall times first and, if they are equal, the counters.
func (h HLC) Compare(other HLC) int {
	return cmp.Or(cmp.Compare(h.WallNS, other.WallNS), cmp.Compare(h.Logical, other.Logical))
}
