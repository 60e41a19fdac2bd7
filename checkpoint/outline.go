package checkpoint

import "migrationlog/internal/detcbor"

// Outline has the fields of an upserted event that an index of events needs.
type Outline struct {
	MigrationID MigrationID
	TimestampMS uint64
	Attempt     uint32
	VShardID    uint32
	Phase       Phase
	HasSource   bool   // SourceNode is set: the payload is an AddLearner
	HasTarget   bool   // TargetNode and SourceGroup are set, see TargetOf
	SourceNode  uint64 // as in the payload, like the fields below
	TargetNode  uint64
	SourceGroup uint64
}

// ReadOutline returns the outline of an encoded event. It allocates nothing. It returns false unless
// the event is an upserted event in exactly the encoding that AppendEvent writes. DecodeEvent then
// decodes the event, or returns its error.
func ReadOutline(b []byte) (o Outline, ok bool) {
	var h upsertedHead
	if kind, _ := PeekKind(b); kind != KindUpserted || !h.read(b) {
		return o, false
	}
	o.MigrationID, o.TimestampMS, o.Attempt, o.Phase = h.id, h.timeMS, h.attempt, h.phase
	return o, o.readPayload(h.payload)
}

// readPayload sets the fields that come from the payload. It reports whether the payload could be
// decoded.
func (o *Outline) readPayload(b []byte) bool {
	c := detcbor.NewCursor(b)
	switch o.Phase {
	case PhaseAddLearner:
		p := readAddLearner(&c)
		o.VShardID, o.HasSource, o.SourceNode = p.VShardID, true, p.SourceNode
		o.HasTarget, o.TargetNode, o.SourceGroup = true, p.TargetNode, p.SourceGroup
	case PhaseCatchUp:
		o.VShardID = readCatchUp(&c).VShardID
	case PhasePromoteLearner:
		p := readPromoteLearner(&c)
		o.VShardID, o.HasTarget, o.TargetNode, o.SourceGroup = p.VShardID, true, p.TargetNode, p.SourceGroup
	case PhaseLeadershipTransfer:
		p := readLeadershipTransfer(&c)
		o.VShardID, o.HasTarget, o.TargetNode, o.SourceGroup = p.VShardID, true, p.NewLeaderNodeID, p.SourceGroup
	case PhaseCutover:
		p := readCutover(&c)
		o.VShardID, o.HasTarget, o.TargetNode, o.SourceGroup = p.VShardID, true, p.NewLeaderNodeID, p.SourceGroup
	case PhaseComplete:
		o.VShardID = readComplete(&c).VShardID
	default:
		return false
	}
	return c.Done()
}
