package node

import (
	"context"
	"net/http"

	"migrationlog/examples/shardmover/shard"
	"migrationlog/examples/shardmover/wire"
)

// API returns the methods of the node.
func (n *Node) API() http.Handler {
	api := http.NewServeMux()
	wire.Handle(api, MethodWrite, onReplica(n, func(r *shard.Replica, w Write) (None, error) {
		return None{}, r.Write(w.Client, w.Write)
	}))
	wire.Handle(api, MethodState, onReplica(n, func(r *shard.Replica, _ Group) (shard.State, error) { return r.State() }))
	wire.Handle(api, MethodView, onReplica(n, func(r *shard.Replica, _ Group) (shard.View, error) { return r.View() }))
	wire.Handle(api, MethodProgress, onReplica(n, func(r *shard.Replica, _ Group) (shard.Progress, error) { return r.Progress(), nil }))
	wire.Handle(api, MethodLocal, onReplica(n, func(r *shard.Replica, _ Group) (Local, error) {
		return Local{Hosted: r.ID, State: r.LocalState()}, nil
	}))
	wire.Handle(api, MethodFence, onReplica(n, func(r *shard.Replica, f Fence) (shard.View, error) { return r.Fence(f.Epoch) }))
	wire.Handle(api, MethodChange, onReplica(n, n.change))
	wire.Handle(api, MethodTransfer, onReplica(n, n.transfer))
	wire.Handle(api, MethodLocate, n.locate)
	wire.Handle(api, MethodHost, func(_ context.Context, h Host) (None, error) {
		_, err := n.open(h.Replica, nil)
		return None{}, err
	})
	wire.Handle(api, MethodDrop, func(_ context.Context, d Drop) (None, error) { return None{}, n.drop(d.Replica) })
	wire.Handle(api, MethodHang, func(_ context.Context, h Hang) (None, error) { n.hang(h); return None{}, nil })
	wire.Handle(api, MethodStub, func(_ context.Context, s Stub) (None, error) {
		return None{}, n.stubs.install(s.Group, stub{Node: s.Target, Epoch: s.Epoch})
	})
	return api
}

// groupRequest is a request about one group.
type groupRequest interface{ group() uint64 }

func (w Write) group() uint64    { return w.Group }
func (g Group) group() uint64    { return g.Group }
func (f Fence) group() uint64    { return f.Group }
func (c Change) group() uint64   { return c.Change.Replica.Group }
func (t Transfer) group() uint64 { return t.To.Group }

// onReplica returns a method that calls handle with the node's replica of the request's group.
func onReplica[Request groupRequest, Response any](n *Node, handle func(*shard.Replica, Request) (Response, error)) func(context.Context, Request) (Response, error) {
	return func(_ context.Context, request Request) (response Response, err error) {
		replica, err := n.replica(request.group())
		if err != nil {
			return response, err
		}
		return handle(replica, request)
	}
}

func (n *Node) change(r *shard.Replica, c Change) (Done, error) {
	if err := n.recordUndo(r, c.Epoch, c.Undoes); err != nil {
		return Done{}, err
	}
	index, err := r.Change(c.Epoch, c.Change)
	return Done{Index: index}, err
}

func (n *Node) transfer(r *shard.Replica, t Transfer) (None, error) {
	if err := n.recordUndo(r, t.Epoch, t.Undoes); err != nil {
		return None{}, err
	}
	return None{}, r.Transfer(t.Epoch, t.To)
}

// recordUndo records a compensation in the journal, unless the group refuses its epoch.
func (n *Node) recordUndo(r *shard.Replica, epoch uint64, c *Compensation) error {
	if c == nil {
		return nil
	}
	if _, err := r.Fence(epoch); err != nil {
		return err
	}
	return n.journal.record(*c)
}

func (n *Node) locate(_ context.Context, g Group) (Location, error) {
	replica, err := n.replica(g.Group)
	if wire.CodeOf(err) == wire.NotHosted {
		return Location{}, nil
	}
	if err != nil {
		return Location{}, err
	}
	return Location{Hosted: replica.ID, Leader: replica.Leader()}, nil
}
