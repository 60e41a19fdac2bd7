package projection

import (
	"bytes"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/internal/detcbor"
)

// storeWire is the first item in the body of a snapshot of version 2 or 3. The body is a CBOR
// sequence (RFC 8742). The other items are the rows, in the order of their migration ids. Each row
// is the map rowWire. docs/FORMAT.md lists the keys. A reader ignores unknown keys.
type storeWire struct {
	Rows  int    `cbor:"1,keyasint"`
	Runs  []int  `cbor:"2,keyasint"` // length in bytes of each run of rowsPerRun rows; the runs are decoded in parallel
	Epoch uint64 `cbor:"3,keyasint"`
}

// rowWire is the state of a migration in a complete view. If no event of the migration has a
// checkpoint, rowWire has an ID and no Event.
type rowWire struct {
	Seq     uint64    `cbor:"1,keyasint"`
	PrevSeq uint64    `cbor:"2,keyasint"`
	Last    uint64    `cbor:"3,keyasint"`
	Event   []byte    `cbor:"4,keyasint"` // an Upserted's CBOR
	Facts   factsWire `cbor:"5,keyasint"`
	Flags   uint64    `cbor:"6,keyasint"`
	ID      []byte    `cbor:"7,keyasint"`
	Index   uint64    `cbor:"8,keyasint"`
}

// factsWire holds the facts. Version 2 has the keys up to 7.
type factsWire struct {
	Flags              uint64       `cbor:"1,keyasint"`
	SourceNode         uint64       `cbor:"2,keyasint"`
	TargetNode         uint64       `cbor:"3,keyasint"`
	SourceGroup        uint64       `cbor:"4,keyasint"`
	WritePauseBudgetUS uint64       `cbor:"5,keyasint"`
	WallNS             uint64       `cbor:"6,keyasint"`
	Logical            uint32       `cbor:"7,keyasint"`
	FurthestPhase      uint64       `cbor:"8,keyasint"`
	RecordedPhases     uint64       `cbor:"9,keyasint"`
	BeganSeq           uint64       `cbor:"10,keyasint"`
	UnknownSeq         uint64       `cbor:"11,keyasint"`
	HighestAttempt     []uint32     `cbor:"12,keyasint"` // of each phase before the latest checkpoint
	Targets            []targetWire `cbor:"13,keyasint"`
	Abort              *abortWire   `cbor:"14,keyasint"`
}

type targetWire struct {
	_       struct{} `cbor:",toarray"`
	GroupID uint64
	PeerID  uint64
}

type abortWire struct {
	Seq   uint64   `cbor:"1,keyasint"`
	Event []byte   `cbor:"2,keyasint"` // an AbortBegun's CBOR
	Done  []uint32 `cbor:"3,keyasint"` // the finished steps, ascending
}

// numberKeys is the number of keys of factsWire whose values are numbers. They are the first keys.
const numberKeys = 11

// Bits of rowWire.Flags.
const (
	gapSinceIncarnation = 1 << iota
	gapSinceRow
)

// Bits of factsWire.Flags.
const (
	hasTarget = 1 << iota
	hasSource
	gapSinceTarget
	gapSinceSource
)

const rowsPerRun = 4096

// Complete reports whether no event of the history was lost. A snapshot may be taken only of a
// complete view, because a snapshot cannot store losses.
func (v *View) Complete() bool {
	return !v.losses.any() //mutant:view-whole
}

// HasUnresolvedLosses reports whether an event was lost that no adopted snapshot covers.
func (v *View) HasUnresolvedLosses() bool { return v.losses.unresolved() }

// Snapshot encodes all states of a complete view, in the order of the migration ids. Restore reads
// them.
func (v *View) Snapshot() ([]byte, error) {
	states := v.states()
	store := storeWire{Rows: len(states)}
	var rows, event []byte
	for run := range slices.Chunk(states, rowsPerRun) {
		begin := len(rows)
		for _, s := range run {
			var err error
			if rows, event, err = s.append(rows, event); err != nil {
				return nil, err
			}
		}
		store.Runs = append(store.Runs, len(rows)-begin)
	}
	b, head := detcbor.BeginMap(nil)
	b[head] += 2
	b = detcbor.AppendUint(b, 1, uint64(store.Rows))
	b = detcbor.AppendHead(append(b, 2), detcbor.MajorArray, uint64(len(store.Runs)))
	for _, n := range store.Runs {
		b = detcbor.AppendHead(b, detcbor.MajorUint, uint64(n))
	}
	return append(detcbor.AppendNonzero(b, head, 3, v.epoch), rows...), nil
}

// states returns all states in the order of their migration ids.
func (v *View) states() []*state {
	all := make([]*state, 0, v.rows.size+v.rowless.size)
	for _, t := range []*trie[idKey, *state]{&v.rows, &v.rowless} {
		for _, s := range t.all() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *state) int {
		return bytes.Compare(a.Checkpoint.MigrationID[:], b.Checkpoint.MigrationID[:])
	})
	return all
}

