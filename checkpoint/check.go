package checkpoint

import "migrationlog/internal/detcbor"

// Check returns the error that DecodeEvent returns for b, or nil if b is an event. It builds no
// Event. If b is in the encoding that AppendEvent writes, Check allocates nothing.
func Check(b []byte) error {
	if isEvent(b) {
		return nil
	}
	_, err := decodeWire(b)
	return err
}

// isEvent reports whether readEvent decodes b.
func isEvent(b []byte) bool {
	kind, _ := PeekKind(b)
	var c eventCursor
	switch kind {
	case KindUpserted:
		var h upsertedHead
		return h.read(b) && isPayload(h.phase, h.payload)
	case KindAborted, KindAbortBegun:
		_, n, ok := c.readAbort(b, kind)
		if !ok {
			return false
		}
		for ; n > 0 && !c.Failed(); n-- {
			c.readCompensation()
		}
		_, ok = c.end()
		return ok
	case KindRemoved:
		c.readHead(b, kind)
		_, ok := c.end()
		return ok
	case KindCompensated:
		c.readHead(b, kind)
		c.Uint32(keyStep)
		_, ok := c.end()
		return ok
	case KindEpochRaised:
		c.readHead(b, kind)
		epoch, ok := c.end()
		return ok && epoch > 0
	case KindDigest:
		_, ok := c.readDigest(b)
		return ok
	case KindRestored:
		var r restoredReader
		return r.read(b) && isPayload(r.phase, r.payload)
	}
	return false
}

// isPayload reports whether readPayload decodes b.
func isPayload(phase Phase, b []byte) bool {
	c := detcbor.NewCursor(b)
	switch phase {
	case PhaseAddLearner:
		readAddLearner(&c)
	case PhaseCatchUp:
		readCatchUp(&c)
	case PhasePromoteLearner:
		readPromoteLearner(&c)
	case PhaseLeadershipTransfer:
		readLeadershipTransfer(&c)
	case PhaseCutover:
		readCutover(&c)
	case PhaseComplete:
		readComplete(&c)
	default:
		return false
	}
	return c.Done()
}
