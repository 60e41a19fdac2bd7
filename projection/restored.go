package projection

import "migrationlog/checkpoint"

// restore sets the facts of a restored row. Event seq has recorded all of them.
func (s *state) restore(seq uint64, f *checkpoint.RestoredFacts) {
	s.facts = facts{
		sourceNode: f.SourceNode, targetNode: f.TargetNode, sourceGroup: f.SourceGroup, writePauseBudgetUS: f.WritePauseBudgetUS,
		startedWallNS: f.StartedAtHLC.WallNS, startedLogical: f.StartedAtHLC.Logical, hasTarget: f.HasTarget, hasSource: f.HasSource,
		furthestPhase: f.FurthestPhase, recordedPhases: f.RecordedPhases,
	}
	s.recordedSeq, s.gapSince = [partRow]uint64{seq, seq, seq}, [partCount]bool{}
	rare := rareFacts{highestAttempt: f.HighestAttempt, targets: f.Targets}
	if a := f.Abort; a != nil {
		rare.abort = &AbortProgress{
			Seq: seq, Reason: a.Reason, Compensations: a.Compensations, Done: make([]bool, len(a.Compensations)), TimestampMS: a.TimestampMS,
		}
		copy(rare.abort.Done, a.Done)
		if a.BeforeCheckpoint {
			rare.abort.Seq = 0
		}
	}
	if !rare.equal(&noRareFacts) {
		s.facts.rare = &rare
	}
}

// AppendRestored appends the encoded restored event of the migration's row to dst. Its position has
// the index LastIndex. The bytes depend only on the checkpoint, the facts and the index, and not on
// seqs and lost events, so they are the same on all members of a consensus group. AppendRestored
// returns an error if the facts contradict each other.
//
// If the migration has no row, AppendRestored returns nil, and a restored member does not have the
// state of such a migration. This state has only seqs, because a replicated store refuses to begin
// an abort without a row.
func (s Slot) AppendRestored(dst []byte) ([]byte, error) {
	if s.Latest() == nil {
		return nil, nil
	}
	f := s.state.exportedFacts()
	restored := checkpoint.RestoredFacts{
		SourceNode: f.SourceNode, TargetNode: f.TargetNode, SourceGroup: f.SourceGroup, WritePauseBudgetUS: f.WritePauseBudgetUS,
		StartedAtHLC: f.StartedAtHLC, HasTarget: f.HasTarget, HasSource: f.HasSource,
		FurthestPhase: f.FurthestPhase, RecordedPhases: f.RecordedPhases, HighestAttempt: f.HighestAttempt, Targets: f.Targets,
	}
	if a := f.Abort; a != nil {
		restored.Abort = &checkpoint.RestoredAbort{
			Reason: a.Reason, Compensations: a.Compensations, Done: a.Done, TimestampMS: a.TimestampMS, BeforeCheckpoint: a.Seq < s.state.Seq,
		}
	}
	return checkpoint.AppendRestored(dst, &s.state.Checkpoint, &restored, s.state.LastIndex)
}

// AppendRestored is Slot.AppendRestored for a migration.
func (v *View) AppendRestored(dst []byte, id checkpoint.MigrationID) ([]byte, error) {
	return v.Slot(id).AppendRestored(dst)
}