// append appends the state's rowWire in Core Deterministic Encoding. event is a buffer for the
// encoded event. append reuses its memory and returns it.
func (s *state) append(dst, event []byte) ([]byte, []byte, error) {
	dst, head := detcbor.BeginMap(dst)
	dst = detcbor.AppendNonzero(dst, head, 1, s.Seq)
	dst = detcbor.AppendNonzero(dst, head, 2, s.PrevSeq)
	dst = detcbor.AppendNonzero(dst, head, 3, s.LastSeq)
	if s.status == hasRow {
		var err error
		if event, err = checkpoint.AppendUpserted(event[:0], &s.Checkpoint); err != nil {
			return dst, event, err
		}
		dst[head]++
		dst = detcbor.AppendBytes(dst, 4, event)
	}
	dst, event, err := s.appendFacts(dst, event, head)
	if err != nil {
		return dst, event, err
	}
	dst = detcbor.AppendNonzero(dst, head, 6, flag(s.gapSince[partIncarnation], gapSinceIncarnation)|flag(s.gapSince[partRow], gapSinceRow))
	if s.status != hasRow {
		dst[head]++
		dst = detcbor.AppendBytes(dst, 7, s.Checkpoint.MigrationID[:])
	}
	return detcbor.AppendNonzero(dst, head, 8, s.LastIndex), event, nil
}

// appendFacts appends the state's factsWire to the row whose map head is at rowHead. It appends
// nothing if all fields are zero. event is a buffer as in append.
func (s *state) appendFacts(dst, event []byte, rowHead int) (_, _ []byte, err error) {
	f, rare := &s.facts, s.facts.getRare()
	values := [numberKeys]uint64{
		flag(f.hasTarget, hasTarget) | flag(f.hasSource, hasSource) |
			flag(s.gapSince[partTarget], gapSinceTarget) | flag(s.gapSince[partSource], gapSinceSource),
		f.sourceNode, f.targetNode, f.sourceGroup, f.writePauseBudgetUS, f.startedWallNS, uint64(f.startedLogical),
		uint64(f.furthestPhase), uint64(f.recordedPhases), f.beganSeq, rare.unknownSeq,
	}
	if values == [numberKeys]uint64{} && rare.equal(&noRareFacts) {
		return dst, event, nil
	}
	dst[rowHead]++
	dst, head := detcbor.BeginMap(append(dst, 5))
	for i, v := range values {
		dst = detcbor.AppendNonzero(dst, head, byte(i+1), v)
	}
	if rare.highestAttempt != noRareFacts.highestAttempt {
		dst[head]++
		dst = detcbor.AppendHead(append(dst, 12), detcbor.MajorArray, uint64(len(rare.highestAttempt)))
		for _, n := range rare.highestAttempt {
			dst = detcbor.AppendHead(dst, detcbor.MajorUint, uint64(n))
		}
	}
	if len(rare.targets) > 0 {
		dst[head]++
		dst = detcbor.AppendHead(append(dst, 13), detcbor.MajorArray, uint64(len(rare.targets)))
		for _, t := range rare.targets {
			dst = detcbor.AppendHead(dst, detcbor.MajorArray, 2)
			dst = detcbor.AppendHead(dst, detcbor.MajorUint, t.GroupID)
			dst = detcbor.AppendHead(dst, detcbor.MajorUint, t.PeerID)
		}
	}
	if rare.abort != nil {
		dst[head]++
		dst, event, err = rare.abort.append(append(dst, 14), event, s.Checkpoint.MigrationID)
	}
	return dst, event, err
}

// append appends the abortWire of an abort. event is a buffer as in state.append.
func (a *AbortProgress) append(dst, event []byte, id checkpoint.MigrationID) (_, _ []byte, err error) {
	event, err = checkpoint.AppendEvent(event[:0], checkpoint.AbortBegun{
		MigrationID: id, Reason: a.Reason, Compensations: a.Compensations, TimestampMS: a.TimestampMS,
	})
	if err != nil {
		return dst, event, err
	}
	dst, head := detcbor.BeginMap(dst)
	dst = detcbor.AppendNonzero(dst, head, 1, a.Seq)
	dst[head]++
	dst = detcbor.AppendBytes(dst, 2, event)
	var done []byte
	steps := uint64(0)
	for step, isDone := range a.Done {
		if isDone {
			done = detcbor.AppendHead(done, detcbor.MajorUint, uint64(step))
			steps++
		}
	}
	if steps > 0 {
		dst[head]++
		dst = append(detcbor.AppendHead(append(dst, 3), detcbor.MajorArray, steps), done...)
	}
	return dst, event, nil
}

func flag(set bool, bits uint64) uint64 {
	if set {
		return bits
	}
	return 0
}
