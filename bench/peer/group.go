package peer

import (
	"runtime"
	"sync"
)

// group is a group commit: whoever comes while a batch is being written goes into
// the next, and the first of those writes it. T is what a batch collects.
type group[T any] struct {
	flush func(T) error // one at a time
	reset func(T) T     // an empty batch in the memory of a flushed one

	mu     sync.Mutex
	open   *batch[T]
	spare  T
	leader bool // somebody leads, or has been told to
}

type batch[T any] struct {
	items T
	n     int
	lead  chan struct{} // one of its callers is told to flush it
	done  chan struct{}
	err   error
}

func newGroup[T any](flush func(T) error, reset func(T) T) *group[T] {
	g := &group[T]{flush: flush, reset: reset}
	g.open = g.newBatch()
	return g
}

func (g *group[T]) newBatch() *batch[T] {
	b := &batch[T]{items: g.spare, lead: make(chan struct{}, 1), done: make(chan struct{})}
	var none T
	g.spare = none
	return b
}

// add puts something into the open batch and returns when that is flushed.
func (g *group[T]) add(put func(T) T) error {
	g.mu.Lock()
	b := g.open
	b.items = put(b.items)
	b.n++
	leads := !g.leader
	g.leader = true
	g.mu.Unlock()
	if !leads {
		select {
		case <-b.done:
			return b.err
		case <-b.lead:
		}
	}
	g.flushOpen()
	return b.err
}

// flushOpen flushes the open batch, one of whose callers is the caller, and
// tells one of the next to do the same.
func (g *group[T]) flushOpen() {
	g.mu.Lock()
	b := g.open
	for n := 0; n != b.n; { // callers that were just woken come again: one batch of all, not two by turns
		n = b.n
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
	g.open = g.newBatch()
	g.mu.Unlock()

	b.err = g.flush(b.items)
	close(b.done)

	g.mu.Lock()
	g.spare = g.reset(b.items)
	if g.leader = g.open.n > 0; g.leader {
		g.open.lead <- struct{}{}
	}
	g.mu.Unlock()
}
