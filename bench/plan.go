package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"migrationlog/bench/peer"
)

// Names of what is measured of migrationlog's start.
const (
	ours           = "migrationlog"
	oursNoSnapshot = "migrationlog (no snapshot)"
	oursKilled     = "migrationlog (after kill -9)"
)

// scale is how much is measured.
type scale struct {
	durationMS   int
	writers      []int
	liveRows     int
	importEvents int
	startEvents  []int
	startLimit   int // events that a peer's history is made of at most; migrationlog's has no limit
	getRows      []int
	diskEvents   int
}

var (
	fullScale = scale{
		durationMS: 2000, writers: []int{1, 8, 64, 256}, liveRows: 1000, importEvents: 200_000,
		startEvents: []int{10_000, 100_000, 1_000_000, 10_000_000}, startLimit: 1_000_000,
		getRows: []int{1000, 100_000}, diskEvents: 100_000,
	}
	quickScale = scale{
		durationMS: 50, writers: []int{1, 64}, liveRows: 100, importEvents: 2000,
		startEvents: []int{1000, 4000}, startLimit: 1000, getRows: []int{1000}, diskEvents: 2000,
	}
)

// step is one measurement of one round.
type step struct {
	workload string
	peer     string // as the figure names it
	x        int
	task     task
	before   func(context.Context, *bench) error // what has to be done to the files
	history  *history                            // what the files hold; nil: a new directory
	once     bool                                // it finds the same in every round
}

// history is a directory that several steps read.
type history struct {
	peer         string
	events, rows int
	made         bool
}

func (h *history) name() string {
	return fmt.Sprintf("history-%s-%d-%d", regexp.MustCompile(`\W+`).ReplaceAllString(h.peer, "-"), h.events, h.rows)
}

// plan lists the measurements of a round, and figures that there cannot be.
type plan struct {
	scale     scale
	workloads *regexp.Regexp
	peers     *regexp.Regexp
	histories map[string]*history
	steps     []step
	absent    []figure
}

func newPlan(s scale, workloads, peers *regexp.Regexp) *plan {
	p := &plan{scale: s, workloads: workloads, peers: peers, histories: map[string]*history{}}
	for _, each := range peer.All() {
		if !peers.MatchString(each.Name) {
			continue
		}
		p.upserts(each)
		p.imports(each)
		p.starts(each)
		p.gets(each)
		p.scans(each)
	}
	return p
}

func (p *plan) add(s step) {
	if !p.workloads.MatchString(s.workload) {
		return
	}
	if s.peer == "" {
		s.peer = s.task.Peer
	}
	if s.task.DurationMS == 0 {
		s.task.DurationMS = p.scale.durationMS
	}
	p.steps = append(p.steps, s)
}

func (p *plan) lacks(workload, peer string, x int, why string) {
	if p.workloads.MatchString(workload) {
		p.absent = append(p.absent, figure{Workload: workload, Peer: peer, X: x, Why: why})
	}
}

// history returns the one of that peer and size.
func (p *plan) history(peer string, events, rows int) *history {
	h := &history{peer: peer, events: events, rows: rows}
	if p.histories[h.name()] == nil {
		p.histories[h.name()] = h
	}
	return p.histories[h.name()]
}

func (p *plan) upserts(each peer.Peer) {
	for _, writers := range p.scale.writers {
		p.add(step{workload: "upsert", x: writers, task: task{Kind: "upsert", Peer: each.Name, Writers: writers, Rows: p.scale.liveRows}})
	}
}

func (p *plan) imports(each peer.Peer) {
	n := p.scale.importEvents
	p.add(step{workload: "import", x: n, task: task{Kind: "import", Peer: each.Name, Events: n, Rows: p.scale.liveRows}})
	n = p.scale.diskEvents
	p.add(step{workload: "disk", x: n, once: true, task: task{Kind: "disk", Peer: each.Name, Events: n, Rows: p.scale.liveRows}})
}

func (p *plan) starts(each peer.Peer) {
	if each.Keeps == peer.KeepsBytes {
		return
	}
	for _, events := range p.scale.startEvents {
		if each.Name != ours && events > p.scale.startLimit {
			p.lacks("start", each.Name, events, fmt.Sprintf("not made: peers are measured up to %s events", count(p.scale.startLimit)))
			continue
		}
		s := step{
			workload: "start", x: events, history: p.history(each.Name, events, p.scale.liveRows),
			task: task{Kind: "start", Peer: each.Name, Events: events, Rows: p.scale.liveRows, Snapshot: each.Name == ours},
		}
		p.add(s)
		if each.Name != ours {
			continue
		}
		s.peer, s.before = oursKilled, killWhileWriting(s.history)
		p.add(s)
		s.peer, s.before, s.task.Snapshot = oursNoSnapshot, dropSnapshots(s.history), false
		p.add(s)
	}
}

func (p *plan) gets(each peer.Peer) {
	for _, rows := range p.scale.getRows {
		switch each.Keeps {
		case peer.KeepsBytes:
		case peer.KeepsHistory:
			p.lacks("get", each.Name, rows, "the Go map beside it would be measured")
		default:
			p.add(step{
				workload: "get", x: rows, history: p.history(each.Name, 2*rows, rows),
				task: task{Kind: "get", Peer: each.Name, Rows: rows},
			})
		}
	}
}

func (p *plan) scans(each peer.Peer) {
	events := p.scale.startLimit
	switch each.Keeps {
	case peer.KeepsBytes:
	case peer.KeepsRows:
		p.lacks("history", each.Name, events, "keeps no history")
	default:
		p.add(step{
			workload: "history", x: events, history: p.history(each.Name, events, p.scale.liveRows),
			task: task{Kind: "history", Peer: each.Name, Events: events, Rows: p.scale.liveRows},
		})
	}
}

// round returns the steps of a round: workload by workload, the peers in an order
// that the seed and the round decide.
func (p *plan) round(n int, seed uint64) []step {
	steps := slices.DeleteFunc(slices.Clone(p.steps), func(s step) bool { return s.once && n > 0 })
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	order := []string{"upsert", "import", "start", "get", "history", "disk"}
	slices.SortStableFunc(steps, func(a, b step) int {
		if d := slices.Index(order, a.workload) - slices.Index(order, b.workload); d != 0 {
			return d
		}
		return a.x - b.x
	})
	return steps
}

// dropSnapshots has the next start read the whole history.
func dropSnapshots(h *history) func(context.Context, *bench) error {
	return func(_ context.Context, b *bench) error {
		return os.RemoveAll(filepath.Join(b.dir, h.name(), "snapshots"))
	}
}

// killWhileWriting has a writer killed in the middle of its durable writes. It is
// writing migrations of its own, at most one of which is left.
func killWhileWriting(h *history) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		_, err := task{
			Kind: "write", Peer: h.peer, Dir: filepath.Join(b.dir, h.name()), Seed: b.nextSeed(), KillAfter: 100,
		}.run(ctx, func(int) {})
		return err
	}
}
