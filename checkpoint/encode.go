package checkpoint

import (
	"fmt"
	"hash/crc32"
	"slices"
	"unicode/utf8"

	"migrationlog/internal/detcbor"
)

// MaxEventBytes is the maximum length of an encoded event. The limit keeps a write small enough
// to share a batch, and lets a scanner reject a frame with an implausible length.
const MaxEventBytes = 64 << 10

// MaxContentBytes is the maximum length of an event that a caller of a store writes, without its
// epoch. The rest of MaxEventBytes is for the keys that a store adds, so that they always fit.
const MaxContentBytes = MaxEventBytes - 128

// An event is a CBOR map with these integer keys. Keys 1 to 3 are in every event, so that a
// reader finds the migration of an event of an unknown kind.
const (
	keyKind          byte = 1
	keyID            byte = 2  // 16 bytes
	keyTimeMS        byte = 3  // Unix ms
	keyAttempt       byte = 4  // upserted
	keyPhase         byte = 5  // upserted
	keyPayload       byte = 6  // upserted: the payload's CBOR as a byte string
	keyCRC32C        byte = 7  // upserted: CRC32C of the bytes of keyPayload
	keyReason        byte = 8  // aborted, abort_begun
	keyCompensations byte = 9  // aborted, abort_begun: each [kind, group id, peer id, vShard id]
	keyStep          byte = 10 // compensated
	keyEpoch         byte = 11 // epoch_raised, and every other event that was written with an epoch
	keyIndex         byte = 12 // see AppendPosition
	keyTerm          byte = 13
	keyStateDigest   byte = 14 // digest: 32 bytes
	keyChainDigest   byte = 15 // digest: 32 bytes
	keyFacts         byte = 16 // restored: a map, see factsWire
)

// contentKeys is the number of keys of an event of each kind, without the epoch and the position.
var contentKeys = [...]uint64{
	KindUpserted: 7, KindAborted: 5, KindRemoved: 3, KindAbortBegun: 5, KindCompensated: 4, KindEpochRaised: 3,
	KindDigest: 5, KindRestored: 8,
}

// maxAddedKeys is the number of keys that a store may add to an event: the epoch, and the index and
// the term of its position.
const maxAddedKeys = 3

// compensationElements is the number of elements of an encoded compensation.
const compensationElements = 4

// The bounds of encoded lengths. The maxima are used to allocate memory. The minimum bounds the
// number of compensations before memory for them is allocated.
const (
	minCompensationBytes = 5                    // each value fits into one byte
	maxPayloadBytes      = 65                   // an AddLearner with the largest values
	maxUpsertedBytes     = 48 + maxPayloadBytes // with the largest values
)

// EncodeEvent checks an event and returns its CBOR in Core Deterministic Encoding. For an event
// that must not be written it returns ErrNilMigrationID, ErrNilPayload, ErrUnknownPayload, a
// *CRCMismatchError, ErrInvalidUTF8, ErrUnknownCompensation, ErrNoEpoch, ErrInvalidFacts or
// ErrTooLarge.
func EncodeEvent(e Event) ([]byte, error) { return AppendEvent(nil, e) }

// AppendEvent appends the bytes that EncodeEvent returns to dst. If there is an error, it
// returns dst with its old length.
func AppendEvent(dst []byte, e Event) ([]byte, error) {
	b, err := appendContent(dst, e)
	if err != nil {
		return dst, err
	}
	b = appendEpoch(b, len(dst), EpochOf(e))
	if n := len(b) - len(dst); n > MaxEventBytes {
		return dst, fmt.Errorf("%w: migration %s: %d bytes encoded, at most %d", ErrTooLarge, e.Migration(), n, MaxEventBytes)
	}
	return b, nil
}

// CheckContentSize returns ErrTooLarge if an event takes more than MaxContentBytes without its epoch.
// sizeBytes is the length of the encoded event with its epoch.
func CheckContentSize(e Event, sizeBytes int) error {
	if sizeBytes <= MaxContentBytes {
		return nil
	}
	epoch := AppendEpoch(make([]byte, 1, 16), EpochOf(e))
	if sizeBytes -= len(epoch) - 1; sizeBytes <= MaxContentBytes {
		return nil
	}
	return fmt.Errorf("%w: migration %s: %d bytes encoded, at most %d", ErrTooLarge, e.Migration(), sizeBytes, MaxContentBytes)
}

// appendContent appends an event without its epoch.
func appendContent(dst []byte, e Event) ([]byte, error) {
	kind := KindOf(e)
	if kind == 0 {
		return dst, fmt.Errorf("unknown event type %T: pass an event of package checkpoint as a value", e)
	}
	id := e.Migration()
	if id == (MigrationID{}) {
		return dst, ErrNilMigrationID
	}
	switch e := e.(type) {
	case Upserted:
		return AppendUpserted(dst, &e.Checkpoint)
	case Restored:
		return AppendRestored(dst, &e.Checkpoint, &e.Facts, 0)
	case Digest:
		return appendDigest(dst, &e), nil
	case Aborted:
		return appendAborted(dst, kind, &e)
	case AbortBegun:
		aborted := Aborted(e)
		return appendAborted(dst, kind, &aborted)
	case EpochRaised:
		if e.Epoch == 0 {
			return dst, fmt.Errorf("migration %s: %w", id, ErrNoEpoch)
		}
	}
	b := appendHead(dst, kind, &id, e.WallMS())
	if e, ok := e.(Compensated); ok {
		b = detcbor.AppendUint(b, keyStep, uint64(e.Step))
	}
	return b, nil
}

// AppendUpserted appends the upserted event of a checkpoint, without an epoch, as AppendEvent does.
// It allocates only if dst is too small. It never returns ErrTooLarge.
func AppendUpserted(dst []byte, c *Checkpoint) ([]byte, error) {
	return appendCheckpoint(dst, KindUpserted, c)
}

// appendCheckpoint appends the keys of an event of this kind up to the checksum of its payload.
func appendCheckpoint(dst []byte, kind Kind, c *Checkpoint) ([]byte, error) {
	if c.MigrationID == (MigrationID{}) {
		return dst, ErrNilMigrationID
	}
	var scratch [maxPayloadBytes]byte
	payload, err := appendPayload(scratch[:0], c.Payload)
	if err != nil {
		return dst, fmt.Errorf("migration %s: %w", c.MigrationID, err)
	}
	b := appendHead(slices.Grow(dst, maxUpsertedBytes), kind, &c.MigrationID, c.TimestampMS)
	b = detcbor.AppendUint(b, keyAttempt, uint64(c.Attempt))
	b = detcbor.AppendUint(b, keyPhase, uint64(c.Payload.Phase()))
	b = detcbor.AppendBytes(b, keyPayload, payload)
	// Checksum the copy in b: a call with scratch would move scratch to the heap.
	if crc := crc32.Checksum(b[len(b)-len(payload):], castagnoli); crc != c.CRC32C {
		return dst, &CRCMismatchError{MigrationID: c.MigrationID, Got: c.CRC32C, Want: crc}
	}
	return detcbor.AppendUint(b, keyCRC32C, uint64(c.CRC32C)), nil
}

// appendDigest appends a digest without its epoch and its position.
func appendDigest(dst []byte, e *Digest) []byte {
	id := StoreID
	b := appendHead(dst, KindDigest, &id, e.TimestampMS)
	b = detcbor.AppendBytes(b, keyStateDigest, e.State[:])
	return detcbor.AppendBytes(b, keyChainDigest, e.Chain[:])
}

// appendAborted appends an aborted event, or an event of another kind that has the same keys.
func appendAborted(dst []byte, kind Kind, e *Aborted) ([]byte, error) {
	if !utf8.ValidString(e.Reason) {
		return dst, fmt.Errorf("migration %s: %w", e.MigrationID, ErrInvalidUTF8)
	}
	if len(e.Reason)+len(e.Compensations) > MaxEventBytes { // checked before dst grows
		return dst, fmt.Errorf("%w: migration %s: reason of %d bytes and %d compensations, at most %d bytes encoded",
			ErrTooLarge, e.MigrationID, len(e.Reason), len(e.Compensations), MaxEventBytes)
	}
	b := appendHead(dst, kind, &e.MigrationID, e.TimestampMS)
	b = append(detcbor.AppendHead(append(b, keyReason), detcbor.MajorText, uint64(len(e.Reason))), e.Reason...)
	b = detcbor.AppendHead(append(b, keyCompensations), detcbor.MajorArray, uint64(len(e.Compensations)))
	for i, c := range e.Compensations {
		if !c.Kind.known() {
			return dst, fmt.Errorf("migration %s: compensation %d: %w: %d", e.MigrationID, i, ErrUnknownCompensation, uint8(c.Kind))
		}
		b = detcbor.AppendHead(b, detcbor.MajorArray, compensationElements)
		for _, n := range [compensationElements]uint64{uint64(c.Kind), c.GroupID, c.PeerID, uint64(c.VShardID)} {
			b = detcbor.AppendHead(b, detcbor.MajorUint, n)
		}
	}
	return b, nil
}

