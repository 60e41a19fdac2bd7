package crashpoints

import (
	"errors"
	"fmt"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/recovery/model"
)

// scenario is one future after a crash: coordinators start, plan, and carry out the decisions on a
// branch of the cluster. Their events are added to a copy of the view.
type scenario struct {
	walk      *Walk
	ids       []checkpoint.MigrationID
	nowMS     uint64
	cluster   *model.Cluster
	view      *projection.View
	seq       uint64
	decisions map[checkpoint.MigrationID]recovery.Decision // about each migration, the first that is no question, else the last question
	findings  []Finding
}

func newScenario(w *Walk, e Event, ids []checkpoint.MigrationID, nowMS uint64) *scenario {
	return &scenario{
		walk: w, ids: ids, nowMS: nowMS, cluster: w.cluster.Branch(), view: e.View, seq: e.Seq,
		decisions: make(map[checkpoint.MigrationID]recovery.Decision, len(ids)),
	}
}

// begin sets the circumstances: the unrecorded effects of these migrations were carried out, and
// the targets of all moving rows have left the cluster or not.
func (s *scenario) begin(unrecorded []checkpoint.MigrationID, gone bool) {
	for _, id := range unrecorded {
		s.cluster.Assume(id, s.cluster.Unrecorded(id))
	}
	for _, row := range s.rows() {
		if gone && s.walk.rows[row.Checkpoint.MigrationID].moving {
			for _, at := range targetsOf(&row) {
				s.cluster.RemoveNode(at.PeerID)
			}
		}
	}
}

// run plans and carries out the decisions until no row is left, or until all decisions are
// questions. It plans again after each step of an abort. Every unfinished abort is thus planned
// too.
func (s *scenario) run() {
	rounds := 0
	for rows := s.rows(); len(rows) > 0; rows = s.rows() {
		decisions := s.walk.plan(rows, s.cluster.Policy(s.walk.policy), s.nowMS)
		for i := range decisions {
			if before := s.decisions[decisions[i].MigrationID()].Action; before == "" || before == recovery.AskFirst {
				s.decisions[decisions[i].MigrationID()] = decisions[i]
			}
		}
		if !slices.ContainsFunc(decisions, func(d recovery.Decision) bool { return d.Action != recovery.AskFirst }) {
			break
		}
		if rounds++; rounds > s.maxRounds() {
			s.stuck(decisions[0].MigrationID(), fmt.Sprintf("the migration has not ended after %d plans", rounds-1))
			break
		}
		if !s.carryOut(decisions) {
			break
		}
	}
	for _, v := range append(s.cluster.Violations(), s.cluster.Leaks()...) {
		s.findings = append(s.findings, Finding{Kind: v.Kind, MigrationID: v.MigrationID, With: v.With, Detail: v.String(), Decision: s.decisions[v.MigrationID]})
	}
}

// rows returns the rows that are left.
func (s *scenario) rows() []projection.Row {
	rows := make([]projection.Row, 0, len(s.ids))
	for _, id := range s.ids {
		if row, ok := s.view.Get(id); ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// maxRounds is the number of plans after which each row must have ended. A migration needs one to
// complete and one to be cleaned up, or one for each step of its abort.
func (s *scenario) maxRounds() int {
	rounds := 8
	for _, row := range s.rows() {
		if abort := row.Facts.Abort; abort != nil {
			rounds += len(abort.Compensations)
		}
	}
	return rounds
}

// carryOut carries out the decisions. It reports whether they can be planned again.
func (s *scenario) carryOut(decisions []recovery.Decision) bool {
	for i := range decisions { // an abort that is decided no longer uses its peers
		if decisions[i].Action == recovery.Abort {
			s.cluster.BeginAbort(decisions[i].MigrationID())
		}
	}
	for i := range decisions {
		d := &decisions[i]
		var err error
		switch d.Action {
		case recovery.Abort:
			err = s.abort(d)
		case recovery.Resume:
			err = s.resume(d)
		case recovery.CleanUp:
			err = s.cleanUp(d)
		}
		if err != nil {
			s.stuck(d.MigrationID(), err.Error())
			return false
		}
	}
	return true
}

func (s *scenario) stuck(id checkpoint.MigrationID, detail string) {
	s.findings = append(s.findings, Finding{Kind: NotConverging, MigrationID: id, Detail: detail, Decision: s.decisions[id]})
}

// abort carries out the next step of an abort: its begin, one compensation, or its end.
func (s *scenario) abort(d *recovery.Decision) error {
	id := d.MigrationID()
	row, _ := s.view.Get(id)
	begun := row.Facts.Abort
	switch {
	case begun == nil:
		s.write(checkpoint.AbortBegun{MigrationID: id, Reason: string(d.Reason), Compensations: d.Compensations, TimestampMS: s.nowMS})
		return nil
	case len(d.Compensations) == 0:
		s.write(checkpoint.Aborted{MigrationID: id, Reason: string(d.Reason), Compensations: begun.Compensations, TimestampMS: s.nowMS})
		s.cluster.End(id)
		return nil
	}
	m, _ := s.cluster.Move(id)
	if err := s.cluster.Compensate(m, d.Compensations[0], 0); err != nil {
		return err
	}
	for step, c := range begun.Compensations {
		if c == d.Compensations[0] && !begun.Done[step] {
			s.write(checkpoint.Compensated{MigrationID: id, Step: uint32(step), TimestampMS: s.nowMS})
			return nil
		}
	}
	return fmt.Errorf("the decision has the step %s, which the abort that was begun does not have or has recorded", d.Compensations[0].Kind)
}

// resume continues the move up to Complete, as a coordinator that does not crash again.
func (s *scenario) resume(d *recovery.Decision) error {
	c := d.Row.Checkpoint
	m, _ := s.cluster.Move(c.MigrationID)
	if d.Row.Facts.Abort != nil {
		return errors.New("the migration is resumed, but its abort was begun, so the log refuses its checkpoints")
	}
	for phase, next := c.Phase(), d.NextPhase; phase < checkpoint.PhaseComplete; phase, next = next, next+1 {
		if next <= phase {
			return fmt.Errorf("the decision resumes with %s, which does not follow %s", next, phase)
		}
		for _, effect := range model.EffectsAfter(phase) {
			if err := s.cluster.Do(m, effect, 0); err != nil {
				return err
			}
		}
		written, err := checkpoint.New(c.MigrationID, c.Attempt, m.Payload(next), s.nowMS)
		if err != nil {
			return err
		}
		s.write(checkpoint.Upserted{Checkpoint: written})
	}
	return nil
}

func (s *scenario) cleanUp(d *recovery.Decision) error {
	id := d.MigrationID()
	if d.Row.Checkpoint.Phase() != checkpoint.PhaseComplete {
		return fmt.Errorf("the row is removed at %s, before Complete", d.Row.Checkpoint.Phase())
	}
	s.write(checkpoint.Removed{MigrationID: id, TimestampMS: s.nowMS})
	s.cluster.End(id)
	return nil
}

// write adds an event to the scenario's view.
func (s *scenario) write(e checkpoint.Event) {
	b := &s.walk.batch
	b.Begin(s.view)
	s.seq++
	b.Add(b.Lookup(e.Migration()), s.seq, projection.ChangeOf(e))
	s.view = b.Fold()
}
