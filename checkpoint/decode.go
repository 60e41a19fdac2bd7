package checkpoint

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"unicode/utf8"

	"migrationlog/internal/detcbor"
)

// DecodeEvent decodes an event that EncodeEvent encoded. It ignores unknown keys. It returns an
// *UnknownKindError for an event of a kind that this version does not know, and a
// *CRCMismatchError if the payload does not have the event's checksum. Its other errors are
// ErrMalformed, ErrNilMigrationID, ErrUnknownPhase, ErrUnknownCompensation, ErrInvalidFacts and
// ErrTooLarge.
func DecodeEvent(b []byte) (Event, error) {
	if e, ok := readEvent(b); ok {
		return e, nil
	}
	return decodeWire(b)
}

// DecodeUpserted decodes an upserted event as DecodeEvent does, without the allocation for the
// Event. It returns ErrNotUpserted for an event of another kind that this version knows.
func DecodeUpserted(b []byte) (Checkpoint, error) {
	if u, ok := readUpserted(b); ok {
		return u.Checkpoint, nil
	}
	e, err := decodeWire(b)
	if err != nil {
		return Checkpoint{}, err
	}
	u, ok := e.(Upserted)
	if !ok {
		return Checkpoint{}, fmt.Errorf("%w: migration %s: the kind is %s", ErrNotUpserted, e.Migration(), KindOf(e))
	}
	return u.Checkpoint, nil
}

// DecodePayload decodes a payload of the phase that EncodePayload encoded. A payload has exactly
// one encoding, since its CRC32C is computed over that one. DecodePayload returns ErrMalformed
// for the same values in another form, and if a field is missing or unknown. It returns
// ErrUnknownPhase for a phase outside the six.
func DecodePayload(phase Phase, b []byte) (Payload, error) {
	if p, ok := readPayload(phase, b); ok {
		return p, nil
	}
	return decodeWirePayload(phase, b)
}

// The read functions below are the fast path. They decode only the encoding that AppendEvent and
// EncodePayload write. For all other bytes they return false.
// The caller then uses the reference decoder in wire.go, which accepts an event in other forms of
// CBOR too and returns the error.

// readEvent decodes an event of any kind.
func readEvent(b []byte) (Event, bool) {
	kind, _ := PeekKind(b)
	var h eventCursor
	switch kind {
	case KindUpserted:
		if e, ok := readUpserted(b); ok {
			return e, true
		}
	case KindAborted, KindAbortBegun:
		if e, ok := readAborted(b, kind); ok {
			if kind == KindAbortBegun {
				return AbortBegun(e), true
			}
			return e, true
		}
	case KindRemoved:
		h.readHead(b, kind)
		if epoch, ok := h.end(); ok {
			return Removed{MigrationID: h.id, TimestampMS: h.timeMS, Epoch: epoch}, true
		}
	case KindCompensated:
		h.readHead(b, kind)
		step := h.Uint32(keyStep)
		if epoch, ok := h.end(); ok {
			return Compensated{MigrationID: h.id, Step: step, TimestampMS: h.timeMS, Epoch: epoch}, true
		}
	case KindEpochRaised:
		h.readHead(b, kind)
		if epoch, ok := h.end(); ok && epoch > 0 {
			return EpochRaised{MigrationID: h.id, TimestampMS: h.timeMS, Epoch: epoch}, true
		}
	case KindDigest:
		if e, ok := h.readDigest(b); ok {
			return e, true
		}
	case KindRestored:
		if e, ok := readRestored(b); ok {
			return e, true
		}
	}
	return nil, false
}

// readUpserted decodes an upserted event.
func readUpserted(b []byte) (Upserted, bool) {
	var h upsertedHead
	if !h.read(b) {
		return Upserted{}, false
	}
	c, ok := h.checkpoint()
	return Upserted{c, h.epoch}, ok
}

// upsertedHead has the fields of an upserted event. The payload is not decoded, but its checksum
// matches.
type upsertedHead struct {
	eventCursor
	attempt, crc32c uint32
	phase           Phase
	payload         []byte
	epoch           uint64
}

// read decodes an upserted event up to its payload. It reports whether this was possible.
func (h *upsertedHead) read(b []byte) (ok bool) {
	ok = h.readCheckpoint(b, KindUpserted)
	h.epoch = h.readAdded()
	return ok && h.Done()
}

