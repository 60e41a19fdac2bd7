package projection

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"migrationlog/checkpoint"
	"migrationlog/internal/detcbor"
)

// AdoptSnapshot replaces all states with those of a snapshot taken at the current last event.
// Losses before it stay recorded but no longer put any migration in doubt.
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
		if !ok || !reflect.DeepEqual(o.Row, s.Row) || o.last != s.last || o.gapSince != s.gapSince {
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

// Restore decodes the body of a snapshot of version 2. It returns the view at the time of the
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
	return viewOf(states, lastSeq), nil
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
		if s.last == 0 || s.last > lastSeq || s.Seq > s.last || s.PrevSeq >= max(s.Seq, 1) || (s.Seq == 0) != (s.status == onlyUnknownKinds) {
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

// decodeFacts decodes the facts at the cursor. It returns false if they are not in the exact form
// that appendFacts writes.
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

// decodeAnyForm decodes the row at the start of b in any valid CBOR encoding. It ignores unknown
// keys.
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
		return fmt.Errorf("a migration id has %d bytes", len(id))
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
