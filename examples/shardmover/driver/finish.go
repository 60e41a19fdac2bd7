package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"migrationlog/examples/shardmover/check"
	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/examples/shardmover/wire"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

// settleTimeout is the time in which all replicas and members must have the same state, once nothing is
// written any more.
const settleTimeout = 30 * time.Second

// finish carries out the kills that are left, ends the faults and the clients, and checks the run.
func (r *run) finish() (Result, error) {
	if err := r.killRest(); err != nil {
		return Result{}, err
	}
	r.heal()
	r.stopClients()
	e, err := r.collect()
	if err != nil {
		return Result{}, err
	}
	if err := r.stopAll(); err != nil {
		return Result{}, err
	}
	result := Result{}
	if result.Store, err = r.readStores(&e); err != nil {
		return Result{}, err
	}
	for _, n := range numbers(r.opts.Nodes) {
		c, err := node.Compensations(processDir(r.opts.Dir, wire.NodeName(n)))
		if err != nil {
			return Result{}, err
		}
		e.Compensations = append(e.Compensations, c...)
	}
	result.Report, result.History = check.Run(e), e.History
	return result, nil
}

// killRest carries out the kills for which the moves had too few steps.
func (r *run) killRest() error {
	for {
		site, err := r.leading()
		if err != nil {
			return err
		}
		r.mu.Lock()
		rest := r.opts.Kills - r.killed
		r.pending = nil
		r.mu.Unlock()
		if rest <= 0 {
			return nil
		}
		r.kill(site)
	}
}

// leading waits for a coordinator that leads and has recovered, and returns its site.
func (r *run) leading() (site uint64, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, settleTimeout)
	defer cancel()
	for {
		for _, site := range numbers(members) {
			status, err := wire.Call[coordinator.Status](ctx, r.network, wire.CoordinatorName(site), coordinator.MethodStatus, coordinator.None{})
			if err == nil && status.Leading {
				return site, nil
			}
		}
		if err := sleep(ctx, pollInterval); err != nil {
			return 0, fmt.Errorf("no coordinator leads after %v: %w", settleTimeout, err)
		}
	}
}

// collect collects the evidence of the running processes.
func (r *run) collect() (check.Evidence, error) {
	until := time.Now().Add(settleTimeout)
	e := check.Evidence{Kills: r.killed, Moves: r.moves}
	for _, c := range r.clients {
		e.Clients = append(e.Clients, check.Client{Name: c.Name, Group: c.Group, Acknowledged: c.Acknowledged()})
	}
	for _, group := range numbers(r.opts.Groups) {
		g, err := r.collectGroup(until, group)
		if err != nil {
			return e, fmt.Errorf("group %d: %w", group, err)
		}
		e.Groups = append(e.Groups, g)
	}
	var err error
	e.Members, err = r.collectMembers(until)
	e.Violations = r.violations
	return e, err
}

// collectGroup returns the end of a group. It waits until all hosted replicas have applied the entries
// that the leader has applied, but not after until.
func (r *run) collectGroup(until time.Time, group uint64) (g check.Group, err error) {
	for ; ; time.Sleep(pollInterval) {
		g = check.Group{ID: group, Replicas: replicas}
		g.View, err = r.view(r.ctx, group)
		if err == nil {
			g.State, err = callReplicas[shard.State](r.ctx, r, node.MethodState, group)
		}
		behind := err != nil
		for _, n := range numbers(r.opts.Nodes) {
			local, callErr := wire.Call[node.Local](r.ctx, r.network, wire.NodeName(n), node.MethodLocal, node.Group{Group: group})
			if wire.CodeOf(callErr) == wire.NotHosted {
				continue
			}
			behind = behind || callErr != nil || local.State.AppliedIndex != g.State.AppliedIndex
			err = errors.Join(err, callErr)
			g.Local = append(g.Local, local)
		}
		if !behind || time.Now().After(until) || r.ctx.Err() != nil {
			return g, err
		}
	}
}

// collectMembers returns the status of all coordinators. It waits until they have applied the same
// entries, but not after until.
func (r *run) collectMembers(until time.Time) (all []coordinator.Status, err error) {
	for ; ; time.Sleep(pollInterval) {
		all, err = nil, nil
		equal := true
		for _, site := range numbers(members) {
			status, callErr := wire.Call[coordinator.Status](r.ctx, r.network, wire.CoordinatorName(site), coordinator.MethodStatus, coordinator.None{})
			err = errors.Join(err, callErr)
			all = append(all, status)
			equal = equal && status.DigestIndex == all[0].DigestIndex
		}
		if err == nil && equal || time.Now().After(until) || r.ctx.Err() != nil {
			return all, err
		}
	}
}

// stopAll ends all processes, which close everything.
func (r *run) stopAll() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for site, c := range r.coordinators {
		if stopped := c.stop(); stopped != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", wire.CoordinatorName(site), stopped))
		}
	}
	for i, c := range r.nodes {
		if stopped := c.stop(); stopped != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", wire.NodeName(uint64(i+1)), stopped))
		}
	}
	return err
}

// readStores reads the histories of all members of the metadata group, and compares them. It returns
// the directory of the store with the longest one: a member that was restored from a snapshot has only a
// part of the history.
func (r *run) readStores(e *check.Evidence) (longest string, err error) {
	var first *replay.Reader
	for _, site := range numbers(members) {
		store := coordinator.StoreDir(processDir(r.opts.Dir, wire.CoordinatorName(site)))
		reader, err := replay.Open(store)
		if err != nil {
			return "", err
		}
		records, err := readAll(reader)
		if err != nil {
			return "", fmt.Errorf("%s: %w", store, err)
		}
		if len(records) > len(e.History) {
			e.History, longest = records, store
		}
		if first == nil {
			first = reader
			continue
		}
		histories, _, err := diff.CompareHistories(context.Background(), first, reader)
		if err != nil {
			return "", fmt.Errorf("%s: %w", store, err)
		}
		e.Histories = append(e.Histories, histories)
	}
	return longest, nil
}

// readAll reads the history of a store.
func readAll(reader *replay.Reader) (records []replay.Record, err error) {
	for record, err := range reader.Records(context.Background(), replay.Query{}) {
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}