// readCheckpoint decodes the keys of an event of this kind up to the checksum of its payload. It
// reports whether they are those of a checkpoint. The cursor may have failed nevertheless.
func (h *upsertedHead) readCheckpoint(b []byte, kind Kind) bool {
	h.readHead(b, kind)
	h.attempt = h.Uint32(keyAttempt)
	phase := h.Uint(keyPhase)
	h.payload = h.String(keyPayload, detcbor.MajorBytes)
	h.crc32c = h.Uint32(keyCRC32C)
	h.phase = Phase(phase)
	return phase <= uint64(PhaseComplete) && h.crc32c == crc32.Checksum(h.payload, castagnoli)
}

// checkpoint returns the checkpoint. It returns false if the payload is not one of the phase.
func (h *upsertedHead) checkpoint() (Checkpoint, bool) {
	p, ok := readPayload(h.phase, h.payload)
	return Checkpoint{MigrationID: h.id, Attempt: h.attempt, Payload: p, CRC32C: h.crc32c, TimestampMS: h.timeMS}, ok
}

// readAborted decodes an aborted event, or an event of another kind that has the same keys.
func readAborted(b []byte, kind Kind) (Aborted, bool) {
	var c eventCursor
	reason, n, ok := c.readAbort(b, kind)
	if !ok {
		return Aborted{}, false
	}
	e := Aborted{MigrationID: c.id, Reason: string(reason), TimestampMS: c.timeMS}
	if n > 0 {
		e.Compensations = make([]Compensation, n)
	}
	for i := range e.Compensations {
		e.Compensations[i] = c.readCompensation()
	}
	e.Epoch, ok = c.end()
	return e, ok
}

// eventCursor reads an event after the keys that every event has.
type eventCursor struct {
	detcbor.Cursor
	id     MigrationID
	timeMS uint64
	added  uint64 // number of the keys that a store has added: the epoch and the position
}

// readHead reads the head of an event's map and the keys that every event has. The cursor fails if
// the number of keys does not fit the kind, if the event is of another kind, or if the migration id
// is nil.
func (c *eventCursor) readHead(b []byte, kind Kind) {
	c.Cursor = detcbor.NewCursor(b)
	if c.readUsualHead(b, kind) {
		return
	}
	keys := c.Head(detcbor.MajorMap)
	c.added = keys - contentKeys[kind]
	if c.added > maxAddedKeys || c.Uint(keyKind) != uint64(kind) {
		c.Fail()
	}
	if s := c.String(keyID, detcbor.MajorBytes); len(s) == len(c.id) {
		c.id = MigrationID(s)
	}
	if c.id == (MigrationID{}) {
		c.Fail()
	}
	c.timeMS = c.Uint(keyTimeMS)
}

// readUsualHead is readHead for a time of 8 bytes, which almost every event has. It is faster because
// it reads all items at fixed offsets. It returns false and reads nothing if the head differs.
func (c *eventCursor) readUsualHead(b []byte, kind Kind) bool {
	const (
		idAt   = 5
		timeAt = idAt + len(MigrationID{}) + 2
		end    = timeAt + 8
	)
	if len(b) < end {
		return false
	}
	keys, id, timeMS := uint64(b[0]-detcbor.MajorMap), MigrationID(b[idAt:]), binary.BigEndian.Uint64(b[timeAt:])
	c.added = keys - contentKeys[kind]
	if c.added > maxAddedKeys || b[1] != keyKind || b[2] != byte(kind) ||
		b[3] != keyID || b[4] != detcbor.MajorBytes|byte(len(id)) || id == (MigrationID{}) ||
		b[timeAt-2] != keyTimeMS || b[timeAt-1] != detcbor.HeadOfUint64 || timeMS <= math.MaxUint32 {
		return false
	}
	c.id, c.timeMS = id, timeMS
	c.Advance(end)
	return true
}

// readAbort reads an event with a reason and compensations, up to the first compensation. It returns
// the number of the compensations, which readCompensation reads.
func (c *eventCursor) readAbort(b []byte, kind Kind) (reason []byte, compensations uint64, ok bool) {
	c.readHead(b, kind)
	reason = c.String(keyReason, detcbor.MajorText)
	c.Key(keyCompensations)
	n := c.Head(detcbor.MajorArray)
	ok = !c.Failed() && len(b) <= MaxEventBytes && n <= uint64(len(c.Left())/minCompensationBytes) && utf8.Valid(reason)
	return reason, n, ok
}

