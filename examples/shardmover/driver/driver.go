package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"migrationlog/examples/shardmover/check"
	"migrationlog/examples/shardmover/client"
	"migrationlog/examples/shardmover/faults"
	"migrationlog/examples/shardmover/wire"
	"migrationlog/replay"
)

// Options configures Run.
type Options struct {
	Dir    string // must not exist, or be empty
	Nodes  int    // at least 4
	Groups int
	Moves  int
	Kills  int
	Seed   int64
	Faults bool
	Screen io.Writer // of the progress
	Width  int       // columns, if Screen is a terminal; otherwise 0
}

// members is the number of coordinators, and so of members of the metadata group.
const members = 3

// clientsPerGroup is the number of clients that write to each group.
const clientsPerGroup = 2

// check returns an error if an option has no meaning.
func (o Options) check() error {
	if o.Nodes <= replicas {
		return fmt.Errorf("%d nodes are too few: each group has %d replicas, and a move needs one more node", o.Nodes, replicas)
	}
	if o.Groups < 1 || o.Moves < 0 || o.Kills < 0 {
		return errors.New("use at least one group, and no negative numbers")
	}
	entries, err := os.ReadDir(o.Dir)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: use a new directory", o.Dir)
	}
	return os.MkdirAll(o.Dir, 0o755)
}

// Result is the result of a run.
type Result struct {
	Report  check.Report
	History []replay.Record // of the metadata group
	Store   string          // directory of the store that has this history
}

// run is a run under way.
type run struct {
	opts    Options
	plan    plan
	ctx     context.Context // ends if the run fails
	fail    context.CancelCauseFunc
	network *wire.Network
	screen  *screen

	nodes       []*child
	clients     []*client.Client
	heal        func() // ends the faults
	stopClients func()

	mu           sync.Mutex
	ended        bool // no process may be started any more
	coordinators map[uint64]*child
	pending      []plannedKill
	steps        int
	killed       int
	moves        []check.Move
	violations   []string

	due    chan dueKill
	leader atomic.Uint64 // site of the coordinator that led last
}

// Run runs the cluster, and checks it. If the run ends early, the reason is a violation of the result. An
// error means that the run did not begin.
func Run(ctx context.Context, o Options) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return Result{}, err
	}
	o.Dir = dir
	r := &run{
		opts: o, plan: newPlan(o), network: wire.NewNetwork(addresses(o.Dir), "driver", false),
		coordinators: map[uint64]*child{}, due: make(chan dueKill), heal: func() {},
	}
	r.pending = r.plan.kills
	r.ctx, r.fail = context.WithCancelCause(ctx)
	defer r.fail(nil)
	r.leader.Store(1)
	r.makeClients()
	r.screen = newScreen(r.ctx, o, r.acknowledged)
	defer r.screen.close()
	defer r.killAll()
	if err := r.start(); err != nil {
		return Result{}, err
	}
	result := Result{}
	if err = r.moveAll(); err == nil {
		result, err = r.finish()
	}
	if err != nil {
		r.violate("the run has ended early: %v", err)
		result.Report = r.partialReport()
	}
	return result, nil
}

// partialReport returns the report of a run that cannot be checked.
func (r *run) partialReport() check.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return check.Report{
		Moves: r.opts.Moves, InFlight: r.opts.Moves - len(r.moves), Kills: r.killed,
		ClientWritesAcknowledged: r.acknowledged(), Violations: r.violations,
	}
}

// start starts the proxy, the processes and the clients.
func (r *run) start() error {
	if r.opts.Faults {
		if err := r.startFaults(); err != nil {
			return err
		}
	}
	for _, node := range numbers(r.opts.Nodes) {
		c, err := r.job(node, false).start()
		if err != nil {
			return err
		}
		r.nodes = append(r.nodes, c)
		go r.watch(wire.NodeName(node), c)
	}
	for _, site := range numbers(members) {
		if err := r.startCoordinator(site); err != nil {
			return err
		}
	}
	go r.killWhenDue()
	r.startClients()
	return nil
}

// startFaults starts the proxy, and the faults between the sites. r.heal ends the faults.
func (r *run) startFaults() error {
	proxy, err := faults.Start(addresses(r.opts.Dir))
	if err != nil {
		return err
	}
	context.AfterFunc(r.ctx, func() { proxy.Close() })
	var sites []string
	for _, node := range numbers(r.opts.Nodes) {
		sites = append(sites, strconv.FormatUint(node, 10))
	}
	r.heal = goUntil(r.ctx, func(ctx context.Context) { proxy.Run(ctx, r.plan.faults, sites, r.screen.fault) })
	return nil
}

// makeClients makes the clients of each group.
func (r *run) makeClients() {
	for _, group := range numbers(r.opts.Groups) {
		for i := range clientsPerGroup {
			name := fmt.Sprintf("client-%d-%d", group, i+1)
			r.clients = append(r.clients, client.New(name, group, r.network, numbers(r.opts.Nodes)))
		}
	}
}

// acknowledged returns the number of acknowledged writes of all clients.
func (r *run) acknowledged() (writes uint64) {
	for _, c := range r.clients {
		writes += c.Acknowledged()
	}
	return writes
}

// startClients starts the clients. r.stopClients ends them.
func (r *run) startClients() {
	r.stopClients = goUntil(r.ctx, func(ctx context.Context) {
		var all sync.WaitGroup
		for _, c := range r.clients {
			all.Go(func() { c.Run(ctx) })
		}
		all.Wait()
	})
}

// goUntil calls f in a goroutine. The result ends its context, and waits for it.
func goUntil(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	return func() { cancel(); <-done }
}

// numbers returns 1 to n.
func numbers(n int) (all []uint64) {
	for i := range n {
		all = append(all, uint64(i+1))
	}
	return all
}

// job returns the job of a child process.
func (r *run) job(site uint64, isCoordinator bool) job {
	return job{
		Dir: r.opts.Dir, Coordinator: isCoordinator, Site: site, Nodes: numbers(r.opts.Nodes), Members: numbers(members),
		First: r.plan.first, Proxied: r.opts.Faults,
	}
}

// watch fails the run if a process ends by itself.
func (r *run) watch(name string, c *child) {
	<-c.ended
	if !c.asked.Load() {
		r.fail(fmt.Errorf("%s has ended (%v): see %s", name, c.cmd.ProcessState, filepath.Join(r.opts.Dir, name+".log")))
	}
}

// violate adds a violation that was seen during the run.
func (r *run) violate(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// killAll kills all processes that still run.
func (r *run) killAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, c := range r.nodes {
		c.kill()
	}
	for _, c := range r.coordinators {
		c.kill()
	}
}
