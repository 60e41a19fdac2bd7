package migrationlog

import (
	"fmt"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// This file decides which writes are appended. The leader of a batch calls check for each write, in
// the order of the commits, with the migration's place in a view that has all writes before it.

// check compares a write with its migration, and with the highest epoch. It reports whether the
// write must be appended. If it need not be, the receipt describes what the log already has.
func (w *write) check(at projection.Slot, highest uint64) (r Receipt, proceed bool, err error) {
	if n := w.options.epoch; n > 0 && n < highest { //mutant:fenced
		return r, false, fmt.Errorf("%w: the write has epoch %d, and the log has epoch %d: another coordinator has taken over. Stop writing",
			ErrFenced, n, highest)
	}
	if w.options.inOrder && !w.options.confirm && at.Latest() != nil && w.inDoubt(at) { //mutant:order-in-doubt
		return r, false, fmt.Errorf("%w: migration %s is in doubt: find out its state from the cluster, and write it with Confirm",
			ErrOutOfOrder, w.change.Migration())
	}
	switch w.change.Effect() {
	case checkpoint.EffectRow:
		r, proceed, err = w.checkUpsert(at)
	case checkpoint.EffectEnd:
		proceed, err = w.checkEnd(at)
	case checkpoint.EffectAbort:
		r, proceed, err = w.checkProgress(at)
	default:
		proceed = true
	}
	if proceed && err == nil {
		err = w.checkLastEvent(at)
	}
	if proceed && err == nil && w.options.inOrder {
		err = w.checkOrder(at)
	}
	return r, proceed && err == nil, err
}

// abortOf returns the abort of the migration that is under way, or nil. An abort does not affect a
// write that reproduces a history.
func (w *write) abortOf(at projection.Slot) *projection.AbortProgress {
	if w.options.reproduces {
		return nil
	}
	return at.Abort()
}

// checkUpsert decides about an upsert. If its key is that of the row, it is a duplicate.
func (w *write) checkUpsert(at projection.Slot) (r Receipt, proceed bool, err error) {
	c, row, abort := w.change.Checkpoint(), at.Latest(), w.abortOf(at)
	if abort != nil && !w.options.confirm { //mutant:abort-refuses-upsert
		return r, false, w.abortingError(abort)
	}
	//mutant:duplicate-found
	if row != nil && row.Checkpoint.Phase() == c.Phase() && row.Checkpoint.Attempt == c.Attempt {
		duplicate := Receipt{Seq: row.Seq, Duplicate: true, Differs: row.Checkpoint.Payload != c.Payload}
		if duplicate.Differs && w.options.strict {
			return r, false, fmt.Errorf("%w: migration %s has %s, attempt %d, with another payload%s",
				ErrConflict, c.MigrationID, c.Phase(), c.Attempt, w.atSeq(row.Seq))
		}
		// A row from before the abort was not confirmed during the abort.
		isRetry := w.isRetry(at) && !duplicate.Differs && (abort == nil || row.Seq > abort.Seq) //mutant:confirmed-since
		if !w.options.confirm || isRetry {                                                      //mutant:confirmed-retry
			return duplicate, false, nil
		}
	}
	return r, true, nil
}

// checkEnd decides about an abort or a removal.
func (w *write) checkEnd(at projection.Slot) (proceed bool, err error) {
	if abort := w.abortOf(at); abort != nil {
		e, aborts := w.event.(checkpoint.Aborted)
		if !aborts { //mutant:abort-refuses-removal
			return false, w.abortingError(abort)
		}
		return true, w.setAbortList(e, abort)
	}
	exists := at.Latest() != nil
	if !exists && w.options.expects == 0 && !w.options.confirm {
		return false, nil // there is nothing to abort or remove
	}
	if !exists && w.isRetry(at) { //mutant:end-retried
		return false, nil
	}
	return true, nil
}

// setAbortList gives the event that ends an abort all compensations of that abort. It returns
// ErrConflict if the event has other ones.
func (w *write) setAbortList(e checkpoint.Aborted, abort *projection.AbortProgress) error {
	switch {
	case len(e.Compensations) == 0 && len(abort.Compensations) > 0: //mutant:whole-list
		e.Compensations = abort.Compensations
		w.setEvent(e)
		return w.err
	case !slices.Equal(e.Compensations, abort.Compensations): //mutant:abort-list-compared
		return w.otherListError(abort)
	}
	return nil
}

// checkProgress decides about the beginning of an abort, or a step of it. If the abort under way
// already has it, it is a duplicate.
func (w *write) checkProgress(at projection.Slot) (r Receipt, proceed bool, err error) {
	if w.options.reproduces {
		return r, true, nil
	}
	id, abort := w.change.Migration(), at.Abort()
	duplicate := Receipt{Duplicate: true}
	switch e := w.event.(type) {
	case checkpoint.AbortBegun:
		switch {
		case abort == nil && at.Latest() == nil:
			return r, false, fmt.Errorf("%w: migration %s has no row, because it has ended, never began, or lost its row: carry out no compensation", ErrConflict, id)
		case abort == nil:
			return r, true, nil
		case !slices.Equal(e.Compensations, abort.Compensations): //mutant:begun-list-compared
			return r, false, w.otherListError(abort)
		}
		duplicate.Differs = e.Reason != abort.Reason
	case checkpoint.Compensated:
		switch {
		case abort == nil:
			return r, false, fmt.Errorf("%w: migration %s has no abort under way, so it has no step %d: begin the abort first", ErrInvalid, id, e.Step)
		case uint64(e.Step) >= uint64(len(abort.Compensations)): //mutant:step-in-list
			return r, false, fmt.Errorf("%w: migration %s: the abort that was begun%s has %d compensations, and no step %d",
				ErrInvalid, id, w.atSeq(abort.Seq), len(abort.Compensations), e.Step)
		case !abort.IsDone(e.Step): //mutant:step-recorded-once
			return r, true, nil
		}
	}
	duplicate.Seq = abort.Seq
	if !w.options.confirm || w.isRetry(at) { //mutant:progress-duplicate
		return duplicate, false, nil
	}
	return r, true, nil
}

func (w *write) abortingError(abort *projection.AbortProgress) error {
	return fmt.Errorf("%w: the abort of migration %s was begun%s: finish it with Compensated and Abort", ErrAborting, w.change.Migration(), w.atSeq(abort.Seq))
}

func (w *write) otherListError(abort *projection.AbortProgress) error {
	return fmt.Errorf("%w: the abort of migration %s was begun%s with another list of %d compensations: finish it with that list",
		ErrConflict, w.change.Migration(), w.atSeq(abort.Seq), len(abort.Compensations))
}

// atSeq returns " at seq N" for an error message. It returns "" for an entry of Replica.Apply, because
// all members refuse the entry with the same message.
func (w *write) atSeq(seq uint64) string {
	if w.options.replicated {
		return ""
	}
	return fmt.Sprintf(" at seq %d", seq)
}

// lastEvent returns the number with which IfSeq or IfIndex is compared: that of the last event of a
// migration that has a row, or 0.
func (w *write) lastEvent(at projection.Slot) uint64 {
	switch {
	case at.Latest() == nil:
		return 0
	case w.options.hasIfIndex:
		return at.LastIndex()
	}
	return at.LastSeq() //mutant:last-event-of-any-kind
}

// checkLastEvent returns ErrConflict if the guard IfSeq or IfIndex does not hold.
func (w *write) checkLastEvent(at projection.Slot) error {
	want, last := w.options.expects, w.lastEvent(at)
	if !w.options.expectsLast() || want == last { //mutant:if-seq
		return nil
	}
	number := "seq"
	if w.options.hasIfIndex {
		number = "index"
	}
	id, row := w.change.Migration(), at.Latest()
	if row == nil {
		return fmt.Errorf("%w: migration %s has no row, the write expects %s %d", ErrConflict, id, number, want)
	}
	return fmt.Errorf("%w: migration %s is at %s %d (%s, attempt %d), the write expects %s %d",
		ErrConflict, id, number, last, row.Checkpoint.Phase(), row.Checkpoint.Attempt, number, want)
}

// isRetry reports whether a write with IfSeq or IfIndex, whose effect the view already has, is the
// retry of a call that succeeded. The first call changed the number of the migration's last event,
// and no event was lost after it. If the migration is in doubt, the event that the caller expects may
// be lost, so the write is not a retry.
func (w *write) isRetry(at projection.Slot) bool {
	return w.options.expectsLast() && w.options.expects != w.lastEvent(at) && !w.inDoubt(at)
}

// inDoubt reports whether the migration is in doubt. For an entry of Replica.Apply it returns
// false, because doubt can differ between members. A member with lost events does not open.
func (w *write) inDoubt(at projection.Slot) bool { return !w.options.replicated && at.InDoubt() }

// checkVShardFree returns ErrMigrationInProgress if another migration of an upsert's vShard is in
// flight.
func (s *Store) checkVShardFree(w *write) error {
	c := w.change.Checkpoint()
	if c == nil {
		return nil
	}
	vshardID := c.Payload.Shard()
	other, found := s.next.OtherInFlight(vshardID, c.MigrationID)
	if !found {
		return nil
	}
	return fmt.Errorf("%w: vShard %d is moved by migration %s, which is%s (%s, attempt %d)",
		ErrMigrationInProgress, vshardID, other.Checkpoint.MigrationID, w.atSeq(other.Seq), other.Checkpoint.Phase(), other.Checkpoint.Attempt)
}

// checkOrder returns ErrOutOfOrder if the write does not follow the protocol.
func (w *write) checkOrder(at projection.Slot) error {
	id, row, f := w.change.Migration(), at.Latest(), at.Facts()
	switch w.event.(type) {
	case checkpoint.Aborted, checkpoint.AbortBegun:
		if row != nil && f.FurthestPhase >= checkpoint.PhaseCutover { //mutant:no-abort-past-cutover
			return fmt.Errorf("%w: migration %s has been at %s: from Cutover on, a migration only goes forward", ErrOutOfOrder, id, f.FurthestPhase)
		}
		return nil
	case checkpoint.Removed:
		if row != nil && row.Checkpoint.Phase() < checkpoint.PhaseComplete { //mutant:no-removal-before-complete
			return fmt.Errorf("%w: migration %s is at %s: remove it after Complete, or abort it", ErrOutOfOrder, id, row.Checkpoint.Phase())
		}
		return nil
	}
	if c := w.change.Checkpoint(); c != nil {
		return checkPhaseOrder(row, &f, c)
	}
	return nil
}

// checkPhaseOrder returns ErrOutOfOrder if the checkpoint c does not follow the row, or nil for no
// row, and the facts of its incarnation.
func checkPhaseOrder(row *projection.Latest, f *projection.Facts, c *checkpoint.Checkpoint) error {
	id, phase := c.MigrationID, c.Phase()
	if row == nil {
		if phase != checkpoint.PhaseAddLearner { //mutant:add-learner-first
			return fmt.Errorf("%w: migration %s has no row: its first checkpoint is AddLearner, and not %s", ErrOutOfOrder, id, phase)
		}
		return nil
	}
	// A write that repeats the row gets here only with Confirm. It is no step.
	repeats := row.Checkpoint.Phase() == phase && row.Checkpoint.Attempt == c.Attempt
	recorded, highest := f.RecordedPhases>>(phase-1)&1 == 1, f.HighestAttempt[phase-1]
	switch {
	case phase > f.FurthestPhase+1: //mutant:no-phase-skipped
		return fmt.Errorf("%w: migration %s has been at most at %s, so %s cannot follow", ErrOutOfOrder, id, f.FurthestPhase, phase)
	case f.FurthestPhase >= checkpoint.PhaseCutover && phase < checkpoint.PhaseCutover: //mutant:no-step-back-from-cutover
		return fmt.Errorf("%w: migration %s has been at %s: it cannot step back to %s", ErrOutOfOrder, id, f.FurthestPhase, phase)
	case recorded && c.Attempt <= highest && !repeats: //mutant:attempt-above-highest
		return fmt.Errorf("%w: migration %s has recorded %s with attempt %d: the write has attempt %d and needs a higher one",
			ErrOutOfOrder, id, phase, highest, c.Attempt)
	}
	node, group, named := checkpoint.TargetOf(c.Payload)
	if named && f.HasTarget && (node != f.TargetNode || group != f.SourceGroup) { //mutant:target-unchanged
		return fmt.Errorf("%w: migration %s moves to node %d in group %d: the write has node %d in group %d",
			ErrOutOfOrder, id, f.TargetNode, f.SourceGroup, node, group)
	}
	return nil
}