// readCompensation reads one compensation. The cursor fails if its kind is unknown.
func (c *eventCursor) readCompensation() Compensation {
	c.HeadOf(detcbor.MajorArray, compensationElements)
	kind, group, peer, shard := c.Head(detcbor.MajorUint), c.Head(detcbor.MajorUint), c.Head(detcbor.MajorUint), c.Head(detcbor.MajorUint)
	if kind > uint64(RemoveGhostStub) || !CompensationKind(kind).known() {
		c.Fail()
	}
	return Compensation{Kind: CompensationKind(kind), GroupID: group, PeerID: peer, VShardID: c.Fits32(shard)}
}

// end reads the keys that a store has added, which are the last ones of most kinds. It reports
// whether the whole event was read.
func (c *eventCursor) end() (epoch uint64, ok bool) {
	epoch = c.readAdded()
	return epoch, c.Done()
}

// readAdded reads the keys that a store has added. It skips the position.
func (c *eventCursor) readAdded() (epoch uint64) {
	last := uint64(keyEpoch) - 1
	for ; c.added > 0; c.added-- {
		key, value := c.Head(detcbor.MajorUint), c.Head(detcbor.MajorUint)
		if key <= last || key > uint64(keyTerm) || value == 0 {
			c.Fail()
			return 0
		}
		if last = key; key == uint64(keyEpoch) {
			epoch = value
		}
	}
	return epoch
}

// readPayload decodes a payload of the phase.
func readPayload(phase Phase, b []byte) (Payload, bool) {
	c := detcbor.NewCursor(b)
	switch phase {
	case PhaseAddLearner:
		p := readAddLearner(&c)
		return p, c.Done()
	case PhaseCatchUp:
		p := readCatchUp(&c)
		return p, c.Done()
	case PhasePromoteLearner:
		p := readPromoteLearner(&c)
		return p, c.Done()
	case PhaseLeadershipTransfer:
		p := readLeadershipTransfer(&c)
		return p, c.Done()
	case PhaseCutover:
		p := readCutover(&c)
		return p, c.Done()
	case PhaseComplete:
		p := readComplete(&c)
		return p, c.Done()
	}
	return nil, false
}

// The functions below decode one payload each. Go evaluates the calls in a literal from left to
// right.

func readAddLearner(c *detcbor.Cursor) AddLearner {
	c.HeadOf(detcbor.MajorMap, 6)
	return AddLearner{
		VShardID: c.Uint32(1), SourceNode: c.Uint(2), TargetNode: c.Uint(3), SourceGroup: c.Uint(4),
		WritePauseBudgetUS: c.Uint(5), StartedAtHLC: hlc(c, 6),
	}
}

func readCatchUp(c *detcbor.Cursor) CatchUp {
	c.HeadOf(detcbor.MajorMap, 2)
	return CatchUp{VShardID: c.Uint32(1), LearnerLogIndexAtAdd: c.Uint(2)}
}

func readPromoteLearner(c *detcbor.Cursor) PromoteLearner {
	c.HeadOf(detcbor.MajorMap, 3)
	return PromoteLearner{VShardID: c.Uint32(1), TargetNode: c.Uint(2), SourceGroup: c.Uint(3)}
}

func readLeadershipTransfer(c *detcbor.Cursor) LeadershipTransfer {
	c.HeadOf(detcbor.MajorMap, 4)
	return LeadershipTransfer{
		VShardID: c.Uint32(1), TargetIsVoter: c.Bool(2), NewLeaderNodeID: c.Uint(3), SourceGroup: c.Uint(4),
	}
}

func readCutover(c *detcbor.Cursor) Cutover {
	c.HeadOf(detcbor.MajorMap, 3)
	return Cutover{VShardID: c.Uint32(1), NewLeaderNodeID: c.Uint(2), SourceGroup: c.Uint(3)}
}

func readComplete(c *detcbor.Cursor) Complete {
	c.HeadOf(detcbor.MajorMap, 3)
	return Complete{VShardID: c.Uint32(1), ActualPauseUS: c.Uint(2), GhostStubInstalled: c.Bool(3)}
}

// hlc reads a key and its value, which is a reading of a hybrid logical clock.
func hlc(c *detcbor.Cursor, key byte) HLC {
	c.Key(key)
	c.HeadOf(detcbor.MajorMap, 2)
	return HLC{WallNS: c.Uint(1), Logical: c.Uint32(2)}
}
