package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

// These errors refuse an effect. Groups, peers and stubs are then unchanged. The epoch and the
// driving migration of the vShard may have changed, but not if the error is ErrFenced.
var (
	ErrFenced       = errors.New("a coordinator with a higher epoch has acted on the vShard")
	ErrUnreachable  = errors.New("no member of the cluster")
	ErrPrecondition = errors.New("not possible now")
	ErrCompensation = errors.New("unknown compensation")
)

// Cluster is the state of a cluster. It carries out each effect and compensation, also an unsafe
// one, and records the violations. It is not safe for concurrent use.
type Cluster struct {
	// Fence refuses the effects of a coordinator if another one with a higher epoch has acted on the
	// vShard. Without it, such an effect is carried out, and is a violation.
	Fence bool

	base       *Cluster // has everything that this cluster has not changed; nil: none
	groups     map[uint64]*group
	moves      map[checkpoint.MigrationID]*move // nil: it has ended
	stubs      map[stubKey]*stub                // nil: removed
	drivers    map[uint32]driver                // by vShard
	gone       map[uint64]bool                  // nodes
	violations []Violation
}

// group is a replication group.
type group struct {
	leader    uint64
	hasLeader bool
	peers     map[uint64]*peer // by node
}

type peer struct {
	voter, caughtUp bool
	settled         bool                     // the group uses the peer, even if all migrations end
	settledBy       checkpoint.MigrationID   // nil: the peer was there before all moves
	users           []checkpoint.MigrationID // that have added it, in order; some may have ended, see move.uses
}

type stubKey struct {
	vshardID uint32
	node     uint64
}

type stub struct {
	installedBy checkpoint.MigrationID
	settled     bool // that migration was completed
}

// move is a migration that has begun and has not ended.
type move struct {
	Move
	peers       []projection.Target // that it has added
	transferred bool                // the target has become the leader: the point of no return
	aborting    bool

	// The rest is set by Observe.
	phase         checkpoint.Phase          // the furthest that was observed
	steps         []checkpoint.Compensation // of an abort
	unknownTarget bool                      // no event of the history has the target
}

// uses reports whether this incarnation of the migration has added the peer.
func (mv *move) uses(groupID, node uint64) bool {
	return slices.Contains(mv.peers, projection.Target{GroupID: groupID, PeerID: node})
}

// driver is the coordinator that acted last on a vShard.
type driver struct {
	migration checkpoint.MigrationID // nil: no migration since Restart
	epoch     uint64
}

// New returns a cluster without groups. Every node is a member of it.
func New() *Cluster {
	return &Cluster{
		groups: map[uint64]*group{}, moves: map[checkpoint.MigrationID]*move{}, stubs: map[stubKey]*stub{},
		drivers: map[uint32]driver{}, gone: map[uint64]bool{},
	}
}

// Branch returns a copy of the cluster without its violations. The cluster must not change while
// the copy is in use. Only the parts that the copy changes are copied.
func (c *Cluster) Branch() *Cluster {
	b := New()
	b.base, b.Fence = c, c.Fence
	return b
}

// AddGroup adds a group. The leader is one of the voters.
func (c *Cluster) AddGroup(id, leader uint64, voters ...uint64) {
	g := &group{leader: leader, hasLeader: true, peers: map[uint64]*peer{leader: {voter: true, settled: true}}}
	for _, node := range voters {
		g.peers[node] = &peer{voter: true, settled: true}
	}
	c.groups[id] = g
}

// Leave removes a node from a group. No migration causes this.
func (c *Cluster) Leave(groupID, node uint64) {
	if g := c.changeGroup(groupID); g != nil {
		g.remove(node)
	}
}

// RemoveNode makes a node no member of the cluster. Its peers stay in their groups.
func (c *Cluster) RemoveNode(node uint64) { c.gone[node] = true }

// RestoreNode makes a node a member of the cluster again.
func (c *Cluster) RestoreNode(node uint64) { c.gone[node] = false }

// Member reports whether the node is a member of the cluster.
func (c *Cluster) Member(node uint64) bool {
	for ; c != nil; c = c.base {
		if gone, ok := c.gone[node]; ok {
			return !gone
		}
	}
	return true
}

