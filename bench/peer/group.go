package peer

import (
	"runtime"
	"sync"
)

// group is a group commit. A call during the write of a batch joins the next batch, and the first
// caller of that batch leads it. T is the content of a batch.
type group[T any] struct {
	flush func(T) error // called by one goroutine at a time
	reset func(T) T     // returns an empty batch that reuses the memory of a flushed one

	mu     sync.Mutex
	open   *batch[T]
	spare  T
	leader bool // a caller leads, or has been signaled to
}

type batch[T any] struct {
	items T
	n     int
	lead  chan struct{} // signals one of its callers to flush it
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

// add adds an item to the open batch and returns when the batch is flushed.
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

// flushOpen flushes the open batch, to which the caller belongs, and signals a caller of the next
// batch to lead it.
func (g *group[T]) flushOpen() {
	g.mu.Lock()
	b := g.open
	for n := 0; n != b.n; { // woken callers write again: wait, so that they form one batch and not two alternating ones
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
