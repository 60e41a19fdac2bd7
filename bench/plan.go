package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
)

// ours is the name of migrationlog in the figures. If its files were prepared specially, or an old
// build was used, a note in parentheses follows.
const ours = "migrationlog"

// The ways in which migrationlog's files are prepared before an opening. Without one of them the
// last writer has closed the log, so that it has a snapshot.
const (
	noSnapshot = "no snapshot"
	afterKill  = "after kill -9"
	oldBuild   = "old" // not a preparation: the program of -old was used
)

// contender is a peer as one program uses it.
type contender struct {
	peer.Peer
	name    string // name in the figures
	program string // see task.program
}

// variant returns the name of a contender whose files were prepared in that way.
func (c contender) variant(prepared string) string {
	if c.isOld() {
		return variantOf(oldBuild + ", " + prepared)
	}
	return variantOf(prepared)
}

func variantOf(what string) string { return ours + " (" + what + ")" }

func (c contender) isOld() bool { return c.name == variantOf(oldBuild) }

// isOurs reports whether a figure's name is that of migrationlog, of any build and with any files.
func isOurs(name string) bool { return name == ours || strings.HasPrefix(name, ours+" (") }

// scale has the amounts of work of all workloads.
type scale struct {
	durationMS   int
	writers      []int
	liveRows     int
	importEvents int
	startEvents  []int
	startLimit   int   // most events in the histories of peers other than migrationlog
	rebuild      []int // those of startEvents that the name rebuild selects
	loadRows     []int
	getRows      []int
	diskEvents   int
}

var (
	fullScale = scale{
		durationMS: 2000, writers: []int{1, 8, 64, 256}, liveRows: 1000, importEvents: 200_000,
		startEvents: []int{10_000, 100_000, 1_000_000, 10_000_000}, startLimit: 1_000_000, rebuild: []int{1_000_000, 10_000_000},
		loadRows: []int{100_000, 1_000_000}, getRows: []int{1000, 100_000}, diskEvents: 100_000,
	}
	quickScale = scale{
		durationMS: 50, writers: []int{1, 64}, liveRows: 100, importEvents: 2000,
		startEvents: []int{1000, 2000, 4000}, startLimit: 1000, rebuild: []int{2000, 4000},
		loadRows: []int{500, 1500}, getRows: []int{1000}, diskEvents: 2000,
	}
)

// rebuild is the name in -run of the starts of migrationlog without snapshots after long histories.
// They are measured as part of the workload start.
const rebuild = "rebuild"

// step is one measurement of one round.
type step struct {
	workload string
	alias    string // another name in -run; "": none
	peer     string // as the figure names it
	x        int
	task     task
	before   func(context.Context, *bench) error // prepares the files; nil: nothing to do
	history  *history                            // content of the files; nil: a new directory
	once     bool                                // every round would find the same
}

// plan lists the measurements of a round, and the figures that cannot be measured.
type plan struct {
	scale     scale
	workloads *regexp.Regexp
	histories map[string]*history
	steps     []step
	absent    []figure
}

// newPlan returns the plan for the peers and workloads that match. oldProgram is the program of
// -old, or "" if there is none. The old build is measured only if migrationlog is.
func newPlan(s scale, workloads, peers *regexp.Regexp, oldProgram string) *plan {
	p := &plan{scale: s, workloads: workloads, histories: map[string]*history{}}
	for _, each := range peer.All() {
		if !peers.MatchString(each.Name) {
			continue
		}
		p.contender(contender{Peer: each, name: each.Name})
		if each.Name == ours && oldProgram != "" {
			p.contender(contender{Peer: each, name: variantOf(oldBuild), program: oldProgram})
		}
	}
	return p
}

func (p *plan) contender(c contender) {
	p.upserts(c)
	p.imports(c)
	p.starts(c)
	p.loads(c)
	p.gets(c)
	p.scans(c)
}

func (p *plan) add(c contender, s step) {
	if !p.workloads.MatchString(s.workload) && (s.alias == "" || !p.workloads.MatchString(s.alias)) {
		return
	}
	if s.peer == "" {
		s.peer = c.name
	}
	s.task.Peer, s.task.program = c.Name, c.program
	if s.task.DurationMS == 0 {
		s.task.DurationMS = p.scale.durationMS
	}
	p.steps = append(p.steps, s)
}

func (p *plan) lacks(workload string, c contender, x int, why string) {
	if p.workloads.MatchString(workload) {
		p.absent = append(p.absent, figure{Workload: workload, Peer: c.name, X: x, Why: why})
	}
}

// history returns the contender's history of that size.
func (p *plan) history(h history) *history {
	if p.histories[h.name()] == nil {
		p.histories[h.name()] = &h
	}
	return p.histories[h.name()]
}

