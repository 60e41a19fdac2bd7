package checkpoint

import (
	"fmt"
	"hash/crc32"
	"unicode/utf8"

	"migrationlog/internal/detcbor"
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

// The read functions below are the fast path. They decode only the encoding that AppendEvent and
// EncodePayload write. For all other bytes they return false.
// The caller then uses the reference decoder in wire.go, which accepts an event in other forms of
// CBOR too and returns the error.

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
		c := detcbor.NewCursor(b)
		id, timeMS := common(&c, removedKeys, KindRemoved)
		if c.Done() {
			return Removed{MigrationID: id, TimestampMS: timeMS}, true
		}
	}
	return nil, false
}

// readUpserted decodes an upserted event.
func readUpserted(b []byte) (Checkpoint, bool) {
	c := detcbor.NewCursor(b)
	id, timeMS := common(&c, upsertedKeys, KindUpserted)
	attempt := c.Uint32(keyAttempt)
	phase := c.Uint(keyPhase)
	payload := c.String(keyPayload, detcbor.MajorBytes)
	crc := c.Uint32(keyCRC32C)
	if !c.Done() || phase > uint64(PhaseComplete) || crc != crc32.Checksum(payload, castagnoli) {
		return Checkpoint{}, false
	}
	p, ok := readPayload(Phase(phase), payload)
	return Checkpoint{MigrationID: id, Attempt: attempt, Payload: p, CRC32C: crc, TimestampMS: timeMS}, ok
}

// readAborted decodes an aborted event.
func readAborted(b []byte) (Aborted, bool) {
	c := detcbor.NewCursor(b)
	id, timeMS := common(&c, abortedKeys, KindAborted)
	reason := c.String(keyReason, detcbor.MajorText)
	c.Key(keyCompensations)
	n := c.Head(detcbor.MajorArray)
	if c.Failed() || len(b) > MaxEventBytes || n > uint64(len(c.Left())/minCompensationBytes) || !utf8.Valid(reason) {
		return Aborted{}, false
	}
	e := Aborted{MigrationID: id, Reason: string(reason), TimestampMS: timeMS}
	if n > 0 {
		e.Compensations = make([]Compensation, n)
	}
	for i := range e.Compensations {
		c.HeadOf(detcbor.MajorArray, compensationElements)
		kind, group, peer, shard := c.Head(detcbor.MajorUint), c.Head(detcbor.MajorUint), c.Head(detcbor.MajorUint), c.Head(detcbor.MajorUint)
		if kind > uint64(RemoveGhostStub) || !CompensationKind(kind).known() {
			return Aborted{}, false
		}
		e.Compensations[i] = Compensation{
			Kind: CompensationKind(kind), GroupID: group, PeerID: peer, VShardID: c.Fits32(shard),
		}
	}
	return e, c.Done()
}

// common reads the head of an event's map and the keys that every event has. The cursor fails if the
// number of keys or the kind differs from the arguments, or if the migration id is nil.
func common(c *detcbor.Cursor, keys uint64, kind Kind) (id MigrationID, timeMS uint64) {
	c.HeadOf(detcbor.MajorMap, keys)
	if c.Uint(keyKind) != uint64(kind) {
		c.Fail()
	}
	if s := c.String(keyID, detcbor.MajorBytes); len(s) == len(id) {
		id = MigrationID(s)
	}
	if id == (MigrationID{}) {
		c.Fail()
	}
	return id, c.Uint(keyTimeMS)
}

// readPayload decodes a payload of the phase.
func readPayload(phase Phase, b []byte) (Payload, bool) {
	c := detcbor.NewCursor(b)
	switch phase { // Go evaluates the calls in a literal from left to right
	case PhaseAddLearner:
		c.HeadOf(detcbor.MajorMap, 6)
		p := AddLearner{
			VShardID: c.Uint32(1), SourceNode: c.Uint(2), TargetNode: c.Uint(3), SourceGroup: c.Uint(4),
			WritePauseBudgetUS: c.Uint(5), StartedAtHLC: hlc(&c, 6),
		}
		return p, c.Done()
	case PhaseCatchUp:
		c.HeadOf(detcbor.MajorMap, 2)
		p := CatchUp{VShardID: c.Uint32(1), LearnerLogIndexAtAdd: c.Uint(2)}
		return p, c.Done()
	case PhasePromoteLearner:
		c.HeadOf(detcbor.MajorMap, 3)
		p := PromoteLearner{VShardID: c.Uint32(1), TargetNode: c.Uint(2), SourceGroup: c.Uint(3)}
		return p, c.Done()
	case PhaseLeadershipTransfer:
		c.HeadOf(detcbor.MajorMap, 4)
		p := LeadershipTransfer{
			VShardID: c.Uint32(1), TargetIsVoter: c.Bool(2), NewLeaderNodeID: c.Uint(3), SourceGroup: c.Uint(4),
		}
		return p, c.Done()
	case PhaseCutover:
		c.HeadOf(detcbor.MajorMap, 3)
		p := Cutover{VShardID: c.Uint32(1), NewLeaderNodeID: c.Uint(2), SourceGroup: c.Uint(3)}
		return p, c.Done()
	case PhaseComplete:
		c.HeadOf(detcbor.MajorMap, 3)
		p := Complete{VShardID: c.Uint32(1), ActualPauseUS: c.Uint(2), GhostStubInstalled: c.Bool(3)}
		return p, c.Done()
	}
	return nil, false
}

// hlc reads a key and its value, which is a reading of a hybrid logical clock.
func hlc(c *detcbor.Cursor, key byte) HLC {
	c.Key(key)
	c.HeadOf(detcbor.MajorMap, 2)
	return HLC{WallNS: c.Uint(1), Logical: c.Uint32(2)}
}
