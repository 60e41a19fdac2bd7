package groupcommit

import (
	"runtime"
	"time"
)

const (
	// A batch waits for at most maxWaitedWriters writers. If there were recently more than
	// 2*maxWaitedWriters writers, it waits for half of these writers instead. One half of the
	// writers then prepares its next writes while the batch of the other half is being committed.
	maxWaitedWriters = 64
	// maxLinger is the maximum time for which linger waits. It is enough for a caller that writes
	// again immediately, even if an idle core must wake up first. A slow commit is therefore no
	// reason to wait longer.
	maxLinger = 500 * time.Microsecond
)

// expect sets the number of writes for which the next batch waits. writers is the number of active
// writers: each of them has a write in the last batch or in the queue. The caller must hold mu.
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

// recordArrival records whether more than half of the expected writes of a batch arrived. If
// reached is false, they did not, and the batch is a miss. After two consecutive misses the next 4
// batches start without a delay and are not recorded. If the batch after these is a miss too, the
// next 8 start without a delay. Each further miss doubles this number, up to 256. The caller must
// hold mu.
func (q *Queue[W]) recordArrival(reached bool) {
	q.misses++
	if reached {
		q.misses = 0
	}
	if q.misses > 1 {
		q.skipDelay = 1 << min(q.misses, 8)
	}
}

// linger waits for more writes after batch batchNo, whose commit took commitTime. lingerBudget is
// commitTime, but at most maxLinger. linger stops waiting after lingerBudget, or earlier if no
// write arrived for half of lingerBudget. It then wakes the leader of the next batch. If no write
// is queued, or the next batch has already started, it wakes no one.
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
// has already started.
func (q *Queue[W]) pendingAfter(batchNo uint64) (n int, started bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending), q.leaderActive || q.batchNo != batchNo
}

// stopLingering ends the wait after batch batchNo. It returns the next leader, or nil if no write
// is queued or the next batch has already started.
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
