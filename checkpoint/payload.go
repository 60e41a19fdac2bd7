package checkpoint

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"sync"
)

// Payload is the record of one phase boundary: exactly one of AddLearner, CatchUp, PromoteLearner,
// LeadershipTransfer, Cutover and Complete, passed as a value.
type Payload interface {
	Phase() Phase  // the phase that this payload is recorded at
	Shard() uint32 // the vShard that moves
	sealed()
}

// AddLearner is recorded before the target is proposed as a learner of the source group. It is the
// only payload that contains the source node.
type AddLearner struct {
	VShardID           uint32 `cbor:"1,keyasint" json:"vshard_id"`
	SourceNode         uint64 `cbor:"2,keyasint" json:"source_node"`
	TargetNode         uint64 `cbor:"3,keyasint" json:"target_node"`
	SourceGroup        uint64 `cbor:"4,keyasint" json:"source_group"`
	WritePauseBudgetUS uint64 `cbor:"5,keyasint" json:"write_pause_budget_us"` // microseconds
	StartedAtHLC       HLC    `cbor:"6,keyasint" json:"started_at_hlc"`
}

// CatchUp is recorded after the learner was added. If a coordinator resumes, it uses the index to
// skip a learner that was already added.
type CatchUp struct {
	VShardID             uint32 `cbor:"1,keyasint" json:"vshard_id"`
	LearnerLogIndexAtAdd uint64 `cbor:"2,keyasint" json:"learner_log_index_at_add"`
}

// PromoteLearner is recorded after the promotion has committed.
type PromoteLearner struct {
	VShardID    uint32 `cbor:"1,keyasint" json:"vshard_id"`
	TargetNode  uint64 `cbor:"2,keyasint" json:"target_node"`
	SourceGroup uint64 `cbor:"3,keyasint" json:"source_group"`
}

// LeadershipTransfer is recorded before leadership is transferred.
type LeadershipTransfer struct {
	VShardID        uint32 `cbor:"1,keyasint" json:"vshard_id"`
	TargetIsVoter   bool   `cbor:"2,keyasint" json:"target_is_voter"`
	NewLeaderNodeID uint64 `cbor:"3,keyasint" json:"new_leader_node_id"`
	SourceGroup     uint64 `cbor:"4,keyasint" json:"source_group"`
}

// Cutover is recorded after the transfer has committed.
type Cutover struct {
	VShardID        uint32 `cbor:"1,keyasint" json:"vshard_id"`
	NewLeaderNodeID uint64 `cbor:"2,keyasint" json:"new_leader_node_id"`
	SourceGroup     uint64 `cbor:"3,keyasint" json:"source_group"`
}

// Complete is recorded after the forwarding stub is installed and saved.
type Complete struct {
	VShardID           uint32 `cbor:"1,keyasint" json:"vshard_id"`
	ActualPauseUS      uint64 `cbor:"2,keyasint" json:"actual_pause_us"` // microseconds
	GhostStubInstalled bool   `cbor:"3,keyasint" json:"ghost_stub_installed"`
}

// Phase and Shard implement Payload.
func (AddLearner) Phase() Phase         { return PhaseAddLearner }
func (CatchUp) Phase() Phase            { return PhaseCatchUp }
func (PromoteLearner) Phase() Phase     { return PhasePromoteLearner }
func (LeadershipTransfer) Phase() Phase { return PhaseLeadershipTransfer }
func (Cutover) Phase() Phase            { return PhaseCutover }
func (Complete) Phase() Phase           { return PhaseComplete }

func (p AddLearner) Shard() uint32         { return p.VShardID }
func (p CatchUp) Shard() uint32            { return p.VShardID }
func (p PromoteLearner) Shard() uint32     { return p.VShardID }
func (p LeadershipTransfer) Shard() uint32 { return p.VShardID }
func (p Cutover) Shard() uint32            { return p.VShardID }
func (p Complete) Shard() uint32           { return p.VShardID }

func (AddLearner) sealed()         {}
func (CatchUp) sealed()            {}
func (PromoteLearner) sealed()     {}
func (LeadershipTransfer) sealed() {}
func (Cutover) sealed()            {}
func (Complete) sealed()           {}

// TargetOf returns the node and the group of the peer that a payload names. AddLearner adds the peer,
// PromoteLearner promotes it, and the leadership moves to it in LeadershipTransfer and Cutover. The
// other payloads name no peer.
func TargetOf(p Payload) (node, group uint64, ok bool) {
	switch p := p.(type) {
	case AddLearner:
		return p.TargetNode, p.SourceGroup, true
	case PromoteLearner:
		return p.TargetNode, p.SourceGroup, true
	case LeadershipTransfer:
		return p.NewLeaderNodeID, p.SourceGroup, true
	case Cutover:
		return p.NewLeaderNodeID, p.SourceGroup, true
	}
	return 0, 0, false
}

// phaseOf is like Payload.Phase, but returns an error if the payload is nil, of an unknown type, or
// a pointer. A nil pointer to a payload type satisfies the interface and would panic.
func phaseOf(p Payload) (Phase, error) {
	switch p := p.(type) {
	case nil:
		return 0, ErrNilPayload
	case AddLearner, CatchUp, PromoteLearner, LeadershipTransfer, Cutover, Complete:
		return p.Phase(), nil
	}
	return 0, fmt.Errorf("%w: %T (pass one of the six payload types as a value)", ErrUnknownPayload, p)
}

// EncodePayload returns the payload's CBOR in Core Deterministic Encoding (RFC 8949, 4.2.1). It
// returns ErrNilPayload for nil, and ErrUnknownPayload for a pointer to a payload.
func EncodePayload(p Payload) ([]byte, error) {
	var scratch [maxPayloadBytes]byte
	b, err := appendPayload(scratch[:0], p)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(b), nil
}

// ReadPayload returns the payload of a phase. It calls read with a pointer to a zero payload, which
// read must fill in. It returns the error of read, or ErrUnknownPhase.
func ReadPayload(phase Phase, read func(into any) error) (Payload, error) {
	switch phase {
	case PhaseAddLearner:
		return readAs[AddLearner](read)
	case PhaseCatchUp:
		return readAs[CatchUp](read)
	case PhasePromoteLearner:
		return readAs[PromoteLearner](read)
	case PhaseLeadershipTransfer:
		return readAs[LeadershipTransfer](read)
	case PhaseCutover:
		return readAs[Cutover](read)
	case PhaseComplete:
		return readAs[Complete](read)
	}
	return nil, fmt.Errorf("%w: %d", ErrUnknownPhase, uint8(phase))
}

func readAs[P Payload](read func(into any) error) (Payload, error) {
	var p P
	if err := read(&p); err != nil {
		return nil, err
	}
	return p, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// payloads is a pool of buffers, each for one encoded payload. An array on the stack would be moved
// to the heap at each call of crc32.Checksum.
var payloads = sync.Pool{New: func() any { return new([maxPayloadBytes]byte) }}

// PayloadCRC32C returns the CRC32C (Castagnoli, RFC 3720 B.4) of the bytes that EncodePayload
// returns, or its error.
func PayloadCRC32C(p Payload) (uint32, error) {
	scratch := payloads.Get().(*[maxPayloadBytes]byte)
	defer payloads.Put(scratch)
	b, err := appendPayload(scratch[:0], p)
	if err != nil {
		return 0, err
	}
	return crc32.Checksum(b, castagnoli), nil
}