// appendHead appends the head of an event's map and the keys that every event has.
func appendHead(b []byte, kind Kind, id *MigrationID, timeMS uint64) []byte {
	b = detcbor.AppendHead(b, detcbor.MajorMap, contentKeys[kind])
	b = detcbor.AppendUint(b, keyKind, uint64(kind))
	b = detcbor.AppendBytes(b, keyID, id[:])
	return detcbor.AppendUint(b, keyTimeMS, timeMS)
}

// appendPayload appends the payload's CBOR. It returns ErrNilPayload or ErrUnknownPayload, the
// latter also for a pointer to a payload.
func appendPayload(b []byte, p Payload) ([]byte, error) {
	switch p := p.(type) {
	case AddLearner:
		b = detcbor.AppendUint(detcbor.AppendHead(b, detcbor.MajorMap, 6), 1, uint64(p.VShardID))
		b = detcbor.AppendUint(b, 2, p.SourceNode)
		b = detcbor.AppendUint(b, 3, p.TargetNode)
		b = detcbor.AppendUint(b, 4, p.SourceGroup)
		b = detcbor.AppendUint(b, 5, p.WritePauseBudgetUS)
		b = detcbor.AppendHead(append(b, 6), detcbor.MajorMap, 2)
		b = detcbor.AppendUint(b, 1, p.StartedAtHLC.WallNS)
		return detcbor.AppendUint(b, 2, uint64(p.StartedAtHLC.Logical)), nil
	case CatchUp:
		b = detcbor.AppendUint(detcbor.AppendHead(b, detcbor.MajorMap, 2), 1, uint64(p.VShardID))
		return detcbor.AppendUint(b, 2, p.LearnerLogIndexAtAdd), nil
	case PromoteLearner:
		b = detcbor.AppendUint(detcbor.AppendHead(b, detcbor.MajorMap, 3), 1, uint64(p.VShardID))
		b = detcbor.AppendUint(b, 2, p.TargetNode)
		return detcbor.AppendUint(b, 3, p.SourceGroup), nil
	case LeadershipTransfer:
		b = detcbor.AppendUint(detcbor.AppendHead(b, detcbor.MajorMap, 4), 1, uint64(p.VShardID))
		b = detcbor.AppendBool(b, 2, p.TargetIsVoter)
		b = detcbor.AppendUint(b, 3, p.NewLeaderNodeID)
		return detcbor.AppendUint(b, 4, p.SourceGroup), nil
	case Cutover:
		b = detcbor.AppendUint(detcbor.AppendHead(b, detcbor.MajorMap, 3), 1, uint64(p.VShardID))
		b = detcbor.AppendUint(b, 2, p.NewLeaderNodeID)
		return detcbor.AppendUint(b, 3, p.SourceGroup), nil
	case Complete:
		b = detcbor.AppendUint(detcbor.AppendHead(b, detcbor.MajorMap, 3), 1, uint64(p.VShardID))
		b = detcbor.AppendUint(b, 2, p.ActualPauseUS)
		return detcbor.AppendBool(b, 3, p.GhostStubInstalled), nil
	}
	_, err := phaseOf(p)
	return b, err
}

// EventCRC32C returns the CRC32C of an event's content, as in the key crc32c of a line of NDJSON.
// For an upserted event it is the CRC32C of the payload. For all other events it is the CRC32C of
// the event's deterministic CBOR without the epoch and the position (keys 11 to 13). EventCRC32C
// returns the errors of EncodeEvent, but it does not compare the CRC32C of an upserted checkpoint.
func EventCRC32C(e Event) (uint32, error) {
	if u, ok := e.(Upserted); ok {
		return PayloadCRC32C(u.Checkpoint.Payload)
	}
	b, err := appendContent(nil, e)
	if err != nil {
		return 0, err
	}
	return crc32.Checksum(b, castagnoli), nil
}
