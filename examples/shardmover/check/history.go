package check

import (
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/node"
	"migrationlog/replay"
)

// history is the history of the metadata group, by migration.
type history struct {
	migrations map[checkpoint.MigrationID]*migration
	order      []checkpoint.MigrationID // of the first events
	violations []string
}

// migration is the history of one migration.
type migration struct {
	epochs     []uint64         // ascending, each once
	phase      checkpoint.Phase // the last one
	abort      *checkpoint.AbortBegun
	abortEpoch uint64              // of abort_begun
	recorded   map[uint32]recorded // steps of the abort
	outcome    coordinator.Outcome
}

// recorded is the place of a compensated event.
type recorded struct{ epoch, index uint64 }

// readHistory reads the events in order, and checks the order of each migration's events.
func readHistory(records []replay.Record) *history {
	h := &history{migrations: map[checkpoint.MigrationID]*migration{}}
	var highest uint64
	for _, r := range records {
		if r.Event == nil {
			h.violate("seq %d: the history has damage or an unknown event", r.Seq)
			continue
		}
		if epoch := r.Epoch(); epoch < highest {
			h.violate("seq %d has epoch %d after epoch %d: a coordinator was not fenced", r.Seq, epoch, highest)
		} else {
			highest = epoch
		}
		h.add(r)
	}
	return h
}

func (h *history) violate(format string, args ...any) {
	h.violations = append(h.violations, fmt.Sprintf(format, args...))
}

// add adds an event.
func (h *history) add(r replay.Record) {
	switch r.Event.(type) {
	case checkpoint.Upserted, checkpoint.AbortBegun, checkpoint.Compensated, checkpoint.Aborted, checkpoint.Removed:
	default:
		return // it belongs to no move
	}
	id := r.Event.Migration()
	m := h.migrations[id]
	if m == nil {
		m = &migration{recorded: map[uint32]recorded{}, outcome: coordinator.Absent}
		h.migrations[id], h.order = m, append(h.order, id)
	}
	if n := len(m.epochs); n == 0 || m.epochs[n-1] != r.Epoch() {
		m.epochs = append(m.epochs, r.Epoch())
	}
	if m.outcome == coordinator.Complete || m.outcome == coordinator.Aborted {
		h.violate("seq %d: migration %s has an event after its end", r.Seq, id)
		return
	}
	m.outcome = coordinator.InFlight
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		if next := m.phase + 1; e.Checkpoint.Phase() != next || m.abort != nil {
			h.violate("seq %d: migration %s is at %s after %s", r.Seq, id, e.Checkpoint.Phase(), m.phase)
		}
		m.phase = e.Checkpoint.Phase()
	case checkpoint.AbortBegun:
		if m.abort != nil || m.phase >= checkpoint.PhaseCutover {
			h.violate("seq %d: an abort of migration %s begins at %s, or for the second time", r.Seq, id, m.phase)
		}
		m.abort, m.abortEpoch = &e, r.Epoch()
	case checkpoint.Compensated:
		if _, twice := m.recorded[e.Step]; twice {
			h.violate("seq %d: step %d of the abort of %s is recorded for the second time", r.Seq, e.Step, id)
			return
		}
		m.recorded[e.Step] = recorded{epoch: r.Epoch(), index: r.RaftIndex}
	case checkpoint.Aborted:
		if m.abort == nil || len(m.recorded) != len(m.abort.Compensations) {
			h.violate("seq %d: migration %s is aborted with %d recorded steps", r.Seq, id, len(m.recorded))
		}
		m.outcome = coordinator.Aborted
	case checkpoint.Removed:
		if m.phase != checkpoint.PhaseComplete {
			h.violate("seq %d: migration %s is removed at %s", r.Seq, id, m.phase)
		}
		m.outcome = coordinator.Complete
	}
}

// compensationsTwice counts the compensations that were carried out again although they were
// recorded. This is certain in two cases: the coordinator had seen the record, or it has a higher
// epoch than the record. Its recovery then began with a barrier, after which no event of a lower
// epoch is appended.
func (h *history) compensationsTwice(all []node.Compensation) (twice int) {
	for _, c := range all {
		m := h.migrations[c.MigrationID]
		if m == nil {
			continue
		}
		if event, found := m.recorded[c.Step]; found && (c.Epoch > event.epoch || c.KnownIndex >= event.index) {
			twice++
		}
	}
	return twice
}

// wrongOutcomes compares the outcomes that the coordinators have returned with the history.
func (h *history) wrongOutcomes(moves []Move) (violations []string) {
	asked := map[checkpoint.MigrationID]bool{}
	for _, move := range moves {
		asked[move.ID] = true
		outcome := coordinator.Absent
		if m := h.migrations[move.ID]; m != nil {
			outcome = m.outcome
		}
		if outcome != move.Outcome {
			violations = append(violations, fmt.Sprintf("migration %s is %s in the history, and a coordinator has returned %s", move.ID, outcome, move.Outcome))
		}
	}
	for _, id := range h.order {
		if !asked[id] {
			violations = append(violations, fmt.Sprintf("migration %s is in the history, and the driver has not asked for it", id))
		}
	}
	return violations
}

// takenOver returns the migrations with events of more than one epoch, in the order of their
// beginning.
func (h *history) takenOver() (ids []checkpoint.MigrationID) {
	for _, id := range h.order {
		if len(h.migrations[id].epochs) > 1 {
			ids = append(ids, id)
		}
	}
	return ids
}

// Interrupted returns a migration that a successor has continued, and one whose abort a successor
// has continued. An id is zero if there is none.
func Interrupted(records []replay.Record) (move, abort checkpoint.MigrationID) {
	h := readHistory(records)
	for _, id := range h.takenOver() {
		m := h.migrations[id]
		switch {
		case m.abort == nil:
			move = id
		case m.epochs[len(m.epochs)-1] > m.abortEpoch:
			abort = id
		}
	}
	return move, abort
}
