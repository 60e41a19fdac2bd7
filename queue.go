package migrationlog

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// queue holds the writes that wait. One of the callers of a batch decides it, with one
// append and one sync for all, while the next batch gathers.
//
// The callers of a batch are about to write again when they are woken. So the next one
// begins when as many wait as there may soon be, and the last to come decides, with no
// switch to another goroutine. Where fewer come, it is begun for those by outwait; where
// that happens again and again, as the callers have other things to do, few batches wait.
type queue struct {
	mu       sync.Mutex
	waiting  []*write
	spare    []*write // a batch's memory
	busy     bool     // a batch is being decided, or somebody has been told to
	round    uint64   // the batches so far
	around   int      // how many writers there were of late
	expected int      // how many writes the next is to wait for
	missed   int      // how often they did not come, since they last did
	hurried  int      // so many batches wait for nobody
	closed   bool
	rests    sync.Cond // nothing is decided, and nothing waits
}

// join queues a write. It returns the batch that its caller is to decide, nil if that
// is for another to do.
func (q *queue) join(w *write) (batch []*write, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	q.waiting = append(q.waiting, w)
	if q.busy || len(q.waiting) < q.expected {
		return nil, nil
	}
	if q.expected > 1 {
		q.learn(true)
	}
	if first := q.waiting[0]; w.next != nil && w != first { // others with many writes may be before it
		q.busy = true
		first.told <- leading
		return nil, nil
	}
	return q.begin(), nil
}

// take returns the batch of a caller who was told to decide.
func (q *queue) take() (batch []*write) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.begin()
}

// begin takes what waits, but of calls with many writes only the first: the others would make
// single writes wait for all of theirs.
func (q *queue) begin() (batch []*write) {
	batch = q.waiting
	q.waiting, q.spare = q.spare, nil
	q.busy = true
	q.round++
	many := 0
	return slices.DeleteFunc(batch, func(w *write) bool {
		if w.next == nil {
			return false
		}
		if many++; many > 1 {
			q.waiting = append(q.waiting, w)
		}
		return many > 1
	})
}

// end ends the turn of a batch of so many, whose callers are woken next. It returns the
// write whose caller is to decide the next batch, or else whether, and for which
// round, that has to be outwaited.
func (q *queue) end(decided int) (next *write, gathers bool, round uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	present := decided + len(q.waiting)
	q.around = max(present, q.around-q.around/16)
	if q.expected = min(present, worthWaiting); q.around/2 > worthWaiting {
		q.expected = q.around / 2
	}
	if q.hurried > 0 {
		q.hurried--
		q.expected = 1
	}
	next = q.pass(q.expected)
	gathers = next == nil && q.expected > 1
	return next, gathers, q.round
}

// learn notes whether those that a batch waited for came, or most of them.
func (q *queue) learn(came bool) {
	q.missed++
	if came {
		q.missed = 0
	}
	if q.missed > 1 {
		q.hurried = 1 << min(q.missed, 8)
	}
}

// pass returns the write whose caller is to decide, if enough wait.
func (q *queue) pass(enough int) (next *write) {
	q.busy = len(q.waiting) > 0 && len(q.waiting) >= enough
	if q.busy {
		return q.waiting[0]
	}
	if len(q.waiting) == 0 {
		q.rests.Broadcast()
	}
	return nil
}

// outwait waits for the batch after that round, as long as more writes come, but not for longer
// than the batch before it took: who comes later may as well go with one more. Then it
// returns the write whose caller is to decide those that have come, nil if there is none or
// the batch has begun.
func (q *queue) outwait(round uint64, took time.Duration) (next *write) {
	patience := min(took, soon)
	began := time.Now()
	since, seen := began, 0
	for {
		runtime.Gosched()
		n, begun := q.gathered(round)
		if begun {
			return nil
		}
		if n > seen {
			seen, since = n, time.Now()
		}
		if time.Since(began) > patience || time.Since(since) > patience/2 {
			return q.hurry(round)
		}
	}
}

const (
	// worthWaiting is how many writers are waited for. Where there are more than twice as
	// many it is half of them: the one half gets its writes ready while the device is busy
	// with the other's.
	worthWaiting = 64
	// soon is when callers have come that have nothing else to do, also where a core has
	// to wake for them. However long a sync takes, there is nobody to wait for after that.
	soon = 500 * time.Microsecond
)

// gathered returns how many wait for the batch after that round, and whether it has begun.
func (q *queue) gathered(round uint64) (n int, begun bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.busy || q.round != round
}

// hurry ends the waiting for the batch after that round.
func (q *queue) hurry(round uint64) (next *write) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy || q.round != round {
		return nil
	}
	q.learn(len(q.waiting) > q.expected/2)
	q.expected = 1
	return q.pass(1)
}

// giveBack takes a batch's memory when its writes are their callers' again.
func (q *queue) giveBack(batch []*write) {
	clear(batch)
	q.mu.Lock()
	q.spare = batch[:0]
	q.mu.Unlock()
}

// close ends the queue and waits until all in it are decided.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.busy || len(q.waiting) > 0 {
		q.rests.Wait()
	}
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}
