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
// Losses before it stay recorded, but no longer put any migration in doubt.
func (v *View) AdoptSnapshot(snapshot *View) {
	adopted := snapshot.nextVersion()
	adopted.losses = v.losses
	adopted.losses.resolve(v.lastSeq)
	*v = *adopted
}

// Equal reports whether two complete views have the same states.
func (v *View) Equal(other *View) bool {
	if v.lastSeq != other.lastSeq || v.rows.size != other.rows.size || v.rowless.size != other.rowless.size {
		return false
	}
	for id, s := range v.rows.all() {
		o, ok := other.rows.get(id)
		if !ok || o.Row != s.Row || o.last != s.last || o.gapSince != s.gapSince {
			return false
		}
	}
	for id, s := range v.rowless.all() {
		o, ok := other.rowless.get(id)
		if !ok || o.last != s.last || o.gapSince != s.gapSince {
			return false
		}
	}
	return true
}

// Restore returns the view that a snapshot of version 2 was taken of, whose last event was
// lastSeq. It returns an error for bytes that are not such a snapshot's.
func Restore(lastSeq uint64, b []byte) (*View, error) {
	var store storeWire
	b, err := cbor.UnmarshalFirst(b, &store)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if store.Rows < 0 || len(store.Runs) != (store.Rows+rowsPerRun-1)/rowsPerRun || store.Rows > len(b) {
		return nil, fmt.Errorf("snapshot: %d rows in %d runs of %d bytes", store.Rows, len(store.Runs), len(b))
	}
	runs := make([][]byte, len(store.Runs))
	for i, n := range store.Runs {
		if n < 0 || n > len(b) {
			return nil, fmt.Errorf("snapshot: run %d has %d bytes of %d", i, n, len(b))
		}
		runs[i], b = b[:n], b[n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("snapshot: %d bytes behind the last row", len(b))
	}
	states, err := restoreRuns(runs, store.Rows, lastSeq)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return viewOf(states, lastSeq), nil
}

// restoreRuns decodes the runs in parallel.
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
			return nil, fmt.Errorf("row of migration %s is not in its place", states[i+1].Checkpoint.MigrationID)
		}
	}
	return states, nil
}

// rowsPerAllocation is how many rows share an allocation. The allocation lives until the last of
// them is replaced. So many fill 4 KiB, a size that the runtime allocates without waste.
const rowsPerAllocation = 23

// restoreRun decodes as many rows as there are states, which are all that b holds.
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
		if s.last == 0 || s.last > lastSeq || s.Seq > s.last || s.PrevSeq >= max(s.Seq, 1) || (s.Seq == 0) != (s.status == onlyUnknownKinds) {
			return fmt.Errorf("row of migration %s, seq %d, does not fit", s.Checkpoint.MigrationID, s.Seq)
		}
		states[i], b = s, rest
	}
	if len(b) > 0 {
		return fmt.Errorf("%d bytes behind the last row of a run", len(b))
	}
	return nil
}

// decode reads the row at the start of b if it is in the form in which append writes it.
func (s *state) decode(b []byte) (rest []byte, ok bool) {
	c := detcbor.NewCursor(b)
	pairs, last, flags, intact := c.Head(detcbor.MajorMap), uint64(0), uint64(0), true
	s.status = onlyUnknownKinds
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
			s.last = c.Head(detcbor.MajorUint)
		case 4:
			intact = intact && s.decodeEvent(c.Span(detcbor.MajorBytes)) == nil
		case 5:
			intact = intact && s.decodeFacts(&c)
		case 6:
			flags = c.Head(detcbor.MajorUint)
		case 7:
			intact = intact && s.status != hasRow && s.setID(c.Span(detcbor.MajorBytes)) == nil
		default:
			intact = false
		}
	}
	s.setFlags(flags)
	return c.Left(), intact && !c.Failed()
}

// decodeFacts reads the facts at the cursor if they are in the form in which appendFacts writes
// them.
func (s *state) decodeFacts(c *detcbor.Cursor) bool {
	var w factsWire
	var logical uint64
	values := [...]*uint64{&w.Flags, &w.SourceNode, &w.TargetNode, &w.SourceGroup, &w.WritePauseBudgetUS, &w.WallNS, &logical}
	last := uint64(0)
	for pairs := c.Head(detcbor.MajorMap); pairs > 0; pairs-- {
		key := c.Head(detcbor.MajorUint)
		if key <= last || key > uint64(len(values)) {
			return false
		}
		last = key
		*values[key-1] = c.Head(detcbor.MajorUint)
	}
	w.Logical = c.Fits32(logical)
	s.setFacts(&w)
	return !c.Failed()
}

// decodeAnyForm reads the row at the start of b in any form of CBOR, also with keys that are not
// known.
func (s *state) decodeAnyForm(b []byte) (rest []byte, err error) {
	var w rowWire
	if rest, err = cbor.UnmarshalFirst(b, &w); err != nil {
		return b, err
	}
	s.Seq, s.PrevSeq, s.last, s.status = w.Seq, w.PrevSeq, w.Last, onlyUnknownKinds
	if w.Event != nil {
		err = s.decodeEvent(w.Event)
	} else {
		err = s.setID(w.ID)
	}
	s.setFacts(&w.Facts)
	s.setFlags(w.Flags)
	return rest, err
}

func (s *state) decodeEvent(b []byte) error {
	var err error
	s.Checkpoint, err = checkpoint.DecodeUpserted(b)
	s.status = hasRow
	return err
}

func (s *state) setID(id []byte) error {
	if len(id) != len(s.Checkpoint.MigrationID) {
		return fmt.Errorf("a migration id of %d bytes", len(id))
	}
	copy(s.Checkpoint.MigrationID[:], id)
	return nil
}

func (s *state) setFlags(flags uint64) {
	s.gapSince[partIncarnation], s.gapSince[partRow] = flags&gapSinceIncarnation != 0, flags&gapSinceRow != 0
}

func (s *state) setFacts(w *factsWire) {
	s.Facts = Facts{
		SourceNode: w.SourceNode, TargetNode: w.TargetNode, SourceGroup: w.SourceGroup, WritePauseBudgetUS: w.WritePauseBudgetUS,
		StartedAtHLC: checkpoint.HLC{WallNS: w.WallNS, Logical: w.Logical},
		HasTarget:    w.Flags&hasTarget != 0, HasSource: w.Flags&hasSource != 0,
	}
	s.gapSince[partTarget], s.gapSince[partSource] = w.Flags&gapSinceTarget != 0, w.Flags&gapSinceSource != 0
}
