package checkpoint

import (
	"fmt"
	"hash/crc32"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"migrationlog/internal/detcbor"
)

// Field is one part of an encoded event, for a person who looks at its bytes.
type Field struct {
	Offset, Length int    // of its bytes in the event
	Name           string // as in NDJSON; a field of the payload begins with "payload."
	Value          string
	Fault          string // describes the fault; "" if there is none
}

// keyNames has the names of the keys of an event, as in NDJSON.
var keyNames = [...]string{
	keyKind: "kind", keyID: "migration_id", keyTimeMS: "ts_ms", keyAttempt: "attempt", keyPhase: "phase", keyPayload: "payload",
	keyCRC32C: "crc32c", keyReason: "reason", keyCompensations: "compensations", keyStep: "step", keyEpoch: "epoch",
	keyIndex: "raft_index", keyTerm: "raft_term", keyStateDigest: "state_digest", keyChainDigest: "chain_digest", keyFacts: "facts",
}

// Fields returns the parts of an encoded event in the order of their bytes. Together they are all of
// b. The event may be damaged. All bytes from the first one that is not in the deterministic
// encoding are one field with a fault. Fields does not check whether b is an event, see Check.
func Fields(b []byte) []Field {
	r := fieldReader{b: b, c: detcbor.NewCursor(b)}
	keys := r.c.Head(detcbor.MajorMap)
	r.add("event", fmt.Sprintf("map of %d keys", keys))
	for ; keys > 0 && !r.c.Failed(); keys-- {
		r.readPair()
	}
	r.end()
	return r.fields
}

// fieldReader reads the fields of an event.
type fieldReader struct {
	b       []byte
	c       detcbor.Cursor
	at      int // end of the last field
	fields  []Field
	phase   Phase
	payload []byte
}

// add adds the bytes up to the cursor as a field. If the cursor has failed, it adds nothing.
func (r *fieldReader) add(name, value string) {
	if r.c.Failed() {
		return
	}
	end := len(r.b) - len(r.c.Left())
	r.fields = append(r.fields, Field{Offset: r.at, Length: end - r.at, Name: name, Value: value})
	r.at = end
}

// end adds the bytes that are left.
func (r *fieldReader) end() {
	if left := len(r.b) - r.at; left > 0 {
		fault := "bytes after the end of the event"
		if r.c.Failed() {
			fault = "not in the encoding of an event"
		}
		r.fields = append(r.fields, Field{r.at, left, "rest", fmt.Sprintf("%d bytes", left), fault})
	}
}

// readPair reads a key and its value.
func (r *fieldReader) readPair() {
	key := r.c.Head(detcbor.MajorUint)
	name := fmt.Sprintf("key %d", key)
	if key < uint64(len(keyNames)) && key > 0 {
		name = keyNames[key]
	}
	switch byte(min(key, 0xff)) {
	case keyID:
		r.add(name, idText(r.c.Span(detcbor.MajorBytes)))
	case keyReason:
		r.add(name, strconv.Quote(string(r.c.Span(detcbor.MajorText))))
	case keyPayload:
		r.readPayload(name)
	case keyCompensations:
		n := r.c.Head(detcbor.MajorArray)
		r.add(name, fmt.Sprintf("list of %d", n))
		for i := uint64(0); i < n && !r.c.Failed(); i++ {
			c := eventCursor{Cursor: r.c}
			compensation := c.readCompensation()
			r.c = c.Cursor
			r.add(fmt.Sprintf("compensations.%d", i), compensationText(compensation))
		}
	case keyStateDigest, keyChainDigest:
		r.add(name, fmt.Sprintf("%x", r.c.Span(detcbor.MajorBytes)))
	case keyFacts:
		r.readMap(name, reflect.TypeFor[factsWire]())
	case keyKind, keyTimeMS, keyAttempt, keyPhase, keyCRC32C, keyStep, keyEpoch, keyIndex, keyTerm:
		n := r.c.Head(detcbor.MajorUint)
		value, fault := r.numberText(byte(key), n)
		r.add(name, value)
		if last := len(r.fields) - 1; !r.c.Failed() {
			r.fields[last].Fault = fault
		}
	default:
		r.c.Skip()
		r.add(name, "unknown")
	}
}

