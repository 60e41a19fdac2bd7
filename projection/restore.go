package projection

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"migrationlog/checkpoint"
	"migrationlog/internal/detcbor"
)

// AdoptSnapshot replaces all states with those of a snapshot taken at the current last event.
// Losses before it stay recorded but no longer put any migration in doubt. A snapshot of version 1
// or 2 does not have all facts, so the states of which no event is missing stay.
func (v *View) AdoptSnapshot(snapshot *View) {
	adopted := snapshot.nextVersion()
	adopted.losses, adopted.forgetEnded = v.losses, v.forgetEnded
	adopted.losses.resolve(v.lastSeq)
	if adopted.epochUnknown {
		adopted.epoch = v.epoch
		v.copyWhole(adopted)
	}
	*v = *adopted
}

// copyWhole copies to other the states that both views have after the same last event, if the links
// from it back to the first event of the incarnation show that v has applied every event between
// them.
func (v *View) copyWhole(other *View) {
	for _, s := range other.states() {
		own := v.find(s.Checkpoint.MigrationID)
		if own != nil && own.status == s.status && own.LastSeq == s.LastSeq && !own.gapSince[partIncarnation] {
			other.put(s, own)
		}
	}
}

// Equal reports whether two complete views have the same states.
func (v *View) Equal(other *View) bool {
	return v.lastSeq == other.lastSeq && v.epoch == other.epoch && equalStates(&v.rows, &other.rows) && equalStates(&v.rowless, &other.rowless)
}

func equalStates(a, b *trie[idKey, *state]) bool {
	if a.size != b.size {
		return false
	}
	for id, s := range a.all() {
		if o, ok := b.get(id); !ok || !s.equal(o) {
			return false
		}
	}
	return true
}

// RestoreV2 is like Restore, for a snapshot of version 2, which does not have all facts.
func RestoreV2(lastSeq uint64, b []byte) (*View, error) {
	v, err := Restore(lastSeq, b)
	if err != nil {
		return nil, err
	}
	v.deriveFacts()
	return v, nil
}

// deriveFacts sets the facts that a snapshot of version 1 or 2 does not have, as far as the latest
// checkpoints show them. An event after the latest checkpoint was of a kind that the writer did not
// know. The view must be new.
func (v *View) deriveFacts() {
	v.epochUnknown = true
	for _, s := range v.rows.all() {
		s.facts.recordPhase(s.Checkpoint.Phase())
		if s.facts.hasSource {
			s.facts.recordedPhases |= 1 << (checkpoint.PhaseAddLearner - 1)
		}
		if s.LastSeq > s.Seq {
			s.facts.changeRare().unknownSeq = s.LastSeq
		}
	}
}

