package groupcommit

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// queueWith returns a queue that has the given number of pending writes and expects more.
func queueWith(pending, expected int) *Queue[*write] {
	q := New(new(recorder).commit)
	q.expected = expected
	for range pending {
		w := new(write)
		w.prepare(false)
		q.pending = append(q.pending, w)
	}
	return q
}

// If at most half of the expected writers arrive, and this happens twice, the next batches start
// without a delay. If more of them arrive, the next batches wait as before.
func TestLinger_SkipsTheDelayAfterMisses(t *testing.T) {
	for _, tc := range []struct {
		pending, expected int
		misses, skipDelay int // after linger gave up twice
	}{
		{1, 2, 2, 4},
		{1, 64, 2, 4},
		{32, 64, 2, 4},
		{33, 64, 0, 0},
		{63, 64, 0, 0},
	} {
		q := queueWith(tc.pending, tc.expected)
		first := q.pending[0]
		for range 2 {
			q.leaderActive, q.expected = false, tc.expected
			q.linger(0, 0)
			require.True(t, q.leaderActive)
			require.Len(t, first.done, 1, "the first caller leads")
			require.Equal(t, becomeLeader, <-first.done)
		}
		require.Equal(t, tc.misses, q.misses, "%+v", tc)
		require.Equal(t, tc.skipDelay, q.skipDelay, "%+v", tc)
	}
}

// After misses, skipDelay batches start without a delay. After them, the queue waits again for the
// number of recent writers.
func TestLinger_SkippedBatchesAreCounted(t *testing.T) {
	q := queueWith(1, 2)
	q.skipDelay = 4
	for range 4 {
		next, mustLinger, _ := q.finishBatch(5)
		require.Same(t, q.pending[0].call(), next)
		require.False(t, mustLinger)
		q.leaderActive = false
	}
	next, mustLinger, batchNo := q.finishBatch(5)
	require.Nil(t, next)
	require.True(t, mustLinger)
	require.Zero(t, batchNo)
	require.Equal(t, 6, q.expected)
}

// A batch waits for all writers, up to maxWaitedWriters. If there were more than twice as
// many recent writers, it waits for half of them. This continues for a while after they have
// stopped.
func TestLinger_ExpectedWriters(t *testing.T) {
	for _, tc := range []struct{ recent, writers, expected int }{
		{0, 1, 1},
		{0, 64, 64},
		{0, 65, 64},
		{0, 129, 64},
		{0, 130, 65},
		{0, 256, 128},
		{256, 1, 120},
		{138, 1, 65},
		{137, 1, 1},
	} {
		q := queueWith(0, 0)
		q.recentWriters = tc.recent
		q.expect(tc.writers)
		require.Equal(t, tc.expected, q.expected, "%+v", tc)
	}
}

// linger wakes no caller if the next batch has already started.
func TestLinger_AfterTheBatchStarted(t *testing.T) {
	for name, start := range map[string]func(q *Queue[*write]){
		"its leader is active":     func(q *Queue[*write]) { q.leaderActive = true },
		"it was committed already": func(q *Queue[*write]) { q.batchNo++ },
	} {
		q := queueWith(1, 2)
		start(q)
		_, started := q.pendingAfter(0)
		require.True(t, started, name)
		q.linger(0, time.Hour)
		require.Empty(t, q.pending[0].done, name)
		require.Nil(t, q.stopLingering(0), name)
		require.Zero(t, q.misses, name)
	}
}

// If no write is queued, the queue is idle after linger. The next write does not wait.
func TestLinger_NoWriteArrives(t *testing.T) {
	q := queueWith(0, 2)
	q.linger(0, 0)
	require.False(t, q.leaderActive)
	require.NoError(t, q.Do(new(write), false))
	q.Close()
}

// D1: a write that waits for other writers is acknowledged soon even on a busy machine. There,
// linger gets the CPU only between the long time slices of other goroutines.
func TestD1_WaitingOnABusyMachine(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	stop := make(chan struct{})
	var turns atomic.Int32
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			turns.Add(1)
			for start := time.Now(); time.Since(start) < time.Millisecond; {
			}
			runtime.Gosched()
		}
	}()
	runtime.Gosched()
	queueWith(1, 2).linger(0, time.Second)
	close(stop)
	require.Less(t, turns.Load(), int32(20), "number of 1 ms time slices of the other goroutine")
}