// Leader returns the node that leads a group, if there is one.
func (c *Cluster) Leader(groupID uint64) (node uint64, ok bool) {
	g := c.group(groupID)
	if g == nil || !g.hasLeader {
		return 0, false
	}
	return g.leader, true
}

// Policy returns the policy with the cluster's members and leaders.
func (c *Cluster) Policy(p recovery.Policy) recovery.Policy {
	p.Member, p.Leader = c.Member, c.Leader
	return p
}

// Voters returns the nodes that are voters of a group, in ascending order.
func (c *Cluster) Voters(groupID uint64) []uint64 { return c.nodes(groupID, true) }

// Learners returns the nodes that are learners of a group, in ascending order.
func (c *Cluster) Learners(groupID uint64) []uint64 { return c.nodes(groupID, false) }

func (c *Cluster) nodes(groupID uint64, voters bool) (nodes []uint64) {
	g := c.group(groupID)
	if g == nil {
		return nil
	}
	for _, node := range slices.Sorted(maps.Keys(g.peers)) {
		if g.peers[node].voter == voters {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// HasStub reports whether a node has the ghost stub of a vShard.
func (c *Cluster) HasStub(vshardID uint32, node uint64) bool {
	return c.stub(stubKey{vshardID, node}) != nil
}

// Begin records that a migration exists. Call it before the first effect of each incarnation. It
// does nothing if the migration has begun.
func (c *Cluster) Begin(m Move) {
	if c.move(m.MigrationID) == nil {
		c.moves[m.MigrationID] = &move{Move: m}
	}
}

// Drive records that a coordinator is about to move the vShard forward. It is a violation if
// another migration of the vShard was driven since Restart and has not ended.
func (c *Cluster) Drive(m Move, epoch uint64) error {
	if err := c.checkEpoch(m, epoch); err != nil {
		return err
	}
	d := c.driver(m.VShardID)
	if d.migration != (checkpoint.MigrationID{}) && d.migration != m.MigrationID && c.move(d.migration) != nil {
		c.violations = append(c.violations, Violation{Kind: TwoCoordinators, MigrationID: m.MigrationID, VShardID: m.VShardID, With: d.migration})
		return nil
	}
	c.drivers[m.VShardID] = driver{m.MigrationID, max(d.epoch, epoch)}
	return nil
}

// checkEpoch returns ErrFenced, or records a violation, if a coordinator with a higher epoch has
// acted on the vShard.
func (c *Cluster) checkEpoch(m Move, epoch uint64) error {
	d := c.driver(m.VShardID)
	if epoch >= d.epoch {
		d.epoch = epoch
		c.drivers[m.VShardID] = d
		return nil
	}
	if c.Fence {
		return fmt.Errorf("%w: vShard %d has epoch %d, not %d", ErrFenced, m.VShardID, d.epoch, epoch)
	}
	c.violations = append(c.violations, Violation{Kind: TwoCoordinators, MigrationID: m.MigrationID, VShardID: m.VShardID, With: m.MigrationID})
	return nil
}

// Restart records that all coordinators have crashed. Another one may then drive a vShard.
func (c *Cluster) Restart() {
	for b := c; b != nil; b = b.base {
		for vshardID, d := range b.drivers {
			c.drivers[vshardID] = driver{epoch: max(d.epoch, c.drivers[vshardID].epoch)}
		}
	}
}

// Do carries out an effect of a move. An effect can be repeated. A repeated TransferLeadership
// makes the target the leader again. Do returns ErrFenced, ErrUnreachable or ErrPrecondition if the
// cluster refuses the effect.
func (c *Cluster) Do(m Move, e Effect, epoch uint64) error {
	if err := c.Drive(m, epoch); err != nil {
		return err
	}
	g := c.changeGroup(m.Group)
	if g == nil {
		return fmt.Errorf("%s: %w: group %d does not exist", e, ErrPrecondition, m.Group)
	}
	if e != AddLearner && e != InstallStub && !c.Member(m.Target) {
		return fmt.Errorf("%s: node %d is %w", e, m.Target, ErrUnreachable)
	}
	if err := c.precondition(g, m, e); err != nil {
		return fmt.Errorf("%s: %w: %w", e, ErrPrecondition, err)
	}
	c.apply(g, m, e)
	return nil
}

func (c *Cluster) precondition(g *group, m Move, e Effect) error {
	p, mv := g.peers[m.Target], c.move(m.MigrationID)
	switch {
	case e == AddLearner:
	case p == nil:
		return fmt.Errorf("node %d is not in group %d", m.Target, m.Group)
	case e == PromoteLearner && !p.caughtUp && !p.voter:
		return fmt.Errorf("node %d has not caught up", m.Target)
	case e == TransferLeadership && !p.voter:
		return fmt.Errorf("node %d is a learner", m.Target)
	case e == InstallStub && (mv == nil || !mv.transferred):
		return fmt.Errorf("node %d has not become the leader", m.Target)
	}
	return nil
}

// apply carries out an effect whose precondition holds.
func (c *Cluster) apply(g *group, m Move, e Effect) {
	p, mv := g.peers[m.Target], c.changeMove(m.MigrationID)
	switch e {
	case AddLearner:
		if p == nil {
			p = &peer{}
			g.peers[m.Target] = p
		}
		if !slices.Contains(p.users, m.MigrationID) {
			p.users = append(p.users, m.MigrationID)
		}
		if mv != nil && !mv.uses(m.Group, m.Target) {
			mv.peers = append(mv.peers, projection.Target{GroupID: m.Group, PeerID: m.Target})
		}
	case CatchUp:
		p.caughtUp = true
	case PromoteLearner:
		p.voter = true
	case TransferLeadership:
		if !p.settled {
			p.settled, p.settledBy = true, m.MigrationID
		}
		g.leader, g.hasLeader = m.Target, true
		if mv != nil {
			mv.transferred = true
		}
		c.stubs[stubKey{m.VShardID, m.Target}] = nil // a leader does not forward
	case InstallStub:
		if key := (stubKey{m.VShardID, m.Source}); c.stub(key) == nil {
			c.stubs[key] = &stub{installedBy: m.MigrationID}
		}
	}
}

// BeginAbort records that the abort of a migration is decided. The migration then no longer uses
// its peers. If several migrations are aborted, call BeginAbort for each before the first
// compensation.
func (c *Cluster) BeginAbort(id checkpoint.MigrationID) {
	if mv := c.changeMove(id); mv != nil {
		mv.aborting = true
	}
}

// Compensate carries out a compensation of a move. It succeeds if there is nothing left to undo,
// and so it can be repeated. It returns ErrFenced if the cluster refuses it, and ErrCompensation
// for an unknown kind.
func (c *Cluster) Compensate(m Move, step checkpoint.Compensation, epoch uint64) error {
	if err := c.checkEpoch(m, epoch); err != nil {
		return err
	}
	if mv := c.move(m.MigrationID); mv != nil && mv.transferred {
		c.violations = append(c.violations, Violation{Kind: PastCutover, MigrationID: m.MigrationID, VShardID: m.VShardID, GroupID: mv.Group, PeerID: mv.Target})
	} else if with, inUse := c.userOf(m.MigrationID, step); inUse {
		c.violations = append(c.violations, Violation{
			Kind: PeerInUse, MigrationID: m.MigrationID, VShardID: m.VShardID, GroupID: step.GroupID, PeerID: step.PeerID, With: with,
		})
	}
	return c.undo(m, step)
}

// userOf returns the user of a peer that a compensation removes, besides the migration itself. The
// user is nil if the group itself uses the peer.
func (c *Cluster) userOf(id checkpoint.MigrationID, step checkpoint.Compensation) (user checkpoint.MigrationID, inUse bool) {
	if step.Kind != checkpoint.RemoveLearner && step.Kind != checkpoint.RemoveVoter {
		return user, false
	}
	g := c.group(step.GroupID)
	if g == nil || g.peers[step.PeerID] == nil {
		return user, false
	}
	p := g.peers[step.PeerID]
	for _, u := range p.users {
		if mv := c.move(u); u != id && mv != nil && mv.uses(step.GroupID, step.PeerID) && !mv.aborting {
			return u, true
		}
	}
	return user, p.settled
}

// undo carries out a compensation. RemoveLearner and RemoveVoter remove the peer, whatever it is,
// because the promotion may have committed without its checkpoint.
func (c *Cluster) undo(m Move, step checkpoint.Compensation) error {
	switch step.Kind {
	case checkpoint.RemoveLearner, checkpoint.RemoveVoter:
		c.Leave(step.GroupID, step.PeerID)
	case checkpoint.RestoreLeaderHint: // a hint: it does not take the leadership from another voter
		if g := c.changeGroup(step.GroupID); g != nil && g.peers[step.PeerID] != nil && g.peers[step.PeerID].voter && (!g.hasLeader || g.leader == m.Target) {
			g.leader, g.hasLeader = step.PeerID, true
		}
	case checkpoint.RemoveGhostStub:
		c.stubs[stubKey{step.VShardID, m.Source}] = nil
	default:
		return fmt.Errorf("%w: %d", ErrCompensation, step.Kind)
	}
	return nil
}

// End records that a migration has ended: its abort was recorded, or its row was removed. A
// completed migration leaves its ghost stub to the cluster.
func (c *Cluster) End(id checkpoint.MigrationID) {
	mv := c.move(id)
	if mv == nil {
		return
	}
	if mv.unknownTarget && mv.aborting {
		c.violations = append(c.violations, Violation{Kind: Leak, MigrationID: id, VShardID: mv.VShardID})
	}
	c.end(mv)
}

func (c *Cluster) end(mv *move) {
	for _, at := range mv.peers {
		c.changeGroup(at.GroupID) // so that Leaks looks at it
	}
	key := stubKey{mv.VShardID, mv.Source}
	if s := c.stub(key); s != nil && s.installedBy == mv.MigrationID {
		c.stubs[key] = &stub{installedBy: s.installedBy, settled: !mv.aborting}
	}
	c.moves[mv.MigrationID] = nil
}

// Completed reports whether the migration has reached the end of its move: the target leads, and
// the ghost stub is installed. A migration that has ended is not completed any more.
func (c *Cluster) Completed(id checkpoint.MigrationID) bool {
	mv := c.move(id)
	return mv != nil && mv.transferred && c.HasStub(mv.VShardID, mv.Source)
}

// Violations returns the violations so far, in order.
func (c *Cluster) Violations() []Violation { return slices.Clone(c.violations) }

// Leaks returns a violation for each learner, voter and ghost stub that nobody uses and that a
// migration has left behind. In a branch, only migrations that ended in the branch count.
func (c *Cluster) Leaks() (leaks []Violation) {
	for _, groupID := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[groupID]
		for _, node := range slices.Sorted(maps.Keys(g.peers)) {
			if id, left := c.leftBy(groupID, node, g.peers[node]); left {
				leaks = append(leaks, Violation{Kind: Leak, MigrationID: id, GroupID: groupID, PeerID: node})
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.stubs), compareStubs) {
		if s := c.stubs[key]; s != nil && !s.settled && c.endedHere(s.installedBy) {
			leaks = append(leaks, Violation{Kind: Leak, MigrationID: s.installedBy, VShardID: key.vshardID, PeerID: key.node})
		}
	}
	return leaks
}

// leftBy returns the migration that has left a peer behind.
func (c *Cluster) leftBy(groupID, node uint64, p *peer) (id checkpoint.MigrationID, left bool) {
	if p.settled {
		return id, false
	}
	for _, u := range p.users {
		if mv := c.move(u); mv != nil && mv.uses(groupID, node) {
			return id, false
		}
		if c.endedHere(u) {
			id, left = u, true
		}
	}
	return id, left
}

// endedHere reports whether the migration has ended in this cluster and not in the base of a
// branch.
func (c *Cluster) endedHere(id checkpoint.MigrationID) bool {
	mv, ok := c.moves[id]
	return ok && mv == nil
}
