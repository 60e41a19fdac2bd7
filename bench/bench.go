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
	seeds    uint64 // handed out
	plan     *plan
	progress *progress
	found    map[string]*measured
}

// measured collects a figure over the rounds.
type measured struct {
	figure figure
	rounds map[string][]float64
}

// nextSeed is another one each time, so that no sequence of events is written
// twice to the same files.
func (b *bench) nextSeed() uint64 {
	b.seeds++
	return b.seed<<16 + b.seeds
}

// run measures all rounds, and hands over what has been found at the end of each.
func (b *bench) run(ctx context.Context, after func(rounds int, found []figure) error) error {
	var rounds [][]step
	made := map[*history]bool{nil: true}
	steps := -1
	for n := range b.rounds {
		rounds = append(rounds, b.plan.round(n, b.seed))
		steps += len(rounds[n])
		for _, s := range rounds[n] {
			made[s.history] = true
		}
	}
	steps += len(made)
	b.found = map[string]*measured{}
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
	b.progress.begin(fmt.Sprintf("round %d of %d, %s %s: %s", round+1, b.rounds, s.workload, count(s.x), s.peer))
	if s.before != nil {
		if err := s.before(ctx, b); err != nil {
			return err
		}
	}
	unix.Sync() // what one has left to be written is not the next one's to wait for
	found, err := t.run(ctx, func(int) {})
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
	b.progress.begin(fmt.Sprintf("%s events of history: %s", count(h.events), h.peer))
	dir := filepath.Join(b.dir, h.name())
	_, err := task{Kind: "make", Peer: h.peer, Dir: dir, Seed: b.nextSeed(), Events: h.events, Rows: h.rows}.
		run(ctx, func(n int) { b.progress.events(n, h.events) })
	return err
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

// figures returns what was found in the order of the plan.
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
