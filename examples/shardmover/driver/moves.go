package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"migrationlog/examples/shardmover/check"
	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/examples/shardmover/wire"
)

const (
	callTimeout  = 5 * time.Second
	pollInterval = 30 * time.Millisecond
	moveTimeout  = time.Minute // after which a move that does not end is a violation
)

// moveAll asks for all moves. The groups are independent, and the moves of one group follow each other.
// If a move does not end, it is a violation, and the rest of the group's moves do not begin.
func (r *run) moveAll() error {
	var groups sync.WaitGroup
	for i, moves := range r.plan.moves {
		groups.Go(func() {
			for _, planned := range moves {
				if err := r.move(uint64(i+1), planned); err != nil {
					r.violate("%v", err)
					return
				}
			}
		})
	}
	groups.Wait()
	return context.Cause(r.ctx) // of a run that has ended early
}

// move asks for one move, and waits for its end.
func (r *run) move(group uint64, planned plannedMove) error {
	ctx, cancel := context.WithTimeout(r.ctx, moveTimeout)
	defer cancel()
	move, err := r.choose(ctx, group, planned)
	if err != nil {
		return err
	}
	if planned.hangs != never {
		hang := node.Hang{Replica: shard.ReplicaID{Node: move.Target, Group: group, Tag: move.ID.String()}, Voter: planned.hangs == asVoter}
		if _, err := wire.Call[node.None](ctx, r.network, wire.NodeName(move.Target), node.MethodHang, hang); err != nil {
			return err
		}
	}
	outcome, err := r.await(ctx, move)
	r.mu.Lock()
	r.moves = append(r.moves, check.Move{ID: move.ID, Outcome: outcome})
	r.mu.Unlock()
	r.releaseKill(planned)
	if err != nil {
		return fmt.Errorf("migration %s of group %d does not end: %w", move.ID, group, err)
	}
	r.screen.ended(outcome)
	return nil
}

// choose chooses the source and the target of a move. The source leads the group.
func (r *run) choose(ctx context.Context, group uint64, planned plannedMove) (coordinator.Move, error) {
	for {
		view, err := r.view(ctx, group)
		if err == nil {
			var free []uint64
			for _, n := range numbers(r.opts.Nodes) {
				if !slices.ContainsFunc(view.Voters, func(id shard.ReplicaID) bool { return id.Node == n }) {
					free = append(free, n)
				}
			}
			return coordinator.Move{ID: planned.id, Group: group, Source: view.Leader.Node, Target: free[planned.choice%len(free)]}, nil
		}
		if stopped := sleep(ctx, pollInterval); stopped != nil {
			return coordinator.Move{}, errors.Join(stopped, err)
		}
	}
}

// await asks the leading coordinator for the outcome of a move until it has ended. If the move has not
// begun, it asks the coordinator to begin it. A coordinator can die before it answers, so a repeated
// request finds out first whether the move has begun.
func (r *run) await(ctx context.Context, move coordinator.Move) (coordinator.Outcome, error) {
	for {
		outcome, err := callCoordinator[coordinator.Outcome](ctx, r, coordinator.MethodOutcome, move)
		switch {
		case err == nil && (outcome == coordinator.Complete || outcome == coordinator.Aborted):
			return outcome, nil
		case err == nil && outcome == coordinator.Absent:
			_, err = callCoordinator[coordinator.None](ctx, r, coordinator.MethodBegin, move)
		}
		if stopped := sleep(ctx, pollInterval); stopped != nil {
			return outcome, errors.Join(stopped, err)
		}
	}
}

// callCoordinator calls a method of the coordinator that leads. It tries each coordinator once.
func callCoordinator[Response any](ctx context.Context, r *run, method string, request any) (response Response, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, site := range r.sitesByChance() {
		response, err = wire.Call[Response](ctx, r.network, wire.CoordinatorName(site), method, request)
		if err == nil {
			r.leader.Store(site)
			return response, nil
		}
	}
	return response, err
}

// sitesByChance returns the sites of the coordinators. The one that led last is the first.
func (r *run) sitesByChance() []uint64 {
	sites := []uint64{r.leader.Load()}
	for _, site := range numbers(members) {
		if site != sites[0] {
			sites = append(sites, site)
		}
	}
	return sites
}

// view returns the membership of a group.
func (r *run) view(ctx context.Context, group uint64) (shard.View, error) {
	return callReplicas[shard.View](ctx, r, node.MethodView, group)
}

// callReplicas calls a method of each node until one of them, the leader of the group, answers.
func callReplicas[Response any](ctx context.Context, r *run, method string, group uint64) (response Response, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, n := range numbers(r.opts.Nodes) {
		response, err = wire.Call[Response](ctx, r.network, wire.NodeName(n), method, node.Group{Group: group})
		if err == nil {
			return response, nil
		}
	}
	return response, err
}

// sleep waits, or returns the cause for which ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
