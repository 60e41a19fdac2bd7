package projection

import "migrationlog/checkpoint"

// Row is the latest checkpoint of one migration, and what its history adds.
type Row struct {
	Checkpoint checkpoint.Checkpoint
	Seq        uint64 // of the event that made this the latest checkpoint
	PrevSeq    uint64 // of the migration's event before that; 0 if it was the first of this life of the id
	Facts      Facts
	Doubt      Doubt // what the lost events mean for it, at the moment of the reading
}

// state is what a view knows of one migration.
type state struct {
	Row
	last   uint64 // of its events, also of a kind that is not known
	holes  holes
	shaken bool // a lost event lies between the row and one of a kind that is not known
	ended  bool // by an abort or a removal: there is no row
}

func (s *state) shard() uint32 { return s.Checkpoint.Payload.Shard() }

// Facts is what the phases of one life of a migration have told so far. The
// latest row alone does not have it: a CatchUp row names neither group nor
// target, and both are needed to undo it.
type Facts struct {
	SourceNode         uint64
	TargetNode         uint64
	SourceGroup        uint64
	WritePauseBudgetUS uint64 // microseconds
	StartedAtHLC       checkpoint.HLC
	HasTarget          bool // TargetNode and SourceGroup are known
	HasSource          bool // AddLearner was seen: the others are known too
	// An event may have been lost since TargetNode and SourceGroup, or since the
	// others, were told: they may be of an earlier life of the id.
	TargetUncertain, SourceUncertain bool
}

// after returns the facts once the payload has been recorded. A later phase
// names the target again, as the promoted voter or the new leader.
func (f Facts) after(p checkpoint.Payload) Facts {
	switch p := p.(type) {
	case checkpoint.AddLearner:
		return Facts{
			SourceNode: p.SourceNode, TargetNode: p.TargetNode, SourceGroup: p.SourceGroup,
			WritePauseBudgetUS: p.WritePauseBudgetUS, StartedAtHLC: p.StartedAtHLC,
			HasTarget: true, HasSource: true,
		}
	case checkpoint.PromoteLearner:
		return f.withTarget(p.TargetNode, p.SourceGroup)
	case checkpoint.LeadershipTransfer:
		return f.withTarget(p.NewLeaderNodeID, p.SourceGroup)
	case checkpoint.Cutover:
		return f.withTarget(p.NewLeaderNodeID, p.SourceGroup)
	}
	return f
}

func (f Facts) withTarget(node, group uint64) Facts {
	f.TargetNode, f.SourceGroup, f.HasTarget, f.TargetUncertain = node, group, true, false
	return f
}

// Change is what an event makes of its migration: a row in the making, or its end. It can
// be added to a view once.
type Change struct{ state *state }

// Upserts is the change of an event that makes the checkpoint its migration's latest.
func Upserts(c checkpoint.Checkpoint) Change { return Change{&state{Row: Row{Checkpoint: c}}} }

// Ends is the change of an event after which the migration has no row.
func Ends(id checkpoint.MigrationID) Change {
	return Change{&state{Row: Row{Checkpoint: checkpoint.Checkpoint{MigrationID: id}}, ended: true}}
}

// ChangeOf is the change of an event.
func ChangeOf(e checkpoint.Event) Change {
	if upserted, ok := e.(checkpoint.Upserted); ok {
		return Upserts(upserted.Checkpoint)
	}
	return Ends(e.Migration())
}

// Migration is the one that is changed.
func (c Change) Migration() checkpoint.MigrationID { return c.state.Checkpoint.MigrationID }

// Checkpoint is the one that becomes the latest, nil for an end. It must not be changed.
func (c Change) Checkpoint() *checkpoint.Checkpoint {
	if c.state.ended {
		return nil
	}
	return &c.state.Checkpoint
}

// begins reports whether this may be the first row of a whole life.
func (s *state) begins() bool {
	return !s.ended && s.Checkpoint.Phase() == checkpoint.PhaseAddLearner
}

// follow makes the change one of the event with that number, which follows on the state
// before, nil for none. Gap says that an event of the migration may have been lost
// between the two.
func (s *state) follow(before *state, seq, prevSeq uint64, gap bool) {
	s.last = seq
	if s.ended {
		return
	}
	s.Seq, s.PrevSeq = seq, prevSeq
	if before != nil && prevSeq != 0 {
		s.Facts = before.Facts
	}
	if gap {
		s.Facts.TargetUncertain, s.Facts.SourceUncertain = s.Facts.HasTarget, s.Facts.HasSource
	}
	s.Facts = s.Facts.after(s.Checkpoint.Payload)
}
