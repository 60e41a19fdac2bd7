package model

import (
	"slices"

	"migrationlog/checkpoint"
)

// Observe brings the cluster to the state that an event of a log proves: all effects before a
// checkpoint have been carried out, and so has each recorded compensation. The events of a log must
// be observed in order. Observe records no violation, because the event has already happened.
//
// A log does not record everything. Observe adds a group when its first move begins. If a move adds
// a node that is in the group and that no move in flight uses, the node has left the group before.
func (c *Cluster) Observe(e checkpoint.Event) {
	mv := c.changeMove(e.Migration())
	switch e := e.(type) {
	case checkpoint.Upserted:
		c.observeCheckpoint(e.Checkpoint)
	case checkpoint.AbortBegun:
		if mv != nil {
			mv.aborting, mv.steps = true, e.Compensations
		}
	case checkpoint.Compensated:
		if mv != nil && int(e.Step) < len(mv.steps) {
			_ = c.undo(mv.Move, mv.steps[e.Step]) // a log has no unknown compensation
		}
	case checkpoint.Aborted:
		if mv != nil {
			for _, step := range e.Compensations {
				_ = c.undo(mv.Move, step)
			}
			mv.aborting = true
			c.end(mv)
		}
	case checkpoint.Removed:
		if mv != nil {
			c.end(mv)
		}
	}
}

func (c *Cluster) observeCheckpoint(cp checkpoint.Checkpoint) {
	mv := c.changeMove(cp.MigrationID)
	if mv == nil {
		mv = &move{Move: Move{MigrationID: cp.MigrationID}, unknownTarget: true}
		c.moves[cp.MigrationID] = mv
	}
	mv.VShardID = cp.Payload.Shard()
	mv.phase = max(mv.phase, cp.Phase())
	switch p := cp.Payload.(type) {
	case checkpoint.AddLearner:
		mv.Source = p.SourceNode
		c.locate(mv, p.SourceGroup, p.TargetNode)
		c.observeSource(mv)
	case checkpoint.PromoteLearner:
		c.locate(mv, p.SourceGroup, p.TargetNode)
	case checkpoint.LeadershipTransfer:
		c.locate(mv, p.SourceGroup, p.NewLeaderNodeID)
	case checkpoint.Cutover:
		c.locate(mv, p.SourceGroup, p.NewLeaderNodeID)
	}
	if mv.unknownTarget {
		return
	}
	g := c.changeGroup(mv.Group)
	for p := checkpoint.PhaseAddLearner; p < mv.phase; p++ {
		for _, e := range EffectsAfter(p) {
			if e != TransferLeadership || !mv.transferred { // a later move may lead by now
				c.apply(g, mv.Move, e)
			}
		}
	}
}

// locate sets the group and the target of a move.
func (c *Cluster) locate(mv *move, groupID, target uint64) {
	mv.Group, mv.Target, mv.unknownTarget = groupID, target, false
	g := c.changeGroup(groupID)
	if g == nil {
		g = &group{peers: map[uint64]*peer{}}
		c.groups[groupID] = g
	}
	inFlight := func(id checkpoint.MigrationID) bool {
		user := c.move(id)
		return user != nil && user.uses(groupID, target) && user.phase < checkpoint.PhaseComplete
	}
	if p := g.peers[target]; p != nil && !mv.uses(groupID, target) && !slices.ContainsFunc(p.users, inFlight) {
		g.remove(target)
	}
}

// observeSource makes the source a voter of the group, and its leader if it has none.
func (c *Cluster) observeSource(mv *move) {
	g := c.changeGroup(mv.Group)
	if g.peers[mv.Source] == nil {
		g.peers[mv.Source] = &peer{voter: true, settled: true}
	}
	if !g.hasLeader {
		g.leader, g.hasLeader = mv.Source, true
	}
}

// Unrecorded returns the effects that may have been carried out since the migration's last event,
// without a record. An abort that has begun has none.
func (c *Cluster) Unrecorded(id checkpoint.MigrationID) []Effect {
	mv := c.move(id)
	if mv == nil || mv.aborting || mv.unknownTarget {
		return nil
	}
	return EffectsAfter(mv.phase)
}

// Assume carries out effects that an observed migration may have carried out without a record, if
// the cluster is in the state that they need. As Observe, it records no violation.
func (c *Cluster) Assume(id checkpoint.MigrationID, effects []Effect) {
	mv := c.changeMove(id)
	g := c.changeGroup(mv.Group)
	for _, e := range effects {
		if c.precondition(g, mv.Move, e) == nil {
			c.apply(g, mv.Move, e)
		}
	}
}

// Move returns an observed or begun migration that has not ended.
func (c *Cluster) Move(id checkpoint.MigrationID) (Move, bool) {
	mv := c.move(id)
	if mv == nil {
		return Move{}, false
	}
	return mv.Move, true
}