// numberText returns the value of a key with a number, and its fault, which is "" if there is none.
func (r *fieldReader) numberText(key byte, n uint64) (value, fault string) {
	value = strconv.FormatUint(n, 10)
	switch key {
	case keyKind:
		if !knownKind(n) {
			return value, "a kind that this version does not know"
		}
		return value + " " + Kind(n).String(), ""
	case keyPhase:
		if n == 0 || n > uint64(PhaseComplete) {
			return value, "an unknown phase"
		}
		r.phase = Phase(n)
		return value + " " + r.phase.String(), ""
	case keyCRC32C:
		if got := crc32.Checksum(r.payload, castagnoli); uint64(got) != n {
			return fmt.Sprintf("%08x", n), fmt.Sprintf("the payload has %08x", got)
		}
		return fmt.Sprintf("%08x", n), ""
	}
	return value, ""
}

// readPayload reads the head of the payload's byte string, and the fields of the payload.
func (r *fieldReader) readPayload(name string) {
	n := r.c.Head(detcbor.MajorBytes)
	if n > uint64(len(r.c.Left())) {
		r.c.Fail()
		return
	}
	r.payload = r.c.Left()[:n]
	r.add(name, fmt.Sprintf("%d bytes", n))
	var payload reflect.Type
	_, _ = ReadPayload(r.phase, func(into any) error { payload = reflect.TypeOf(into).Elem(); return nil })
	r.readMap(name, payload)
}

// readMap reads a map with integer keys. The names of its keys are those of a struct's fields, or
// their numbers if it has no such field.
func (r *fieldReader) readMap(name string, t reflect.Type) {
	pairs := r.c.Head(detcbor.MajorMap)
	r.add(name, fmt.Sprintf("map of %d keys", pairs))
	for ; pairs > 0 && !r.c.Failed(); pairs-- {
		key := r.c.Head(detcbor.MajorUint)
		field, ok := fieldOf(t, key)
		full := fmt.Sprintf("%s.%d", name, key)
		if ok {
			json, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			full = name + "." + json
		}
		left := r.c.Left()
		switch {
		case len(left) == 0:
			r.c.Fail()
		case detcbor.MajorOf(left[0]) == detcbor.MajorUint:
			r.add(full, strconv.FormatUint(r.c.Head(detcbor.MajorUint), 10))
		case detcbor.MajorOf(left[0]) == detcbor.MajorMap && ok:
			r.readMap(full, field.Type)
		case detcbor.MajorOf(left[0]) == detcbor.MajorArray && ok:
			n := r.c
			items := n.Head(detcbor.MajorArray)
			r.c.Skip()
			r.add(full, fmt.Sprintf("list of %d", items))
		case detcbor.MajorOf(left[0]) == detcbor.MajorBytes && ok:
			r.add(full, fmt.Sprintf("%d bytes", len(r.c.Span(detcbor.MajorBytes))))
		default:
			r.c.Skip()
			r.add(full, itemText(left[0]))
		}
	}
}

// fieldOf returns the field of a struct with that CBOR key.
func fieldOf(t reflect.Type, key uint64) (reflect.StructField, bool) {
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return reflect.StructField{}, false
	}
	for i := range t.NumField() {
		if number, _, _ := strings.Cut(t.Field(i).Tag.Get("cbor"), ","); number == strconv.FormatUint(key, 10) {
			return t.Field(i), true
		}
	}
	return reflect.StructField{}, false
}

// itemText returns the value of an item that is neither a number nor a map, from its first byte.
func itemText(first byte) string {
	c := detcbor.NewCursor([]byte{0, first})
	value := c.Bool(0)
	if c.Failed() {
		return "unknown"
	}
	return strconv.FormatBool(value)
}

func idText(b []byte) string {
	if id, err := uuid.FromBytes(b); err == nil {
		return id.String()
	}
	return fmt.Sprintf("%x", b)
}

func compensationText(c Compensation) string {
	if c.Kind == RemoveGhostStub {
		return fmt.Sprintf("%s, vshard %d", c.Kind, c.VShardID)
	}
	return fmt.Sprintf("%s, group %d, node %d", c.Kind, c.GroupID, c.PeerID)
}
