package coordinator

import (
	"context"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/projection"
	"migrationlog/raftlog"
)

// addLearner adds the target's replica as a learner. The row was written before, so if the
// coordinator dies here, its successor knows the learner.
func (m *mover) addLearner(ctx context.Context, row projection.Row) error {
	replica := moveOf(row).replica()
	if err := m.groups.host(ctx, replica); err != nil {
		return err
	}
	index, err := m.groups.ensure(ctx, m.epoch, shard.AddLearner, replica, func(v shard.View) bool { return isMember(v, replica) })
	if err != nil {
		return err
	}
	return m.record(ctx, row, checkpoint.CatchUp{VShardID: row.Checkpoint.Payload.Shard(), LearnerLogIndexAtAdd: index})
}

// catchUp waits until the learner has almost all entries of the leader, and makes it a voter.
func (m *mover) catchUp(ctx context.Context, row projection.Row) error {
	move := moveOf(row)
	if err := m.waitForLearner(ctx, move); err != nil {
		return err
	}
	_, err := m.groups.ensure(ctx, m.epoch, shard.Promote, move.replica(), func(v shard.View) bool {
		return voterAt(v, move.Target) == move.replica()
	})
	if err != nil {
		return err
	}
	return m.record(ctx, row, checkpoint.PromoteLearner{VShardID: row.Checkpoint.Payload.Shard(), TargetNode: move.Target, SourceGroup: move.Group})
}

// waitForLearner compares the index that the learner has applied with the commit index of the
// leader.
func (m *mover) waitForLearner(ctx context.Context, move Move) error {
	waiting, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	var committed uint64
	var learner shard.Progress
	for {
		view, err := m.groups.fence(waiting, move.Group, m.epoch)
		if err == nil {
			committed = view.CommitIndex
			learner, err = m.groups.progress(waiting, move.Target, move.Group)
		}
		if err == nil && learner.AppliedIndex+maxLag >= committed {
			return nil
		}
		if sleep(waiting, retryPause) != nil {
			return m.hopeless(waiting, "the learner has applied index %d of %d after %v", learner.AppliedIndex, committed, catchUpTimeout)
		}
	}
}

// announceTransfer records that the leadership will be transferred. From then on, a successor must
// ask the group who leads before it undoes the move.
func (m *mover) announceTransfer(ctx context.Context, row projection.Row) error {
	move := moveOf(row)
	return m.record(ctx, row, checkpoint.LeadershipTransfer{
		VShardID: row.Checkpoint.Payload.Shard(), TargetIsVoter: true, NewLeaderNodeID: move.Target, SourceGroup: move.Group,
	})
}

// transfer makes the target the leader.
func (m *mover) transfer(ctx context.Context, row projection.Row) error {
	move, began := moveOf(row), time.Now()
	waiting, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	if err := m.groups.transfer(waiting, move.replica(), m.epoch, nil); err != nil {
		if waiting.Err() != nil {
			return m.hopeless(waiting, "the target does not lead after %v", transferTimeout)
		}
		return err
	}
	m.setPause(move.ID, time.Since(began))
	return m.record(ctx, row, checkpoint.Cutover{VShardID: row.Checkpoint.Payload.Shard(), NewLeaderNodeID: move.Target, SourceGroup: move.Group})
}

// setPause records for how long a transfer may have stopped the writes.
func (m *mover) setPause(id checkpoint.MigrationID, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pauses[id] = d
}

// pause returns the recorded time, or 0 if an earlier coordinator has transferred the leadership.
func (m *mover) pause(id checkpoint.MigrationID) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pauses[id]
}

// cutOver redirects the clients of the source to the target, and removes the source's replica. From
// here on, the move is not aborted any more.
func (m *mover) cutOver(ctx context.Context, row projection.Row) error {
	move := moveOf(row)
	if err := m.groups.stub(ctx, move.Source, move.Group, move.Target, m.epoch); err != nil {
		return err
	}
	if err := m.removeSource(ctx, move); err != nil {
		return err
	}
	return m.record(ctx, row, checkpoint.Complete{
		VShardID: row.Checkpoint.Payload.Shard(), ActualPauseUS: uint64(m.pause(move.ID).Microseconds()), GhostStubInstalled: true,
	})
}

// removeSource removes the source's replica from the group and from its node.
func (m *mover) removeSource(ctx context.Context, move Move) error {
	view, err := m.groups.fence(ctx, move.Group, m.epoch)
	if err != nil {
		return err
	}
	if source := voterAt(view, move.Source); source != (shard.ReplicaID{}) {
		if view.Leader == source { // the target has lost the leadership again
			if err := m.groups.transfer(ctx, move.replica(), m.epoch, nil); err != nil {
				return err
			}
		}
		gone := func(v shard.View) bool { return !isMember(v, source) }
		if _, err := m.groups.ensure(ctx, m.epoch, shard.Remove, source, gone); err != nil {
			return err
		}
	}
	hosted, err := m.groups.hosted(ctx, move.Source, move.Group)
	if err != nil || hosted == (shard.ReplicaID{}) {
		return err
	}
	return m.groups.drop(ctx, hosted)
}

// remove removes the row of a completed move.
func (m *mover) remove(ctx context.Context, row projection.Row) error {
	id := row.Checkpoint.MigrationID
	if _, err := m.proposer.Remove(ctx, id, raftlog.IfIndex(row.LastIndex), raftlog.Term(m.epoch), raftlog.InOrder()); err != nil {
		return err
	}
	m.report(Progress{Step: StepRemoved, ID: id, Group: row.Facts.SourceGroup})
	return nil
}
