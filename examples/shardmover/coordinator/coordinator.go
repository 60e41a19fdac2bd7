package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/wire"
	"migrationlog/recovery"
)

// Options configures Open.
type Options struct {
	Dir     string
	Node    uint64   // the site of the coordinator
	Members []uint64 // the sites of all coordinators
	Nodes   []uint64 // the nodes of the cluster
	Network *wire.Network
	Mux     *wire.Mux
	Log     io.Writer
	Logger  *slog.Logger
	Output  io.Writer // of the progress
}

// Coordinator is one coordinator. While it leads the metadata group, it carries out the moves.
type Coordinator struct {
	opts   Options
	member *member
	groups *groups

	output sync.Mutex

	mu    sync.Mutex
	mover *mover // nil while the coordinator does not lead, or has not recovered yet
}

// Open opens a coordinator.
func Open(opts Options) (*Coordinator, error) {
	m, err := openMember(opts)
	if err != nil {
		return nil, err
	}
	return &Coordinator{opts: opts, member: m, groups: newGroups(opts.Network, opts.Nodes)}, nil
}

// Close closes the coordinator's member of the metadata group.
func (c *Coordinator) Close() error { return c.member.close() }

// pollInterval is the time between two checks of raft's state.
const pollInterval = 10 * time.Millisecond

// Run carries out the moves while the coordinator leads. It returns if ctx ends.
func (c *Coordinator) Run(ctx context.Context) {
	for sleep(ctx, pollInterval) == nil {
		epoch := c.member.raft.CurrentTerm()
		if !c.member.leads(epoch) {
			continue
		}
		leading, stop := context.WithCancelCause(ctx)
		go func() {
			for sleep(leading, pollInterval) == nil {
				if !c.member.leads(epoch) {
					stop(errors.New("another coordinator leads"))
				}
			}
		}()
		c.lead(leading, epoch)
		stop(nil)
	}
}

// lead takes over the moves of earlier coordinators, and then accepts new ones. The epoch is the
// term of the metadata group, because each term has one leader.
func (c *Coordinator) lead(ctx context.Context, epoch uint64) {
	m := &mover{
		ctx: ctx, epoch: epoch, proposer: c.member.proposer, fsm: c.member.fsm, groups: c.groups, log: c.opts.Logger,
		report: c.report, driven: map[checkpoint.MigrationID]bool{}, pauses: map[checkpoint.MigrationID]time.Duration{},
	}
	resume, err := c.takeOver(ctx, m)
	if err != nil {
		return // the coordinator does not lead any more
	}
	for _, id := range resume {
		m.start(id)
	}
	c.setMover(m)
	c.report(Progress{Step: StepLeads, Detail: fmt.Sprintf("epoch %d, took over %d moves", epoch, len(resume))})
	<-ctx.Done()
	c.setMover(nil)
	m.wait()
}

// takeOver repeats Recover until all decisions are carried out, and returns the moves to be
// resumed. None of them is resumed before that, because the next Recover would plan them again.
func (c *Coordinator) takeOver(ctx context.Context, m *mover) (resume []checkpoint.MigrationID, err error) {
	for ctx.Err() == nil {
		var mu sync.Mutex
		resume = nil
		err = c.member.proposer.Recover(ctx, recovery.Policy{
			AbortTimeout: abortTimeout,
			Member:       recovery.MemberOf(c.opts.Nodes...),
			Leader:       func(group uint64) (uint64, bool) { return m.fenceAndReadLeader(ctx, group) },
		}, recovery.Handlers{
			Epoch:      m.epoch,
			Compensate: m.compensate,
			Resume: func(_ context.Context, d recovery.Decision, _ uint64) error {
				mu.Lock()
				defer mu.Unlock()
				resume = append(resume, d.MigrationID())
				return nil
			},
			Ask: func(_ context.Context, d recovery.Decision, _ uint64) error {
				c.report(Progress{Step: StepAsks, ID: d.MigrationID(), Detail: string(d.Reason)})
				return fmt.Errorf("no person answers the question %q here: ask again", d.Reason)
			},
		})
		if err == nil {
			return resume, nil
		}
		c.opts.Logger.Warn("recovery is not complete", "epoch", m.epoch, "error", err)
		_ = sleep(ctx, retryPause)
	}
	return nil, context.Cause(ctx)
}

func (c *Coordinator) setMover(m *mover) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mover = m
}

// leader returns the mover, if this coordinator leads and has recovered.
func (c *Coordinator) leader() (*mover, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mover == nil {
		return nil, notLeading(c.member.leader())
	}
	return c.mover, nil
}

// report writes a step to the standard output.
func (c *Coordinator) report(p Progress) {
	p.Coordinator = c.opts.Node
	line, err := json.Marshal(p)
	if err != nil {
		panic(err) // a Progress has only texts and numbers
	}
	c.output.Lock()
	defer c.output.Unlock()
	_, _ = c.opts.Output.Write(append(line, '\n')) // it fails only if the driver has ended: this process then ends too
}

// API returns the methods of the coordinator.
func (c *Coordinator) API() http.Handler {
	api := http.NewServeMux()
	wire.Handle(api, MethodBegin, func(_ context.Context, move Move) (None, error) {
		m, err := c.leader()
		if err != nil {
			return None{}, err
		}
		return None{}, m.begin(move)
	})
	wire.Handle(api, MethodOutcome, func(ctx context.Context, move Move) (Outcome, error) {
		m, err := c.leader()
		if err != nil {
			return "", err
		}
		return m.outcome(ctx, move.ID)
	})
	wire.Handle(api, MethodStatus, func(context.Context, None) (Status, error) {
		s := c.member.status()
		m, err := c.leader()
		if err == nil && c.member.raft.State() == raft.Leader {
			s.Leading, s.Epoch = true, m.epoch
		}
		return s, nil
	})
	return api
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
