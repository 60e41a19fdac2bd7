package groupcommit

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrClosed is returned by Do after Close was called. The write was not committed.
var ErrClosed = errors.New("groupcommit: the queue is closed")

// Queue batches the writes of concurrent callers. One caller of a batch, its leader, commits the
// batch for all of them. The others are its followers. The next batch fills in the meantime. All
// methods are safe for concurrent use.
//
// The queue does adaptive group commit. The callers of a batch usually write again when they are
// woken. The next batch therefore starts once the queue holds one write from each expected
// writer. The last writer to arrive leads the batch, which saves a goroutine switch. If fewer
// writers arrive, linger starts the batch after a bounded delay. After repeated misses the delay
// is skipped for a growing number of batches.
type Queue[W Write] struct {
	commit func(batch []W) (afterWake func())

	mu            sync.Mutex
	idle          sync.Cond // signalled when no batch runs and none is queued
	closed        bool
	leaderActive  bool   // a batch is being committed, or a caller was told to become the leader
	pending       []W    // the writes for the next batches, in the order in which they joined
	spare         []W    // an earlier batch's memory, to be used again
	batchNo       uint64 // batches started so far
	recentWriters int    // decaying maximum of concurrent writers
	expected      int    // the next batch starts without a delay if it has this many writes
	misses        int    // consecutive batches that did not reach their target
	skipDelay     int    // batches left to start without waiting
}

// New returns a queue whose leaders call commit with each batch. Calls of commit never overlap.
// A batch has at least one write. The slice is valid until commit returns.
//
// commit owns the writes of the batch until it returns. It stores their results in them. If it
// returns a function, the leader calls that after it has woken the followers. That function may
// call Close, commit must not.
func New[W Write](commit func(batch []W) (afterWake func())) *Queue[W] {
	q := &Queue[W]{commit: commit}
	q.idle.L = &q.mu
	return q
}

// Do returns after a batch with the write was committed, or ErrClosed. The caller must not touch
// the write in the meantime.
//
// chain must be true if w stands for many writes that are committed together. A batch has at most
// one such call, because each of them delays all other writes of its batch.
func (q *Queue[W]) Do(w W, chain bool) error {
	own := w.call()
	own.prepare(chain)
	batch, err := q.join(w)
	if err != nil {
		return err
	}
	if batch == nil && <-own.done == becomeLeader {
		batch = q.take()
	}
	if batch != nil {
		q.lead(batch, own)
	}
	return nil
}

// lead commits a batch and wakes the followers. The next leader is woken first.
//
// If the next batch is not full yet, the linger goroutine starts before the last write of the batch
// is handled. The Go scheduler runs woken goroutines in wake order, except the last one, which runs
// immediately. By the time linger runs, the other callers have therefore queued their next writes.
// If the last write is the leader's own, linger starts after all followers were woken.
func (q *Queue[W]) lead(batch []W, own *Call) {
	start := time.Now()
	afterWake := q.commit(batch)
	commitTime := time.Since(start)
	next, mustLinger, batchNo := q.finishBatch(len(batch))
	if next != nil {
		next.done <- becomeLeader
	}
	for i, w := range batch {
		if mustLinger && i == len(batch)-1 {
			go q.linger(batchNo, commitTime)
		}
		if follower := w.call(); follower != own {
			follower.done <- committed
		}
	}
	q.recycle(batch)
	if afterWake != nil {
		afterWake()
	}
}

// join queues a write. If its caller must lead a batch now, join returns that batch, else nil.
func (q *Queue[W]) join(w W) (batch []W, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	q.pending = append(q.pending, w)
	if q.leaderActive || len(q.pending) < q.expected { //mutant:one-leader
		return nil, nil
	}
	if q.expected > 1 {
		q.recordArrival(true)
	}
	// If an earlier call with many writes is queued, the batch does not include this one.
	if own, first := w.call(), q.pending[0].call(); own.chain && own != first {
		q.leaderActive = true
		first.done <- becomeLeader
		return nil, nil
	}
	return q.startBatch(), nil
}

// take returns the batch of a caller that was told to become the leader.
func (q *Queue[W]) take() (batch []W) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.startBatch()
}

// maxChains is how many calls with many writes a batch may have. With more, a single write would
// wait for the writes of all of them.
const maxChains = 1 //mutant:one-chain

// startBatch takes the pending writes. Of the calls with many writes it takes only the first and
// leaves the others for later batches.
func (q *Queue[W]) startBatch() (batch []W) {
	batch = q.pending
	q.pending, q.spare = q.spare, nil
	q.leaderActive = true
	q.batchNo++
	chains := 0
	return slices.DeleteFunc(batch, func(w W) bool {
		if !w.call().chain {
			return false
		}
		if chains++; chains > maxChains {
			q.pending = append(q.pending, w)
		}
		return chains > maxChains
	})
}

// finishBatch ends a batch of n writes. If enough writes are queued, it returns the next leader.
// Otherwise it reports whether linger must wait for more writes, and after which batch.
func (q *Queue[W]) finishBatch(n int) (next *Call, mustLinger bool, batchNo uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expect(n + len(q.pending))
	next = q.nextLeader(q.expected)
	mustLinger = next == nil && q.expected > 1
	return next, mustLinger, q.batchNo
}

// nextLeader returns the first pending call if at least target writes are pending, else nil. The
// caller of nextLeader must send becomeLeader to it.
func (q *Queue[W]) nextLeader(target int) (next *Call) {
	q.leaderActive = len(q.pending) > 0 && len(q.pending) >= target
	if q.leaderActive {
		return q.pending[0].call()
	}
	if len(q.pending) == 0 {
		q.idle.Broadcast()
	}
	return nil
}

// recycle keeps a batch's memory for a later one.
func (q *Queue[W]) recycle(batch []W) {
	clear(batch)
	q.mu.Lock()
	q.spare = batch[:0]
	q.mu.Unlock()
}

// Close makes later calls of Do return ErrClosed. It returns after all queued writes were
// committed. It may be called more than once.
func (q *Queue[W]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.awaitIdle()
}

// Closed reports whether Close was called. Queued writes may still be uncommitted.
func (q *Queue[W]) Closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Pending returns the number of queued calls of Do that are in no batch yet.
func (q *Queue[W]) Pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending)
}

// Hold waits until the queue is idle. Writes that join after that are not committed before resume
// is called, as if a slow commit were running. It is meant for tests. resume must be called once.
func (q *Queue[W]) Hold() (resume func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.awaitIdle()
	q.leaderActive = true
	return func() {
		next, mustLinger, batchNo := q.finishBatch(0)
		if next != nil {
			next.done <- becomeLeader
		}
		if mustLinger {
			go q.linger(batchNo, 0)
		}
	}
}

// awaitIdle waits until no batch runs and none is queued. The caller must hold mu, which is
// released while it waits.
func (q *Queue[W]) awaitIdle() {
	for q.leaderActive || len(q.pending) > 0 {
		q.idle.Wait()
	}
}
