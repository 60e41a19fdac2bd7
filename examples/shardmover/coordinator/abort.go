package coordinator

import (
	"context"
	"fmt"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/projection"
	"migrationlog/raftlog"
	"migrationlog/recovery"
)

// fenceAndReadLeader makes a group refuse the effects of all earlier coordinators, and returns the
// node that leads it after that.
func (m *mover) fenceAndReadLeader(ctx context.Context, group uint64) (nodeID uint64, ok bool) {
	view, err := m.groups.fence(ctx, group, m.epoch)
	return view.Leader.Node, err == nil
}

// abort begins to undo a move. The list of the compensations is durable before the first one.
func (m *mover) abort(ctx context.Context, row projection.Row, reason string) error {
	move, furthest := moveOf(row), row.Facts.FurthestPhase
	view, err := m.groups.fence(ctx, move.Group, m.epoch)
	if err != nil {
		return err
	}
	if furthest >= checkpoint.PhaseLeadershipTransfer && view.Leader.Node == move.Target {
		return nil // the transfer has succeeded, so the next step continues the move
	}
	steps := recovery.Compensations(furthest, move.Group, move.Target, &move.Source)
	_, err = m.proposer.BeginAbort(ctx, move.ID, reason, steps, raftlog.IfIndex(row.LastIndex), raftlog.Term(m.epoch), raftlog.InOrder())
	if err != nil {
		return err
	}
	m.report(Progress{Step: StepAbortBegun, ID: move.ID, Group: move.Group, Detail: reason})
	return nil // the next call of step finishes the abort
}

// finishAbort carries out and records the compensations that are not recorded, and ends the
// migration.
func (m *mover) finishAbort(ctx context.Context, row projection.Row) error {
	id, abort, last := row.Checkpoint.MigrationID, row.Facts.Abort, row.LastIndex
	for i, c := range abort.Compensations {
		if abort.Done[i] {
			continue
		}
		step := recovery.Step{MigrationID: id, Step: uint32(i), Compensation: c, Reason: abort.Reason, Epoch: m.epoch}
		if err := m.compensate(ctx, step); err != nil {
			return err
		}
		receipt, err := m.proposer.Compensated(ctx, id, step.Step, raftlog.IfIndex(last), raftlog.Term(m.epoch))
		if err != nil {
			return err
		}
		last = receipt.Index
		m.report(Progress{Step: StepCompensated, ID: id, Group: c.GroupID, Detail: c.Kind.String()})
	}
	if _, err := m.proposer.Abort(ctx, id, abort.Reason, abort.Compensations, raftlog.IfIndex(last), raftlog.Term(m.epoch)); err != nil {
		return err
	}
	m.report(Progress{Step: StepAborted, ID: id, Group: row.Facts.SourceGroup})
	return nil
}

// compensate carries out one step of an abort. It can be repeated. After it has returned nil, no
// earlier step of the move can take effect.
func (m *mover) compensate(ctx context.Context, s recovery.Step) error {
	undoes := &node.Compensation{MigrationID: s.MigrationID, Step: s.Step, Epoch: m.epoch, KnownIndex: m.fsm.AppliedIndex()}
	c := s.Compensation
	switch c.Kind {
	case checkpoint.RemoveLearner, checkpoint.RemoveVoter:
		return m.removeTarget(ctx, shard.ReplicaID{Node: c.PeerID, Group: c.GroupID, Tag: s.MigrationID.String()}, undoes)
	case checkpoint.RestoreLeaderHint:
		return m.restoreLeader(ctx, c.GroupID, c.PeerID, undoes)
	}
	return fmt.Errorf("this coordinator never begins an abort with %s", c.Kind)
}

// removeTarget removes the replica that a move has added. It succeeds also if the replica is not a
// member of the group.
//
// An AddNonvoter of a dead coordinator can still be under way. The fence commits an entry first.
// After that, every proposal of an earlier leader is committed or will never be. A request that
// reaches the present leader later has the prevIndex of an older configuration. Raft appends a
// configuration even if the removed server is not a member, so it then refuses every older
// prevIndex.
func (m *mover) removeTarget(ctx context.Context, target shard.ReplicaID, undoes *node.Compensation) error {
	for {
		view, err := m.groups.fence(ctx, target.Group, m.epoch)
		if err != nil {
			return err
		}
		if view.Leader == target { // a transfer has committed late: another voter must lead first
			if err := m.groups.transfer(ctx, otherVoter(view, target), m.epoch, undoes); err != nil {
				return err
			}
			continue
		}
		_, err = m.groups.change(ctx, node.Change{
			Change: shard.Change{Kind: shard.Remove, Replica: target, PrevIndex: view.ConfigIndex}, Epoch: m.epoch, Undoes: undoes,
		})
		if isChanged(err) {
			continue
		}
		if err != nil {
			return err
		}
		return m.groups.drop(ctx, target)
	}
}

// restoreLeader makes the source lead again. It gives up after transferTimeout, because the
// compensation is only a hint.
func (m *mover) restoreLeader(ctx context.Context, group, source uint64, undoes *node.Compensation) error {
	view, err := m.groups.fence(ctx, group, m.epoch)
	if err != nil || view.Leader.Node == source {
		return err
	}
	replica := voterAt(view, source)
	if replica == (shard.ReplicaID{}) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	if err := m.groups.transfer(waiting, replica, m.epoch, undoes); err != nil && waiting.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}