func (p *plan) upserts(c contender) {
	for _, writers := range p.scale.writers {
		p.add(c, step{workload: "upsert", x: writers, task: task{Kind: "upsert", Writers: writers, Rows: p.scale.liveRows}})
	}
}

func (p *plan) imports(c contender) {
	n := p.scale.importEvents
	p.add(c, step{workload: "import", x: n, task: task{Kind: "import", Events: n, Rows: p.scale.liveRows}})
	n = p.scale.diskEvents
	p.add(c, step{workload: "disk", x: n, once: true, task: task{Kind: "disk", Events: n, Rows: p.scale.liveRows}})
}

func (p *plan) starts(c contender) {
	if c.Keeps == peer.KeepsBytes {
		return
	}
	for _, events := range p.scale.startEvents {
		if c.Name != ours && events > p.scale.startLimit {
			p.lacks("start", c, events, fmt.Sprintf("not made: peers are measured up to %s events", count(p.scale.startLimit)))
			continue
		}
		s := step{
			workload: "start", x: events, history: p.history(history{contender: c, events: events, rows: p.scale.liveRows}),
			task: task{Kind: "start", Events: events, Rows: p.scale.liveRows, Snapshot: c.Name == ours},
		}
		if c.Name != ours {
			p.add(c, s)
			continue
		}
		s.before = requireSnapshot(s.history)
		p.add(c, s)
		s.peer, s.before = c.variant(afterKill), killWhileWriting(s.history)
		p.add(c, s)
		s.peer, s.before, s.task.Snapshot = c.variant(noSnapshot), dropSnapshots(s.history), false
		if slices.Contains(p.scale.rebuild, events) {
			s.alias = rebuild
		}
		p.add(c, s)
	}
}

func (p *plan) loads(c contender) {
	if c.Keeps == peer.KeepsBytes {
		return
	}
	for _, rows := range p.scale.loadRows {
		h := p.history(history{contender: c, events: eventgen.UnendedOps(rows), rows: rows, unended: true})
		s := step{workload: "load", x: rows, history: h, task: task{Kind: "load", Rows: rows}}
		if c.Name != ours {
			p.add(c, s)
			continue
		}
		s.before = requireSnapshot(h)
		p.add(c, s)
		s.peer, s.before = c.variant(noSnapshot), dropSnapshots(h)
		p.add(c, s)
	}
}

func (p *plan) gets(c contender) {
	for _, rows := range p.scale.getRows {
		switch c.Keeps {
		case peer.KeepsBytes:
		case peer.KeepsHistory:
			p.lacks("get", c, rows, "the Go map beside it would be measured")
		default:
			p.add(c, step{
				workload: "get", x: rows, history: p.history(history{contender: c, events: 2 * rows, rows: rows}),
				task: task{Kind: "get", Rows: rows},
			})
		}
	}
}

func (p *plan) scans(c contender) {
	events := p.scale.startLimit
	switch c.Keeps {
	case peer.KeepsBytes:
	case peer.KeepsRows:
		p.lacks("history", c, events, "keeps no history")
	default:
		p.add(c, step{
			workload: "history", x: events, history: p.history(history{contender: c, events: events, rows: p.scale.liveRows}),
			task: task{Kind: "history", Events: events, Rows: p.scale.liveRows},
		})
	}
}

// round returns the steps of a round, workload by workload. The seed and the round determine the
// order of the peers.
func (p *plan) round(n int, seed uint64) []step {
	steps := slices.DeleteFunc(slices.Clone(p.steps), func(s step) bool { return s.once && n > 0 })
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	order := []string{"upsert", "import", "start", "load", "get", "history", "disk"}
	slices.SortStableFunc(steps, func(a, b step) int {
		if d := slices.Index(order, a.workload) - slices.Index(order, b.workload); d != 0 {
			return d
		}
		return a.x - b.x
	})
	return steps
}

// requireSnapshot returns an error if the log has no snapshot, because the start would then be
// measured without one.
func requireSnapshot(h *history) func(context.Context, *bench) error {
	return func(_ context.Context, b *bench) error {
		dir := filepath.Join(b.dir, h.name(), "snapshots")
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("%s has no snapshot: its writer did not write one at Close", dir)
		}
		return nil
	}
}

// dropSnapshots deletes the snapshots, so that the next opening reads the whole history.
func dropSnapshots(h *history) func(context.Context, *bench) error {
	return func(_ context.Context, b *bench) error {
		return os.RemoveAll(filepath.Join(b.dir, h.name(), "snapshots"))
	}
}

// killWhileWriting starts a writer and kills it in the middle of its durable writes. The writer
// writes migrations of its own, at most one of which has a row afterwards.
func killWhileWriting(h *history) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		_, err := b.runTask(ctx, task{
			Kind: "write", Peer: h.contender.Name, program: h.contender.program,
			Dir: filepath.Join(b.dir, h.name()), Seed: b.nextSeed(), KillAfter: 100,
		}, func(int) {})
		return err
	}
}
