package oracle

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

// storeID is the migration id of the store's own events.
var storeID = uuid.Max

// decodeDigest reports whether the body of a digest event is valid.
func (e *Event) decodeDigest(m map[uint64]any) bool {
	state, _ := m[14].([]byte)
	chain, _ := m[15].([]byte)
	return e.Migration == storeID && len(state) == 32 && len(chain) == 32
}

// decodeRestored decodes the facts of a restored event, whose checkpoint is already decoded. It
// reports whether they are valid.
func (e *Event) decodeRestored() bool {
	var raw map[uint64]cbor.RawMessage
	var m map[uint64]any
	if cbor.Unmarshal(e.Body, &raw) != nil || cbor.Unmarshal(raw[16], &m) != nil || !isDeterministic(raw[16], m) {
		return false
	}
	f, before, ok := restoredFacts(e.Migration, m)
	if !ok || !f.fit(e) {
		return false
	}
	e.facts, e.abortBefore = f, before
	return true
}

// isDeterministic reports whether b is the deterministic encoding of the map, without a key whose
// value is zero.
func isDeterministic(b []byte, m map[uint64]any) bool {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return false
	}
	again, err := mode.Marshal(m)
	return err == nil && bytes.Equal(again, b)
}

// restoredFacts decodes the map of facts. It also reports whether the checkpoint is newer than the
// abort under way.
func restoredFacts(id uuid.UUID, m map[uint64]any) (f Facts, before, ok bool) {
	number := map[uint64]uint64{}
	for key, value := range m {
		n, isNumber := value.(uint64)
		switch {
		case key >= 1 && key <= 9 && isNumber && n > 0:
			number[key] = n
		case key < 12 || key > 14:
			return f, false, false
		}
	}
	if number[1] > 3 || number[7] > math.MaxUint32 || number[9] > 63 || uint64(bits.Len64(number[9])) != number[8] {
		return f, false, false
	}
	f = Facts{
		SourceNode: number[2], TargetNode: number[3], SourceGroup: number[4], WritePauseBudgetUS: number[5], WallNS: number[6], Logical: number[7],
		HasTarget: number[1]&1 != 0, HasSource: number[1]&2 != 0, Furthest: number[8],
	}
	for i := range f.Phases {
		f.Phases[i] = number[9]>>i&1 == 1
	}
	if f, ok = f.withAttempts(m[12]); ok {
		f, ok = f.withTargets(m[13])
	}
	if abort, has := m[14]; ok && has {
		f, before, ok = f.withAbort(id, abort)
	}
	return f, before, ok
}

// withAttempts returns the facts with the highest attempts, if there are any.
func (f Facts) withAttempts(value any) (Facts, bool) {
	list, isList := value.([]any)
	if value == nil {
		return f, true
	}
	if !isList || len(list) != len(f.Attempts) {
		return f, false
	}
	for i := range list {
		n, isNumber := list[i].(uint64)
		if !isNumber || n > math.MaxUint32 {
			return f, false
		}
		f.Attempts[i] = n
	}
	return f, slices.Max(f.Attempts[:]) > 0
}

// withTargets returns the facts with the list of targets, if there is one.
func (f Facts) withTargets(value any) (Facts, bool) {
	if value == nil {
		if f.HasTarget {
			f = f.withTarget(f.SourceGroup, f.TargetNode)
		}
		return f, true
	}
	list, _ := value.([]any)
	var pairs []string
	for _, target := range list {
		pair, _ := target.([]any)
		if len(pair) != 2 {
			return f, false
		}
		group, isGroup := pair[0].(uint64)
		node, isNode := pair[1].(uint64)
		if !isGroup || !isNode {
			return f, false
		}
		pairs = append(pairs, fmt.Sprintf("%d:%d", group, node))
	}
	f.Targets = strings.Join(pairs, " ")
	return f, len(pairs) >= 2 && len(pairs) <= maxTargets && f.HasTarget
}

// withAbort returns the facts with the abort under way. It also reports whether the checkpoint is
// newer.
func (f Facts) withAbort(id uuid.UUID, value any) (facts Facts, before, ok bool) {
	m, _ := value.(map[any]any)
	var begun Event
	begun.Body, _ = m[uint64(2)].([]byte)
	var keys map[uint64]any
	if cbor.Unmarshal(begun.Body, &keys) != nil || len(keys) != 5 || !isDeterministic(begun.Body, keys) ||
		!begun.decodeBody() || begun.Kind != KindAbortBegun || begun.Migration != id {
		return f, false, false
	}
	known := 1
	f = f.afterAbortEvent(begun)
	if flag, has := m[uint64(4)]; has {
		known++
		if before = flag == uint64(1); !before {
			return f, false, false
		}
	}
	if bitmap, has := m[uint64(5)]; has {
		known++
		b, _ := bitmap.([]byte)
		if len(b) != (len(begun.Steps)+7)/8 {
			return f, false, false
		}
		finished := 0
		for i := range 8 * len(b) {
			if b[i/8]>>(i%8)&1 == 1 {
				if finished++; i >= len(begun.Steps) {
					return f, false, false
				}
				f = f.afterAbortEvent(Event{Kind: KindCompensated, Step: uint64(i)})
			}
		}
		if finished == 0 {
			return f, false, false
		}
	}
	return f, before, len(m) == known
}

// fit reports whether the facts fit each other and the checkpoint of the event.
func (f Facts) fit(e *Event) bool {
	for i, n := range f.Attempts {
		if n > 0 && !f.Phases[i] {
			return false
		}
	}
	target := f.HasTarget || f.TargetNode == 0 && f.SourceGroup == 0
	source := f.HasSource || f.SourceNode == 0 && f.WritePauseBudgetUS == 0 && f.WallNS == 0 && f.Logical == 0
	return f.Phases[e.Phase-1] && f.Attempts[e.Phase-1] >= e.Attempt && target && source
}

// restore gives a migration the row and the facts of a restored event. No event before it matters any
// more.
func (m *migration) restore(e Event) {
	m.row, m.rowSeq, m.rowPrev = &e, e.Seq, e.Prev
	m.facts = e.facts
	if m.facts.Abort.Exists {
		if m.facts.Abort.Seq = e.Seq; e.abortBefore {
			m.facts.Abort.Seq = 0
		}
	}
	here := mark{seq: e.Seq}
	m.begin, m.rowSource, m.target, m.source = here, here, here, here
}

// IsRestored reports whether a body is that of a valid restored event.
func IsRestored(body []byte) bool {
	e := Event{Body: body}
	return e.decodeBody() && e.Kind == KindRestored
}
