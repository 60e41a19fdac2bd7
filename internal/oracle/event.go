package oracle

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

// The kinds of event that version 1 of the format knows.
const (
	KindUpserted    = 1
	KindAborted     = 2
	KindRemoved     = 3
	KindAbortBegun  = 4
	KindCompensated = 5
	KindEpochRaised = 6
	KindDigest      = 7
	KindRestored    = 8
)

// The phases with payloads that change the facts of a migration.
const (
	phaseAddLearner         = 1
	phasePromoteLearner     = 3
	phaseLeadershipTransfer = 4
	phaseCutover            = 5
)

const (
	headerBytes = 40
	maxBody     = 65536
	maxSeq      = 1 << 62
	maxPrefix   = 3 // bytes of the uvarint of the longest frame
	maxTargets  = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func mixedCRC(b []byte, log uuid.UUID) uint32 {
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, log[:])
}

// Event is an intact frame.
type Event struct {
	Seq, Prev, Durable uint64
	HeaderCRC          uint32
	Segment            uint64 // the number in the name of its segment
	Offset, Length     int    // of the frame in the segment, without the length prefix
	Body               []byte

	Kind       uint64
	Migration  uuid.UUID
	TimeMS     uint64
	Attempt    uint64
	Phase      uint64
	Payload    []byte
	PayloadCRC uint64
	Reason     string
	Steps      []any // the compensations, each a list of four numbers
	Step       uint64
	Epoch      uint64
	Index      uint64

	facts       Facts // of a restored event
	abortBefore bool  // of a restored event: the checkpoint is newer than the abort under way
}

// known reports whether the event is of a kind that version 1 of the format knows.
func (e Event) known() bool { return e.Kind >= KindUpserted && e.Kind <= KindRestored }

// changesRow reports whether the event gives its migration a row, or ends the row.
func (e Event) changesRow() bool {
	return e.Kind >= KindUpserted && e.Kind <= KindRemoved || e.Kind == KindRestored
}

// sameCheckpoint reports whether two upserted or restored events have the same checkpoint. A snapshot
// keeps no more of an event.
func (e Event) sameCheckpoint(other Event) bool {
	return e.Migration == other.Migration && e.TimeMS == other.TimeMS && e.Attempt == other.Attempt && e.Phase == other.Phase &&
		string(e.Payload) == string(other.Payload) && e.PayloadCRC == other.PayloadCRC
}

// decodeBody decodes the body into the fields of the event. It reports whether the body is valid.
func (e *Event) decodeBody() bool {
	var m map[uint64]any
	if cbor.Unmarshal(e.Body, &m) != nil {
		return false
	}
	id, _ := m[2].([]byte)
	kind, _ := m[1].(uint64)
	timeMS, hasTime := m[3].(uint64)
	if len(id) != 16 || kind == 0 || !hasTime || uuid.UUID(id) == uuid.Nil {
		return false
	}
	e.Kind, e.Migration, e.TimeMS = kind, uuid.UUID(id), timeMS
	e.Epoch, _ = m[11].(uint64)
	e.Index, _ = m[12].(uint64)
	var ok [4]bool
	switch kind {
	case KindAborted, KindAbortBegun:
		e.Reason, ok[0] = m[8].(string)
		e.Steps, ok[1] = m[9].([]any)
		return ok[0] && ok[1]
	case KindCompensated:
		e.Step, ok[0] = m[10].(uint64)
		return ok[0]
	case KindEpochRaised:
		return e.Epoch > 0
	case KindDigest:
		return e.decodeDigest(m)
	case KindUpserted, KindRestored:
	default:
		return true
	}
	e.Attempt, ok[0] = m[4].(uint64)
	e.Phase, ok[1] = m[5].(uint64)
	e.Payload, ok[2] = m[6].([]byte)
	e.PayloadCRC, ok[3] = m[7].(uint64)
	return ok == [4]bool{true, true, true, true} && e.Phase >= 1 && e.Phase <= 6 &&
		uint64(crc32.Checksum(e.Payload, castagnoli)) == e.PayloadCRC && (kind == KindUpserted || e.decodeRestored())
}

// header is a valid header of a frame.
type header struct {
	at                 int // offset of its first byte
	seq, prev, durable uint64
	body               int  // length of the body in bytes
	intact             bool // the body's checksum is valid too
	headerCRC          uint32
}

// parseHeader reads the header at data[at:]. It reports whether the header is valid.
func parseHeader(data []byte, at int, log uuid.UUID) (h header, ok bool) {
	b := data[at:]
	if len(b) < headerBytes || string(b[:4]) != "\xf7ML\x01" {
		return header{}, false
	}
	le := binary.LittleEndian
	h = header{
		at: at, body: int(le.Uint32(b[4:])), headerCRC: le.Uint32(b[36:]),
		seq: le.Uint64(b[8:]), prev: le.Uint64(b[16:]), durable: le.Uint64(b[24:]),
	}
	if h.headerCRC != mixedCRC(b[:36], log) || h.body > maxBody ||
		h.seq == 0 || h.seq > maxSeq || h.prev >= h.seq || h.durable >= h.seq {
		return header{}, false
	}
	h.intact = len(b) >= headerBytes+h.body && crc32.Checksum(b[headerBytes:headerBytes+h.body], castagnoli) == le.Uint32(b[32:])
	return h, true
}