// Restore decodes the body of a snapshot of version 3. It returns the view at the time of the
// snapshot, after event lastSeq. It returns an error if b is not the body of such a snapshot.
func Restore(lastSeq uint64, b []byte) (*View, error) {
	var store storeWire
	b, err := cbor.UnmarshalFirst(b, &store)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if store.Rows < 0 || len(store.Runs) != (store.Rows+rowsPerRun-1)/rowsPerRun || store.Rows > len(b) {
		return nil, fmt.Errorf("snapshot: %d rows cannot be in %d runs with %d bytes in total", store.Rows, len(store.Runs), len(b))
	}
	runs := make([][]byte, len(store.Runs))
	for i, n := range store.Runs {
		if n < 0 || n > len(b) {
			return nil, fmt.Errorf("snapshot: run %d should have %d bytes, but only %d bytes are left", i, n, len(b))
		}
		runs[i], b = b[:n], b[n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("snapshot: %d bytes after the last row", len(b))
	}
	states, err := restoreRuns(runs, store.Rows, lastSeq)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	v := viewOf(states, lastSeq)
	v.epoch = store.Epoch
	return v, nil
}

// restoreRuns decodes the runs in parallel. It checks that the rows are in the order of their
// migration ids and that no id appears twice.
func restoreRuns(runs [][]byte, rows int, lastSeq uint64) ([]*state, error) {
	states := make([]*state, rows)
	var mu sync.Mutex
	var failed error
	forRuns(rows, func(begin, end int) {
		if err := restoreRun(states[begin:end], runs[begin/rowsPerRun], lastSeq); err != nil {
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		}
	})
	if failed != nil {
		return nil, failed
	}
	for i := range states[min(1, rows):] {
		if bytes.Compare(states[i].Checkpoint.MigrationID[:], states[i+1].Checkpoint.MigrationID[:]) >= 0 {
			return nil, fmt.Errorf("the row of migration %s is out of order or is a duplicate", states[i+1].Checkpoint.MigrationID)
		}
	}
	return states, nil
}

// rowsPerAllocation is the number of rows that share an allocation. The garbage collector can free
// the allocation only after all of its rows were replaced. 23 rows fill 4 KiB, a size that the
// runtime allocates without waste.
const rowsPerAllocation = 23

// restoreRun decodes one row for each element of states. It returns an error if b has more bytes
// than these rows.
func restoreRun(states []*state, b []byte, lastSeq uint64) error {
	var memory []state
	for i := range states {
		if i%rowsPerAllocation == 0 {
			memory = make([]state, min(rowsPerAllocation, len(states)-i))
		}
		s := &memory[i%rowsPerAllocation]
		rest, ok := s.decode(b)
		if !ok {
			var err error
			*s = state{}
			if rest, err = s.decodeAnyForm(b); err != nil {
				return err
			}
		}
		if s.LastSeq == 0 || s.LastSeq > lastSeq || s.Seq > s.LastSeq || s.PrevSeq >= max(s.Seq, 1) || (s.Seq == 0) != (s.status == noCheckpoint) {
			return fmt.Errorf("the row of migration %s has seq %d, which does not fit the snapshot", s.Checkpoint.MigrationID, s.Seq)
		}
		states[i], b = s, rest
	}
	if len(b) > 0 {
		return fmt.Errorf("%d bytes after the last row of a run", len(b))
	}
	return nil
}

// decode decodes the row at the start of b if the row is in the exact form that append writes.
// Otherwise ok is false.
func (s *state) decode(b []byte) (rest []byte, ok bool) {
	c := detcbor.NewCursor(b)
	pairs, last, flags, intact := c.Head(detcbor.MajorMap), uint64(0), uint64(0), true
	s.status = noCheckpoint
	for ; intact && pairs > 0; pairs-- {
		key := c.Head(detcbor.MajorUint)
		intact = key > last
		last = key
		switch key {
		case 1:
			s.Seq = c.Head(detcbor.MajorUint)
		case 2:
			s.PrevSeq = c.Head(detcbor.MajorUint)
		case 3:
			s.LastSeq = c.Head(detcbor.MajorUint)
		case 4:
			intact = intact && s.decodeEvent(c.Span(detcbor.MajorBytes)) == nil
		case 5:
			intact = intact && s.decodeFacts(&c)
		case 6:
			flags = c.Head(detcbor.MajorUint)
		case 7:
			intact = intact && s.status != hasRow && s.setID(c.Span(detcbor.MajorBytes)) == nil
		case 8:
			s.LastIndex = c.Head(detcbor.MajorUint)
		default:
			intact = false
		}
	}
	s.setFlags(flags)
	return c.Left(), intact && !c.Failed()
}

// decodeFacts decodes the facts at the cursor. It returns false if they are not in the form that
// appendFacts writes. It leaves an abort, which few rows have, to decodeAnyForm.
func (s *state) decodeFacts(c *detcbor.Cursor) bool {
	var w factsWire
	var logical uint64
	values := [numberKeys]*uint64{
		&w.Flags, &w.SourceNode, &w.TargetNode, &w.SourceGroup, &w.WritePauseBudgetUS, &w.WallNS, &logical,
		&w.FurthestPhase, &w.RecordedPhases, &w.BeganSeq, &w.UnknownSeq,
	}
	last := uint64(0)
	for pairs := c.Head(detcbor.MajorMap); pairs > 0; pairs-- {
		key := c.Head(detcbor.MajorUint)
		if key <= last {
			return false
		}
		last = key
		switch {
		case key <= numberKeys:
			*values[key-1] = c.Head(detcbor.MajorUint)
		case key == 12:
			c.HeadOf(detcbor.MajorArray, uint64(checkpoint.PhaseComplete))
			w.HighestAttempt = make([]uint32, checkpoint.PhaseComplete)
			for i := range w.HighestAttempt {
				w.HighestAttempt[i] = c.Fits32(c.Head(detcbor.MajorUint))
			}
		case key == 13:
			n := c.Head(detcbor.MajorArray)
			if n > MaxTargets {
				return false
			}
			w.Targets = make([]targetWire, n)
			for i := range w.Targets {
				c.HeadOf(detcbor.MajorArray, 2)
				w.Targets[i] = targetWire{GroupID: c.Head(detcbor.MajorUint), PeerID: c.Head(detcbor.MajorUint)}
			}
		default:
			return false
		}
	}
	w.Logical = c.Fits32(logical)
	return !c.Failed() && s.setFacts(&w) == nil
}

// decodeAnyForm decodes the row at the start of b in any valid CBOR encoding. It ignores unknown
// keys.
func (s *state) decodeAnyForm(b []byte) (rest []byte, err error) {
	var w rowWire
	if rest, err = cbor.UnmarshalFirst(b, &w); err != nil {
		return b, err
	}
	s.Seq, s.PrevSeq, s.LastSeq, s.LastIndex, s.status = w.Seq, w.PrevSeq, w.Last, w.Index, noCheckpoint
	if w.Event != nil {
		err = s.decodeEvent(w.Event)
	} else {
		err = s.setID(w.ID)
	}
	s.setFlags(w.Flags)
	return rest, errors.Join(err, s.setFacts(&w.Facts))
}

func (s *state) decodeEvent(b []byte) error {
	var err error
	s.Checkpoint, err = checkpoint.DecodeUpserted(b)
	s.status = hasRow
	return err
}

func (s *state) setID(id []byte) error {
	if len(id) != len(s.Checkpoint.MigrationID) {
		return fmt.Errorf("a migration id has %d bytes", len(id))
	}
	copy(s.Checkpoint.MigrationID[:], id)
	return nil
}

func (s *state) setFlags(flags uint64) {
	s.gapSince[partIncarnation], s.gapSince[partRow] = flags&gapSinceIncarnation != 0, flags&gapSinceRow != 0
}

// setFacts sets the facts. It returns an error if they contradict each other. The migration id must
// be set already.
func (s *state) setFacts(w *factsWire) error {
	const allPhases = 1<<checkpoint.PhaseComplete - 1
	if w.FurthestPhase > uint64(checkpoint.PhaseComplete) || w.RecordedPhases > allPhases || len(w.HighestAttempt) > int(checkpoint.PhaseComplete) || len(w.Targets) > MaxTargets {
		return fmt.Errorf("the facts have phase %d, phases %b, %d attempts and %d targets", w.FurthestPhase, w.RecordedPhases, len(w.HighestAttempt), len(w.Targets))
	}
	s.facts = facts{
		sourceNode: w.SourceNode, targetNode: w.TargetNode, sourceGroup: w.SourceGroup, writePauseBudgetUS: w.WritePauseBudgetUS,
		startedWallNS: w.WallNS, startedLogical: w.Logical, beganSeq: w.BeganSeq,
		hasTarget: w.Flags&hasTarget != 0, hasSource: w.Flags&hasSource != 0,
		furthestPhase: checkpoint.Phase(w.FurthestPhase), recordedPhases: uint8(w.RecordedPhases),
	}
	s.gapSince[partTarget], s.gapSince[partSource] = w.Flags&gapSinceTarget != 0, w.Flags&gapSinceSource != 0
	if w.UnknownSeq == 0 && w.HighestAttempt == nil && w.Targets == nil && w.Abort == nil {
		return nil
	}
	rare := s.facts.changeRare()
	rare.unknownSeq = w.UnknownSeq
	copy(rare.highestAttempt[:], w.HighestAttempt)
	for _, t := range w.Targets {
		rare.targets = append(rare.targets, Target{GroupID: t.GroupID, PeerID: t.PeerID})
	}
	var err error
	if w.Abort != nil {
		rare.abort, err = w.Abort.progress(s.Checkpoint.MigrationID)
	}
	return err
}

// progress returns the abort of the migration.
func (w *abortWire) progress(id checkpoint.MigrationID) (*AbortProgress, error) {
	event, err := checkpoint.DecodeEvent(w.Event)
	if err != nil {
		return nil, fmt.Errorf("the abort: %w", err)
	}
	e, ok := event.(checkpoint.AbortBegun)
	if !ok || e.MigrationID != id {
		return nil, fmt.Errorf("the abort is a %s event of migration %s", checkpoint.KindOf(event), event.Migration())
	}
	a := &AbortProgress{
		Seq: w.Seq, Reason: e.Reason, Compensations: e.Compensations, Done: make([]bool, len(e.Compensations)), TimestampMS: e.TimestampMS,
	}
	for _, step := range w.Done {
		if uint64(step) >= uint64(len(a.Done)) {
			return nil, fmt.Errorf("the abort has no step %d", step)
		}
		a.Done[step] = true
	}
	return a, nil
}
