package groupcommit

import (
	"runtime"
	"time"
)

const (
	// Up to twice maxWaitedWriters recent writers, a batch waits for at most maxWaitedWriters of
	// them. With more, it waits for half of them: one half prepares its writes while the other
	// half's batch is being committed.
	maxWaitedWriters = 64
	// maxLinger caps the wait. A caller with nothing else to do queues its next write within this
	// time even if an idle core must wake up first, however long a commit takes.
	maxLinger = 500 * time.Microsecond
)

// expect sets how many writes the next batch waits for. Writers is the size of the last batch plus
// the number of queued writes. The caller must hold mu.
func (q *Queue[W]) expect(writers int) {
	q.recentWriters = max(writers, q.recentWriters-q.recentWriters/16)
	q.expected = min(writers, maxWaitedWriters)
	if q.recentWriters/2 > maxWaitedWriters {
		q.expected = q.recentWriters / 2
	}
	if q.skipDelay > 0 {
		q.skipDelay--
		q.expected = 1
	}
}

// recordArrival records whether a batch reached its target, or most of it. After two misses the
// next 4 batches start without a delay. Each further miss doubles that, up to 256 batches.
// The caller must hold mu.
func (q *Queue[W]) recordArrival(reached bool) {
	q.misses++
	if reached {
		q.misses = 0
	}
	if q.misses > 1 {
		q.skipDelay = 1 << min(q.misses, 8)
	}
}

// linger waits for more writes after batch batchNo, whose commit took commitTime. It gives up
// after that time (at most maxLinger), or if no write arrived for half of it. Later writes join
// the following batch. It then wakes the next leader, unless the next batch already started or no write is queued.
func (q *Queue[W]) linger(batchNo uint64, commitTime time.Duration) {
	lingerBudget := min(commitTime, maxLinger)
	start := time.Now()
	lastArrival, seen := start, 0
	for {
		runtime.Gosched()
		n, started := q.pendingAfter(batchNo)
		if started {
			return
		}
		if n > seen {
			seen, lastArrival = n, time.Now()
		}
		if time.Since(start) > lingerBudget || time.Since(lastArrival) > lingerBudget/2 {
			break
		}
	}
	if next := q.stopLingering(batchNo); next != nil {
		next.done <- becomeLeader
	}
}

// pendingAfter returns how many writes are queued after batch batchNo, and whether the next batch
// already started.
func (q *Queue[W]) pendingAfter(batchNo uint64) (n int, started bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending), q.leaderActive || q.batchNo != batchNo
}

// stopLingering ends the wait after batch batchNo. It returns the next leader, or nil if no write
// is queued or the next batch already started.
func (q *Queue[W]) stopLingering(batchNo uint64) (next *Call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leaderActive || q.batchNo != batchNo {
		return nil
	}
	q.recordArrival(len(q.pending) > q.expected/2)
	q.expected = 1
	return q.nextLeader(1)
}
