package checkpoint

import (
	"fmt"
	"hash/crc32"
	"unicode/utf8"
)

// DecodeEvent decodes an event that EncodeEvent encoded. It ignores unknown keys. It returns an
// *UnknownKindError for an event of a kind that this version does not know, and a
// *CRCMismatchError if the payload does not have the event's checksum. Its other errors are
// ErrMalformed, ErrNilMigrationID, ErrUnknownPhase, ErrUnknownCompensation and ErrTooLarge.
func DecodeEvent(b []byte) (Event, error) {
	if e, ok := readEvent(b); ok {
		return e, nil
	}
	return decodeWire(b)
}

// DecodeUpserted decodes an upserted event as DecodeEvent does, without the allocation for the
// Event. It returns ErrNotUpserted for an event of another kind that this version knows.
func DecodeUpserted(b []byte) (Checkpoint, error) {
	if c, ok := readUpserted(b); ok {
		return c, nil
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

// The read functions below decode an event or a payload only if its bytes are exactly those
// that AppendEvent or EncodePayload writes. They return false for all other bytes. The caller
// then uses the decoder of wire.go, which accepts more forms and returns the error.

// readEvent decodes an event of any kind.

func readEvent(b []byte) (Event, bool) {
	kind, _ := PeekKind(b)
	switch kind {
	case KindUpserted:
		if c, ok := readUpserted(b); ok {
			return Upserted{c}, true
		}
	case KindAborted:
		if e, ok := readAborted(b); ok {
			return e, true
		}
	case KindRemoved:
		c := cursor{b: b}
		id, timeMS := c.common(removedKeys, KindRemoved)
		if c.done() {
			return Removed{MigrationID: id, TimestampMS: timeMS}, true
		}
	}
	return nil, false
}

// readUpserted decodes an upserted event.
func readUpserted(b []byte) (Checkpoint, bool) {
	c := cursor{b: b}
	id, timeMS := c.common(upsertedKeys, KindUpserted)
	attempt := c.uint32(keyAttempt)
	phase := c.uint(keyPhase)
	payload := c.string(keyPayload, majorBytes)
	crc := c.uint32(keyCRC32C)
	if !c.done() || phase > uint64(PhaseComplete) || crc != crc32.Checksum(payload, castagnoli) {
		return Checkpoint{}, false
	}
	p, ok := readPayload(Phase(phase), payload)
	return Checkpoint{MigrationID: id, Attempt: attempt, Payload: p, CRC32C: crc, TimestampMS: timeMS}, ok
}

// readAborted decodes an aborted event.
func readAborted(b []byte) (Aborted, bool) {
	c := cursor{b: b}
	id, timeMS := c.common(abortedKeys, KindAborted)
	reason := c.string(keyReason, majorText)
	c.key(keyCompensations)
	n := c.head(majorArray)
	if c.failed() || len(b) > MaxEventBytes || n > uint64(len(c.left())/minCompensationBytes) || !utf8.Valid(reason) {
		return Aborted{}, false
	}
	e := Aborted{MigrationID: id, Reason: string(reason), TimestampMS: timeMS}
	if n > 0 {
		e.Compensations = make([]Compensation, n)
	}
	for i := range e.Compensations {
		c.headOf(majorArray, compensationElements)
		kind, group, peer, shard := c.head(majorUint), c.head(majorUint), c.head(majorUint), c.head(majorUint)
		if kind > uint64(RemoveGhostStub) || !CompensationKind(kind).known() {
			return Aborted{}, false
		}
		e.Compensations[i] = Compensation{
			Kind: CompensationKind(kind), GroupID: group, PeerID: peer, VShardID: c.fits32(shard),
		}
	}
	return e, c.done()
}

// common reads the head of an event's map and the keys that every event has. The cursor fails
// if the event has another number of keys, another kind, or the nil migration id.
func (c *cursor) common(keys uint64, kind Kind) (id MigrationID, timeMS uint64) {
	c.headOf(majorMap, keys)
	if c.uint(keyKind) != uint64(kind) {
		c.fail()
	}
	if s := c.string(keyID, majorBytes); len(s) == len(id) {
		id = MigrationID(s)
	}
	if id == (MigrationID{}) {
		c.fail()
	}
	return id, c.uint(keyTimeMS)
}

// readPayload decodes a payload of the phase.
func readPayload(phase Phase, b []byte) (Payload, bool) {
	c := cursor{b: b}
	switch phase { // Go evaluates the calls in a literal from left to right
	case PhaseAddLearner:
		c.headOf(majorMap, 6)
		p := AddLearner{
			VShardID: c.uint32(1), SourceNode: c.uint(2), TargetNode: c.uint(3), SourceGroup: c.uint(4),
			WritePauseBudgetUS: c.uint(5), StartedAtHLC: c.hlc(6),
		}
		return p, c.done()
	case PhaseCatchUp:
		c.headOf(majorMap, 2)
		p := CatchUp{VShardID: c.uint32(1), LearnerLogIndexAtAdd: c.uint(2)}
		return p, c.done()
	case PhasePromoteLearner:
		c.headOf(majorMap, 3)
		p := PromoteLearner{VShardID: c.uint32(1), TargetNode: c.uint(2), SourceGroup: c.uint(3)}
		return p, c.done()
	case PhaseLeadershipTransfer:
		c.headOf(majorMap, 4)
		p := LeadershipTransfer{
			VShardID: c.uint32(1), TargetIsVoter: c.bool(2), NewLeaderNodeID: c.uint(3), SourceGroup: c.uint(4),
		}
		return p, c.done()
	case PhaseCutover:
		c.headOf(majorMap, 3)
		p := Cutover{VShardID: c.uint32(1), NewLeaderNodeID: c.uint(2), SourceGroup: c.uint(3)}
		return p, c.done()
	case PhaseComplete:
		c.headOf(majorMap, 3)
		p := Complete{VShardID: c.uint32(1), ActualPauseUS: c.uint(2), GhostStubInstalled: c.bool(3)}
		return p, c.done()
	}
	return nil, false
}

// hlc reads a pair of a map: the key and a reading of a hybrid logical clock.
func (c *cursor) hlc(key byte) HLC {
	c.key(key)
	c.headOf(majorMap, 2)
	return HLC{WallNS: c.uint(1), Logical: c.uint32(2)}
}
