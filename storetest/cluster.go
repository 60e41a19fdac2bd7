package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/recovery/model"
	"migrationlog/replay"
)

// Cluster is a model.Cluster that also knows the log. The coordinator under test acts on it. It
// finds each effect that is unsafe, that has no record in the log, or that leaks. It is safe for
// concurrent use. In a process that a test starts, it acts on the cluster of the test's process.
type Cluster struct {
	remote *connection // nil: this is the cluster itself

	mu       sync.Mutex
	model    *model.Cluster
	fences   map[uint64]uint64                           // the highest epoch of each group
	furthest map[checkpoint.MigrationID]checkpoint.Phase // recorded; absent: no row
	early    error                                       // the first effect that was not recorded before
}

// NewCluster returns a Cluster with the groups of a model, which refuses effects with a lower epoch
// than it has seen. The model must not be used any more.
func NewCluster(m *model.Cluster) *Cluster {
	m.Fence = true
	return &Cluster{model: m, fences: map[uint64]uint64{}, furthest: map[checkpoint.MigrationID]checkpoint.Phase{}}
}

// Do carries out an effect of a move. Its errors wrap those of package model. If the epoch is too
// low, the error also wraps migrationlog.ErrFenced.
func (c *Cluster) Do(m model.Move, e model.Effect, epoch uint64) error {
	if c.remote != nil {
		return c.remote.call(request{Op: opDo, Move: m, Effect: e, Epoch: epoch}).err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.fence(m.Group, epoch)
	if err == nil {
		err = c.model.Do(m, e, epoch)
	}
	if err == nil && c.early == nil && !c.isRecorded(m.MigrationID, e) {
		c.early = fmt.Errorf("migration %s: %q was carried out before the log had its checkpoint", m.MigrationID, e)
	}
	return fenced(err)
}

// isRecorded reports whether the log has the checkpoint that comes before an effect.
func (c *Cluster) isRecorded(id checkpoint.MigrationID, e model.Effect) bool {
	for p := checkpoint.PhaseAddLearner; p <= c.furthest[id]; p++ {
		for _, allowed := range model.EffectsAfter(p) {
			if allowed == e {
				return true
			}
		}
	}
	return false
}

// Compensate carries out a compensation of a move. It can be repeated. Its errors are as those of Do.
func (c *Cluster) Compensate(m model.Move, step checkpoint.Compensation, epoch uint64) error {
	if c.remote != nil {
		return c.remote.call(request{Op: opCompensate, Move: m, Step: step, Epoch: epoch}).err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fence(m.Group, epoch); err != nil {
		return fenced(err)
	}
	return fenced(c.model.Compensate(m, step, epoch))
}

// Member reports whether the node is a member of the cluster.
func (c *Cluster) Member(node uint64) bool {
	if c.remote != nil {
		return c.remote.call(request{Op: opMember, Node: node}).OK
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.model.Member(node)
}

// Leader makes a group refuse all lower epochs, and returns the node that leads it after that. ok is
// false if the group has no leader or has seen a higher epoch.
func (c *Cluster) Leader(group, epoch uint64) (node uint64, ok bool) {
	if c.remote != nil {
		r := c.remote.call(request{Op: opLeader, Group: group, Epoch: epoch})
		return r.Node, r.OK
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fence(group, epoch) != nil {
		return 0, false
	}
	return c.model.Leader(group)
}

// fence returns an error if the group has seen a higher epoch.
func (c *Cluster) fence(group, epoch uint64) error {
	if epoch < c.fences[group] {
		return fmt.Errorf("%w: group %d has seen epoch %d, not %d", model.ErrFenced, group, c.fences[group], epoch)
	}
	c.fences[group] = epoch
	return nil
}

// fenced adds migrationlog.ErrFenced to the model's error.
func fenced(err error) error {
	if errors.Is(err, model.ErrFenced) {
		return fmt.Errorf("%w: %w", migrationlog.ErrFenced, err)
	}
	return err
}

// assume brings the cluster to the state that an event proves.
func (c *Cluster) assume(e checkpoint.Event) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.model.Observe(e)
	c.record(e)
}

// observe notes an event of the coordinator under test, whose effects the cluster has seen.
func (c *Cluster) observe(e checkpoint.Event) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record(e)
	switch e := e.(type) {
	case checkpoint.Upserted:
		if p, ok := e.Checkpoint.Payload.(checkpoint.AddLearner); ok {
			c.model.Begin(model.Move{MigrationID: e.Checkpoint.MigrationID, VShardID: p.VShardID, Group: p.SourceGroup, Source: p.SourceNode, Target: p.TargetNode})
		}
	case checkpoint.AbortBegun:
		c.model.BeginAbort(e.MigrationID)
	case checkpoint.Aborted:
		c.model.BeginAbort(e.MigrationID)
		c.model.End(e.MigrationID)
	case checkpoint.Removed:
		c.model.End(e.MigrationID)
	}
}

// record notes which checkpoints the log has.
func (c *Cluster) record(e checkpoint.Event) {
	switch e := e.(type) {
	case checkpoint.Upserted:
		id := e.Checkpoint.MigrationID
		c.furthest[id] = max(c.furthest[id], e.Checkpoint.Phase())
	case checkpoint.Aborted, checkpoint.Removed:
		delete(c.furthest, e.Migration())
	}
}

// restart notes that the coordinator has ended and the next one starts.
func (c *Cluster) restart() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.model.Restart()
}

// check returns an error for each unsafe effect, each leak, and each row that is left in the log.
func (c *Cluster) check(dir string) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	failed := []error{c.early}
	for _, v := range append(c.model.Violations(), c.model.Leaks()...) {
		failed = append(failed, fmt.Errorf("migration %s %s", v.MigrationID, v))
	}
	reader, err := replay.Open(dir)
	if err != nil {
		return err
	}
	view, err := reader.StateAt(context.Background(), replay.Point{})
	if err != nil {
		return err
	}
	for row := range view.Rows() {
		state := "at " + row.Checkpoint.Phase().String()
		if row.Facts.Abort != nil {
			state = "with an unfinished abort"
		}
		failed = append(failed, fmt.Errorf("migration %s was left %s", row.Checkpoint.MigrationID, state))
	}
	return errors.Join(failed...)
}
