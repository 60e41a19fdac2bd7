package checkpoint

import (
	"fmt"
	"strconv"

	"migrationlog/internal/detcbor"
)

// Kind is the kind of an encoded event, as it is stored under key 1.
type Kind uint8

// The kinds of event that this version writes. Each of them needs a line in the table kinds, a case
// in KindOf, an event type, its encoding and decoding, its NDJSON and its text in replay-tool, and
// a line in the documents. `go test . ./checkpoint ./cmd/replay-tool -run Kinds` lists the missing
// parts.
const (
	KindUpserted    Kind = 1
	KindAborted     Kind = 2
	KindRemoved     Kind = 3
	KindAbortBegun  Kind = 4
	KindCompensated Kind = 5
	KindEpochRaised Kind = 6
	KindDigest      Kind = 7
	KindRestored    Kind = 8
)

// Effect is the effect of an event of a kind on the row of its migration.
type Effect uint8

// The effects.
const (
	EffectUnknown Effect = iota // this version does not know the kind
	EffectRow                   // the event's checkpoint becomes the latest row
	EffectEnd                   // the migration has no row any more
	EffectAbort                 // the migration keeps its row, which shows the progress of an abort
	EffectNone                  // the migration keeps its row as it is
)

var effectNames = [...]string{EffectUnknown: "unknown", EffectRow: "row", EffectEnd: "end", EffectAbort: "abort", EffectNone: "none"}

// String returns the effect's name, such as "row".
func (e Effect) String() string {
	if int(e) >= len(effectNames) || effectNames[e] == "" {
		return fmt.Sprintf("Effect(%d)", uint8(e))
	}
	return effectNames[e]
}

// kinds is the one place that gives a kind its name and its effect. A kind without a line is
// unknown. A test compares the lines with the Kind constants.
var kinds = [...]struct {
	name   string
	effect Effect
}{
	KindUpserted:    {"upserted", EffectRow},
	KindAborted:     {"aborted", EffectEnd},
	KindRemoved:     {"removed", EffectEnd},
	KindAbortBegun:  {"abort_begun", EffectAbort},
	KindCompensated: {"compensated", EffectAbort},
	KindEpochRaised: {"epoch_raised", EffectNone},
	KindDigest:      {"digest", EffectNone},
	KindRestored:    {"restored", EffectRow},
}

// Kinds returns all kinds that this version writes, in ascending order.
func Kinds() []Kind {
	var known []Kind
	for k := range kinds {
		if kinds[k].effect != EffectUnknown {
			known = append(known, Kind(k))
		}
	}
	return known
}

// KindOf returns the kind that an event is stored as. It returns 0 for nil and for a pointer
// to an event, which AppendEvent refuses.
func KindOf(e Event) Kind {
	switch e.(type) {
	case Upserted:
		return KindUpserted
	case Aborted:
		return KindAborted
	case Removed:
		return KindRemoved
	case AbortBegun:
		return KindAbortBegun
	case Compensated:
		return KindCompensated
	case EpochRaised:
		return KindEpochRaised
	case Digest:
		return KindDigest
	case Restored:
		return KindRestored
	}
	return 0
}

// Effect returns the effect of an event of the kind. If this version does not know the kind, it
// returns EffectUnknown.
func (k Kind) Effect() Effect {
	if int(k) >= len(kinds) {
		return EffectUnknown
	}
	return kinds[k].effect
}

// String returns the kind's name, such as "upserted".
func (k Kind) String() string {
	if k.Effect() == EffectUnknown {
		return "Kind(" + strconv.Itoa(int(k)) + ")"
	}
	return kinds[k].name
}

// PeekKind returns an encoded event's kind without decoding the rest, and whether this version
// knows the kind. The kind is 0 if the event does not have the layout that AppendEvent writes, or
// if the kind is above 23.
func PeekKind(b []byte) (kind Kind, ok bool) {
	if len(b) < 3 || detcbor.MajorOf(b[0]) != detcbor.MajorMap || b[1] != keyKind || b[2] > detcbor.MaxDirect {
		return 0, false
	}
	kind = Kind(b[2])
	return kind, kind.Effect() != EffectUnknown
}

// Peek returns the kind and the migration of an encoded event in one pass, even if this version
// does not know the kind. It returns false if the event does not have the layout that
// AppendEvent writes, or if the kind is above 23.
func Peek(b []byte) (kind Kind, id MigrationID, ok bool) {
	const idAt = 5
	kind, _ = PeekKind(b)
	if kind == 0 || len(b) < idAt+len(id) || b[3] != keyID || b[4] != detcbor.MajorBytes|byte(len(id)) {
		return 0, MigrationID{}, false
	}
	return kind, MigrationID(b[idAt:]), true
}
