package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// bench is a run.
type bench struct {
	dir      string
	rounds   int
	seed     uint64
	seeds    uint64 // number of seeds that nextSeed has returned
	plan     *plan
	progress *progress
	found    map[string]*measured
	subjects map[uint64]subject // by the seed of the history
	runTask  func(context.Context, task, func(events int)) (values, error)
}

// measured collects a figure over the rounds.
type measured struct {
	figure figure
	rounds map[string][]float64
}

// nextSeed returns a new seed with each call, so that no task writes the events of another one.
func (b *bench) nextSeed() uint64 {
	b.seeds++
	return b.seed<<16 + b.seeds
}

// run measures all rounds. It calls after at the end of each with the figures so far.
func (b *bench) run(ctx context.Context, after func(rounds int, found []figure) error) error {
	var rounds [][]step
	histories := map[*history]bool{nil: true}
	steps := -1
	for n := range b.rounds {
		rounds = append(rounds, b.plan.round(n, b.seed))
		steps += len(rounds[n])
		for _, s := range rounds[n] {
			histories[s.history] = true
		}
	}
	steps += len(histories)
	b.found, b.subjects = map[string]*measured{}, map[uint64]subject{}
	b.progress = newProgress(steps)
	defer b.progress.done()
	for n, steps := range rounds {
		for _, s := range steps {
			if err := b.measure(ctx, s, n); err != nil {
				return fmt.Errorf("%s, %s, %d: %w", s.workload, s.peer, s.x, err)
			}
		}
		if err := after(n+1, b.figures()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measure(ctx context.Context, s step, round int) error {
	t := s.task
	t.Seed = b.nextSeed()
	if s.history != nil {
		if err := b.makeHistory(ctx, s.history); err != nil {
			return err
		}
		t.Dir = filepath.Join(b.dir, s.history.name())
	} else {
		t.Dir = filepath.Join(b.dir, "new")
		defer os.RemoveAll(t.Dir)
	}
	if t.Kind == "history" {
		of, err := b.subject(s.history)
		if err != nil {
			return err
		}
		t.Migration, t.MigrationEvents = of.id, of.events
	}
	b.progress.begin(fmt.Sprintf("round %d of %d, %s %s: %s", round+1, b.rounds, s.workload, count(s.x), s.peer))
	if s.before != nil {
		if err := s.before(ctx, b); err != nil {
			return err
		}
	}
	unix.Sync() // so that this task does not wait for dirty pages of the one before
	found, err := b.runTask(ctx, t, func(int) {})
	if err != nil {
		return err
	}
	b.note(s, found)
	return nil
}

func (b *bench) makeHistory(ctx context.Context, h *history) error {
	if h.made {
		return nil
	}
	h.made = true
	b.progress.begin(fmt.Sprintf("%s events of history: %s", count(h.events), h.contender.name))
	_, err := b.runTask(ctx, task{
		Kind: "make", Peer: h.contender.Name, program: h.contender.program, Dir: filepath.Join(b.dir, h.name()),
		Seed: h.seed(b.seed), Events: h.events, Rows: h.rows, Unended: h.unended,
	}, func(n int) { b.progress.events(n, h.events) })
	return err
}

// subject returns the migration whose events are read from a history. It depends on nothing but the
// run's seed and the history's size, so it is the same for all peers and in all rounds.
func (b *bench) subject(h *history) (subject, error) {
	seed := h.seed(b.seed)
	of, ok := b.subjects[seed]
	if ok {
		return of, nil
	}
	of, err := chooseSubject(seed, h.events, h.rows)
	b.subjects[seed] = of
	return of, err
}

func (b *bench) note(s step, found values) {
	key := fmt.Sprint(s.workload, s.x, s.peer)
	m := b.found[key]
	if m == nil {
		m = &measured{figure: figure{Workload: s.workload, Peer: s.peer, X: s.x}, rounds: map[string][]float64{}}
		b.found[key] = m
	}
	for metric, value := range found {
		m.rounds[metric] = append(m.rounds[metric], value)
	}
}

// figures returns the figures so far, in the order of the plan.
func (b *bench) figures() []figure {
	var all []figure
	for _, s := range b.plan.steps {
		m := b.found[fmt.Sprint(s.workload, s.x, s.peer)]
		if m == nil {
			continue
		}
		m.figure.Values = map[string]spread{}
		for metric := range maps.Keys(m.rounds) {
			m.figure.Values[metric] = spreadOf(m.rounds[metric])
		}
		all = append(all, m.figure)
	}
	return slices.Concat(all, b.plan.absent)
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }
