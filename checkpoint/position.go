package checkpoint

import (
	"fmt"

	"github.com/google/uuid"

	"migrationlog/internal/detcbor"
)

// This file has the keys that a store adds to an encoded event: its epoch, and its position in the
// log of a consensus engine, such as Raft. The position is the index and the term of the entry from
// which the event comes. Like the seq, it is not a field of the event.

// StoreID is the migration id of the store's own events, such as Digest. No migration has it.
var StoreID = MigrationID(uuid.Max)

// CheckMigrationID returns ErrNilMigrationID or ErrReservedID if a caller's event must not have the
// id.
func CheckMigrationID(id MigrationID) error {
	switch id {
	case MigrationID{}:
		return ErrNilMigrationID
	case StoreID:
		return fmt.Errorf("%w: %s", ErrReservedID, id)
	}
	return nil
}

// AppendEpoch adds an epoch to an encoded event that has none. The result is the same as that of
// AppendEvent for the event with this epoch. If the epoch is 0, AppendEpoch returns the event
// unchanged. The event must not have a position.
func AppendEpoch(event []byte, epoch uint64) []byte { return appendEpoch(event, 0, epoch) }

// appendEpoch adds an epoch to the event that begins at b[start] and ends with b.
func appendEpoch(b []byte, start int, epoch uint64) []byte {
	if epoch == 0 {
		return b
	}
	return insertAdded(b, start, keyEpoch, epoch)
}

// AppendPosition adds a position to an encoded event that has none. It does not add a number that
// is 0. If this version does not know the kind, the event must be in the deterministic encoding,
// and must have at most 21 keys.
func AppendPosition(event []byte, index, term uint64) []byte {
	if index > 0 {
		event = insertAdded(event, 0, keyIndex, index)
	}
	if term > 0 {
		event = insertAdded(event, 0, keyTerm, term)
	}
	return event
}

// insertAdded adds a key to the event that begins at b[start] and ends with b. It inserts the key
// before the first higher one.
func insertAdded(b []byte, start int, key byte, n uint64) []byte {
	at := len(b) - higherKeysBytes(b[start:], key)
	b[start]++ // the number of pairs in the head of the map
	higher := len(b) - at
	if higher == 0 {
		return detcbor.AppendUint(b, key, n)
	}
	var scratch [10]byte
	pair := detcbor.AppendUint(scratch[:0], key, n)
	b = append(b, pair...)
	copy(b[at+len(pair):], b[at:at+higher])
	copy(b[at:], pair)
	return b
}

// higherKeysBytes returns the length of the pairs of an event whose keys are above the given key.
// The kinds before KindDigest have no such keys.
func higherKeysBytes(event []byte, above byte) int {
	if kind, known := PeekKind(event); known && kind < KindDigest {
		return 0
	}
	c := detcbor.NewCursor(event)
	for pairs := c.Head(detcbor.MajorMap); pairs > 0 && !c.Failed(); pairs-- {
		left := len(c.Left())
		if c.Head(detcbor.MajorUint) > uint64(above) {
			return left
		}
		c.Skip()
	}
	return 0
}

// PeekEpoch returns the epoch of an encoded event without decoding the rest, even if this version
// does not know the kind. The epoch is 0 if the event has none. PeekEpoch returns false if the keys
// are not in the deterministic encoding, or if one of the keys that a store adds has the value 0.
func PeekEpoch(b []byte) (epoch uint64, ok bool) {
	added, ok := peekAdded(b)
	return added[0], ok
}

// PeekPosition is like PeekEpoch, but returns the position. A number is 0 if the event does not
// have it.
func PeekPosition(b []byte) (index, term uint64, ok bool) {
	added, ok := peekAdded(b)
	return added[1], added[2], ok
}

// peekAdded returns the values of the keys keyEpoch to keyTerm, or 0 for a key that is missing.
func peekAdded(b []byte) (added [maxAddedKeys]uint64, ok bool) {
	c := detcbor.NewCursor(b)
	pairs := c.Head(detcbor.MajorMap)
	if kind, known := PeekKind(b); known && pairs == contentKeys[kind] {
		return added, true // the common case: an event of this size has no further key
	}
	for last := uint64(0); pairs > 0 && !c.Failed(); pairs-- {
		key := c.Head(detcbor.MajorUint)
		if key <= last {
			return added, false
		}
		last = key
		if key < uint64(keyEpoch) || key > uint64(keyTerm) {
			c.Skip()
			continue
		}
		value := c.Head(detcbor.MajorUint)
		if value == 0 {
			return added, false
		}
		added[key-uint64(keyEpoch)] = value
	}
	return added, c.Done()
}

// PositionOf returns the position of an event in any encoding that DecodeEvent accepts. A number is
// 0 if the event does not have it.
func PositionOf(b []byte) (index, term uint64) {
	if index, term, ok := PeekPosition(b); ok {
		return index, term
	}
	var w positionWire
	_ = decMode.Unmarshal(b, &w) // if a key is not a number, the event has no position
	return w.Index, w.Term
}
