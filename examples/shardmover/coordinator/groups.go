package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"migrationlog"
	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/examples/shardmover/wire"
)

// callTimeout is the time after which a call of a node is repeated.
const callTimeout = 4 * time.Second

// groups is the coordinator's access to the shard groups. Every effect can be repeated, and carries
// the epoch of the coordinator.
type groups struct {
	network *wire.Network
	nodes   []uint64

	mu     sync.Mutex
	leader map[uint64]string // endpoint that led a group last
}

func newGroups(network *wire.Network, nodes []uint64) *groups {
	return &groups{network: network, nodes: nodes, leader: map[uint64]string{}}
}

// callNode calls a method of a node until it returns a result or ctx ends.
func callNode[Response any](ctx context.Context, g *groups, to uint64, method string, request any) (Response, error) {
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		response, err := wire.Call[Response](call, g.network, wire.NodeName(to), method, request)
		cancel()
		if err == nil || wire.CodeOf(err) != "" {
			return response, err
		}
		if stopped := sleep(ctx, retryPause); stopped != nil {
			return response, errors.Join(stopped, err)
		}
	}
}

// callLeader calls a method of the node that leads a group. It looks for the leader until ctx ends.
// It returns an error at once only if another node would return the same error.
func callLeader[Response any](ctx context.Context, g *groups, group uint64, method string, request any) (response Response, err error) {
	g.mu.Lock()
	next := g.leader[group]
	g.mu.Unlock()
	for try := 0; ; try++ {
		if next == "" {
			next = wire.NodeName(g.nodes[try%len(g.nodes)])
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		response, err = wire.Call[Response](call, g.network, next, method, request)
		cancel()
		var failure *wire.Error
		errors.As(err, &failure)
		switch {
		case err == nil:
			g.mu.Lock()
			g.leader[group] = next
			g.mu.Unlock()
			return response, nil
		case failure != nil && failure.Code == wire.Fenced:
			return response, fmt.Errorf("%w: %w", migrationlog.ErrFenced, err)
		case failure != nil && failure.Code == wire.ConfigurationChanged:
			return response, err
		case failure != nil && failure.Leader != next:
			next = failure.Leader
		default:
			next = ""
		}
		if stopped := sleep(ctx, searchPause); stopped != nil {
			return response, errors.Join(stopped, err)
		}
	}
}

// fence makes the group refuse every lower epoch, and returns its membership after that.
func (g *groups) fence(ctx context.Context, group, epoch uint64) (shard.View, error) {
	return callLeader[shard.View](ctx, g, group, node.MethodFence, node.Fence{Group: group, Epoch: epoch})
}

// change proposes one change of the membership. If the outcome of a first proposal was not known,
// the group refuses the second one, because the configuration has changed.
func (g *groups) change(ctx context.Context, c node.Change) (index uint64, err error) {
	done, err := callLeader[node.Done](ctx, g, c.Change.Replica.Group, node.MethodChange, c)
	return done.Index, err
}

// ensure changes the membership until done returns true for it. It returns the index of the
// membership.
func (g *groups) ensure(ctx context.Context, epoch uint64, kind shard.ChangeKind, replica shard.ReplicaID, done func(shard.View) bool) (uint64, error) {
	for {
		view, err := g.fence(ctx, replica.Group, epoch)
		if err != nil {
			return 0, err
		}
		if done(view) {
			return view.ConfigIndex, nil
		}
		change := shard.Change{Kind: kind, Replica: replica, PrevIndex: view.ConfigIndex}
		index, err := g.change(ctx, node.Change{Change: change, Epoch: epoch})
		if !isChanged(err) {
			return index, err
		}
	}
}

// transfer makes a replica the leader of its group. After each try it asks the group which replica
// leads, because raft can report an error although the transfer has succeeded. It fails if ctx
// ends.
//
// Before each try, it waits until an entry that was committed just now has reached the replica. A
// transfer to a replica that cannot be reached would stop the writes of the group: raft refuses
// them until it has tried to reach the replica again, which can take ten seconds.
func (g *groups) transfer(ctx context.Context, to shard.ReplicaID, epoch uint64, undoes *node.Compensation) error {
	for {
		view, err := g.fence(ctx, to.Group, epoch)
		if err != nil {
			return err
		}
		if view.Leader == to {
			return nil
		}
		if err := g.waitForEntry(ctx, to, view.CommitIndex); err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = wire.Call[node.None](call, g.network, wire.NodeName(view.Leader.Node), node.MethodTransfer, node.Transfer{To: to, Epoch: epoch, Undoes: undoes})
		cancel()
		if wire.CodeOf(err) == wire.Fenced {
			return fmt.Errorf("%w: %w", migrationlog.ErrFenced, err)
		}
		g.mu.Lock()
		g.leader[to.Group] = wire.NodeName(to.Node)
		g.mu.Unlock()
		if stopped := sleep(ctx, searchPause); stopped != nil {
			return errors.Join(stopped, err)
		}
	}
}

// waitForEntry waits until the log of a replica has an entry. It fails if ctx ends.
func (g *groups) waitForEntry(ctx context.Context, id shard.ReplicaID, index uint64) error {
	for {
		progress, err := g.progress(ctx, id.Node, id.Group)
		if err == nil && progress.LastIndex >= index {
			return nil
		}
		if stopped := sleep(ctx, searchPause); stopped != nil {
			return errors.Join(stopped, err)
		}
	}
}

// progress returns the indexes of a node's replica of a group.
func (g *groups) progress(ctx context.Context, of, group uint64) (shard.Progress, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return wire.Call[shard.Progress](call, g.network, wire.NodeName(of), node.MethodProgress, node.Group{Group: group})
}

// hosted returns the replica of a group that a node hosts, or the zero id.
func (g *groups) hosted(ctx context.Context, by, group uint64) (shard.ReplicaID, error) {
	location, err := callNode[node.Location](ctx, g, by, node.MethodLocate, node.Group{Group: group})
	return location.Hosted, err
}

// host makes the replica's node host it. The replica waits until its group adds it.
func (g *groups) host(ctx context.Context, id shard.ReplicaID) error {
	_, err := callNode[node.None](ctx, g, id.Node, node.MethodHost, node.Host{Replica: id})
	return err
}

// drop makes the replica's node delete it, and refuse to host it again.
func (g *groups) drop(ctx context.Context, id shard.ReplicaID) error {
	_, err := callNode[node.None](ctx, g, id.Node, node.MethodDrop, node.Drop{Replica: id})
	return err
}

// stub makes a node redirect the clients of a group to another node.
func (g *groups) stub(ctx context.Context, at, group, target, epoch uint64) error {
	_, err := callNode[node.None](ctx, g, at, node.MethodStub, node.Stub{Group: group, Epoch: epoch, Target: target})
	return err
}

// voterAt returns the voter at a node, or the zero id.
func voterAt(v shard.View, at uint64) shard.ReplicaID {
	for _, id := range v.Voters {
		if id.Node == at {
			return id
		}
	}
	return shard.ReplicaID{}
}

// otherVoter returns a voter other than id. A group always has one, because id is added to three
// others.
func otherVoter(v shard.View, id shard.ReplicaID) shard.ReplicaID {
	return v.Voters[slices.IndexFunc(v.Voters, func(other shard.ReplicaID) bool { return other != id })]
}

// isMember reports whether a replica is a learner or a voter.
func isMember(v shard.View, id shard.ReplicaID) bool {
	return slices.Contains(v.Learners, id) || slices.Contains(v.Voters, id)
}

// isChanged reports whether a change was refused because another one came first.
func isChanged(err error) bool { return wire.CodeOf(err) == wire.ConfigurationChanged }
