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
// batch for all of them. The others are its followers. Meanwhile the writes of the next
// batch are queued. All methods are safe for concurrent use.
//
// The queue does adaptive group commit. The callers of a batch usually write again when they are
// woken. The next batch therefore starts once the queue holds one write from each expected writer.
// If no batch is running at that moment, the caller of the last write leads the batch, which saves
// a goroutine switch. In the other cases the first queued caller leads. If fewer writers arrive,
// linger starts the batch after a bounded delay. If at most half of the expected writes arrived for
// several batches in a row, the next batches start without a delay.
type Queue[W Write] struct {
	commit func(batch []W) (afterWake func())

	mu            sync.Mutex
	idle          sync.Cond // signalled when no batch runs and no write is queued
	closed        bool
	leaderActive  bool   // a batch is being committed, or the next leader was chosen and will start one
	pending       []W    // the writes for the next batches, in the order in which they joined
	spare         []W    // memory of an earlier batch, for reuse
	batchNo       uint64 // batches started so far
	running       runningBatch
	recentWriters int // decaying maximum of the number of concurrent writers
	expected      int // the next batch starts without a delay if it has this many writes
	misses        int // consecutive batches for which at most half of the expected writes arrived
	skipDelay     int // number of next batches that start without a delay
}

// runningBatch is the batch that is being committed. It is zero if there is none.
type runningBatch struct {
	started time.Time
	oldest  time.Time     // time at which its oldest write was queued
	ended   chan struct{} // closed when the batch ends; nil if nobody asked for it
}

// New returns a queue whose leaders call commit with each batch. Calls of commit never overlap.
// A batch has at least one write. The slice is valid until commit returns.
//
// commit owns the writes of the batch until it returns. It stores the result of each write in that
// write. If commit returns a function, the leader calls this function after it has woken the
// followers. The function may call Close. commit must not call Close.
func New[W Write](commit func(batch []W) (afterWake func())) *Queue[W] {
	q := &Queue[W]{commit: commit}
	q.idle.L = &q.mu
	return q
}

// Do queues a write, and returns after a batch with the write was committed. It returns ErrClosed
// if the queue is closed. The caller must not access the write in the meantime.
//
// chain must be true if w is the first of a chain: a list of writes of one caller that are queued
// as one. The queue counts a chain as one write. A batch has at most one chain, because a chain
// delays all other writes of its batch.
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

// lead commits a batch and wakes the followers. If the queue already has the expected number of
// writes, lead wakes the leader of the next batch before the followers.
//
// Otherwise lead starts the linger goroutine just before it wakes the last follower. The Go
// scheduler usually runs the last woken goroutine at once, which is that follower. The other
// followers and then linger run in the order in which they became ready. When linger runs, the
// followers have therefore usually queued their next writes. If the last write of the batch is the
// leader's own, linger may run before the followers, but it yields to them before it counts the
// writes.
func (q *Queue[W]) lead(batch []W, own *Call) {
	started := q.running.started // only the leader, which is this goroutine, changes it
	afterWake := q.commit(batch)
	commitTime := time.Since(started)
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

// join queues a write. If its caller must lead a batch now, join returns that batch. Otherwise it
// returns nil.
func (q *Queue[W]) join(w W) (batch []W, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	// The first pending write is always the oldest one. It joined when no write was pending, or it
	// is a chain that startBatch left for a later batch. Only these need the time.
	own, now := w.call(), time.Time{}
	if len(q.pending) == 0 || own.chain {
		now = time.Now()
		own.queuedAt = now
	}
	q.pending = append(q.pending, w)
	if q.leaderActive || len(q.pending) < q.expected { //mutant:one-leader
		return nil, nil
	}
	if q.expected > 1 {
		q.recordArrival(true)
	}
	// If another chain is queued before this one, startBatch leaves this chain for a later batch,
	// so its caller cannot lead the next batch. The caller of a chain therefore leads only if its
	// chain is the first queued write. Otherwise the first queued caller leads.
	if first := q.pending[0].call(); own.chain && own != first {
		q.leaderActive = true
		first.done <- becomeLeader
		return nil, nil
	}
	if now.IsZero() {
		now = time.Now()
	}
	return q.startBatch(now), nil
}

// take returns the batch for a caller that received becomeLeader.
func (q *Queue[W]) take() (batch []W) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.startBatch(time.Now())
}

// maxChains is the maximum number of chains in a batch. If it was higher, a single write would wait
// for the writes of several chains.
const maxChains = 1 //mutant:one-chain

// startBatch takes the pending writes as a batch. It takes only the first chain, and leaves the
// other chains for later batches. The caller must hold mu.
func (q *Queue[W]) startBatch(now time.Time) (batch []W) {
	batch = q.pending
	q.running = runningBatch{started: now, oldest: batch[0].call().queuedAt}
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
// Otherwise it reports whether linger must wait for more writes. batchNo is the batch that ended.
func (q *Queue[W]) finishBatch(n int) (next *Call, mustLinger bool, batchNo uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running.ended != nil {
		close(q.running.ended)
	}
	q.running = runningBatch{}
	q.expect(n + len(q.pending))
	next = q.nextLeader(q.expected)
	mustLinger = next == nil && q.expected > 1
	return next, mustLinger, q.batchNo
}

// nextLeader returns the first pending call if at least target writes are pending, and otherwise
// nil. It sets leaderActive accordingly, and signals idle if no write is pending. The caller of
// nextLeader must hold mu, and must then send becomeLeader to the returned call.
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

// recycle keeps the memory of a batch for a later batch.
func (q *Queue[W]) recycle(batch []W) {
	clear(batch)
	q.mu.Lock()
	q.spare = batch[:0]
	q.mu.Unlock()
}

// Close closes the queue: later calls of Do return ErrClosed. Close returns after all queued writes
// were committed. It may be called more than once.
func (q *Queue[W]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.awaitIdle()
}

// Closed reports whether Close was called. Some queued writes may not be committed yet.
func (q *Queue[W]) Closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Pending returns the number of queued calls of Do whose batch has not started yet.
func (q *Queue[W]) Pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending)
}

// Running returns the start of the batch that is being committed, and a channel that is closed when
// the batch ends. If no batch is being committed, started is zero and ended is nil.
func (q *Queue[W]) Running() (started time.Time, ended <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.running.started.IsZero() && q.running.ended == nil {
		q.running.ended = make(chan struct{})
	}
	return q.running.started, q.running.ended
}

// OldestSince returns the time at which the oldest write was queued that is still pending or in the
// running batch. If there is none, it returns the zero time.
func (q *Queue[W]) OldestSince() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.running.started.IsZero() {
		return q.running.oldest
	}
	if len(q.pending) > 0 {
		return q.pending[0].call().queuedAt
	}
	return time.Time{}
}

// Hold waits until the queue is idle and then stops it. Later writes stay queued until the caller
// calls resume, which must be called once. Tests use Hold to simulate a slow commit.
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

// awaitIdle waits until no batch runs and no write is queued. The caller must hold mu. awaitIdle
// releases mu while it waits.
func (q *Queue[W]) awaitIdle() {
	for q.leaderActive || len(q.pending) > 0 {
		q.idle.Wait()
	}
}