func (h header) end() int { return h.at + headerBytes + h.body }

// AppendEntry appends the entry of a frame to dst. An entry is a length prefix, a header and a
// body.
func AppendEntry(dst []byte, log uuid.UUID, seq, prev, durable uint64, body []byte) []byte {
	le := binary.LittleEndian
	dst = binary.AppendUvarint(dst, uint64(headerBytes+len(body)))
	at := len(dst)
	dst = append(dst, 0xF7, 'M', 'L', 1)
	dst = le.AppendUint32(dst, uint32(len(body)))
	dst = le.AppendUint64(dst, seq)
	dst = le.AppendUint64(dst, prev)
	dst = le.AppendUint64(dst, durable)
	dst = le.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	dst = le.AppendUint32(dst, mixedCRC(dst[at:], log))
	return append(dst, body...)
}

// UnknownBody returns the body of an event of a kind that version 1 does not know.
func UnknownBody(kind uint64, id uuid.UUID, timeMS uint64) []byte {
	b, err := cbor.Marshal(map[uint64]any{1: kind, 2: id[:], 3: timeMS, 4: "a key of a later version"})
	if err != nil {
		panic(err) // cannot happen: all values can be encoded
	}
	return b
}

// Facts has the values that the events of one incarnation have set so far.
type Facts struct {
	SourceNode, TargetNode, SourceGroup, WritePauseBudgetUS, WallNS, Logical uint64
	HasTarget, HasSource                                                     bool

	Furthest uint64
	Phases   [6]bool   // recorded, at index phase-1
	Attempts [6]uint64 // the highest of each phase
	Began    uint64
	Targets  string // all pairs of group and node in order, separated by spaces
	Unknown  uint64
	Abort    Abort
}

// Abort is an abort that was begun and is not finished. It is zero if there is none.
type Abort struct {
	Exists      bool
	Seq, TimeMS uint64
	Reason      string
	Steps       string // the compensations
	Done        string // a digit for each compensation, 1 if it is finished
}

// after returns the facts after a checkpoint. It also reports whether the checkpoint sets the
// target and the source.
func (f Facts) after(e Event) (facts Facts, target, source bool) {
	var m map[uint64]any
	if cbor.Unmarshal(e.Payload, &m) != nil {
		return f, false, false
	}
	f = f.withPhase(e)
	f.Unknown = 0
	number := func(key uint64) uint64 { n, _ := m[key].(uint64); return n }
	switch e.Phase {
	case phaseAddLearner:
		hlc, _ := m[6].(map[any]any)
		wall, _ := hlc[uint64(1)].(uint64)
		logical, _ := hlc[uint64(2)].(uint64)
		f.SourceNode, f.WritePauseBudgetUS, f.WallNS, f.Logical, f.HasSource = number(2), number(5), wall, logical, true
		return f.withTarget(number(4), number(3)), true, true
	case phasePromoteLearner, phaseCutover:
		return f.withTarget(number(3), number(2)), true, false
	case phaseLeadershipTransfer:
		return f.withTarget(number(4), number(3)), true, false
	}
	return f, false, false
}

// withPhase returns the facts with the phase and the attempt of a checkpoint.
func (f Facts) withPhase(e Event) Facts {
	f.Furthest = max(f.Furthest, e.Phase)
	f.Phases[e.Phase-1] = true
	f.Attempts[e.Phase-1] = max(f.Attempts[e.Phase-1], e.Attempt)
	return f
}

func (f Facts) withTarget(group, node uint64) Facts {
	pair := fmt.Sprintf("%d:%d", group, node)
	if known := strings.Fields(f.Targets); len(known) < maxTargets && !slices.Contains(known, pair) {
		f.Targets = strings.TrimSpace(f.Targets + " " + pair)
	}
	f.TargetNode, f.SourceGroup, f.HasTarget = node, group, true
	return f
}

// afterAbortEvent returns the facts after an event of an abort. A repeated abort_begun with the
// same compensations keeps the finished steps.
func (f Facts) afterAbortEvent(e Event) Facts {
	if e.Kind == KindAbortBegun {
		next := Abort{Exists: true, Seq: e.Seq, TimeMS: e.TimeMS, Reason: e.Reason, Steps: fmt.Sprint(e.Steps), Done: strings.Repeat("0", len(e.Steps))}
		if f.Abort.Exists && f.Abort.Steps == next.Steps {
			next.Done = f.Abort.Done
		}
		f.Abort = next
	} else if step := e.Step; step < uint64(len(f.Abort.Done)) {
		f.Abort.Done = f.Abort.Done[:step] + "1" + f.Abort.Done[step+1:]
	}
	return f
}

// AppendWatermark appends the content of a watermark file to dst.
func AppendWatermark(dst []byte, log uuid.UUID, seq uint64) []byte {
	digits := fmt.Appendf(nil, "%020d", seq)
	return fmt.Appendf(append(dst, digits...), " %08x\n", mixedCRC(digits, log))
}
