package groupcommit

import (
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// write is the type of the writes in the tests.
type write struct {
	Call
	id      int
	commits int // number of commits of this write; has the same owner as the write
}

// recorder is a commit function that records its batches.
type recorder struct {
	running atomic.Int32
	overlap atomic.Bool // two calls of commit ran at the same time
	batches [][]*write
}

func (r *recorder) commit(batch []*write) (afterWake func()) {
	if r.running.Add(1) > 1 {
		r.overlap.Store(true)
		return nil
	}
	runtime.Gosched() // if there is another leader, it now calls commit as well
	for _, w := range batch {
		w.commits++
	}
	r.batches = append(r.batches, append([]*write(nil), batch...))
	r.running.Add(-1)
	return nil
}

// ids returns the ids of the writes of each batch.
func (r *recorder) ids() (batches [][]int) {
	for _, batch := range r.batches {
		var ids []int
		for _, w := range batch {
			ids = append(ids, w.id)
		}
		batches = append(batches, ids)
	}
	return batches
}

// callers are goroutines that call Do.
type callers struct {
	t    *testing.T
	q    *Queue[*write]
	wait sync.WaitGroup
	next int // the id of the next write
}

// join starts a caller and returns when its write is queued after all earlier writes. The queue
// must not commit any of them in the meantime.
func (c *callers) join(chain bool) {
	w := &write{id: c.next}
	c.next++
	c.wait.Go(func() {
		if err := c.q.Do(w, chain); err != nil {
			c.t.Error(err)
		}
	})
	c.awaitPending(c.next)
}

func (c *callers) awaitPending(n int) {
	require.Eventually(c.t, func() bool { return c.q.Pending() == n }, time.Minute, 10*time.Microsecond)
}

// Every write is committed exactly once before Do returns, and only one leader is active at a time,
// for any number of writers. Under the race detector this test also shows that a write passes from
// its caller to the leader and back without a race.
func TestQueue_CommitsEveryWriteOnce(t *testing.T) {
	for _, writers := range []int{1, 2, 16, 200} {
		var r recorder
		q := New(r.commit)
		const writes = 8000
		var left atomic.Int32
		left.Store(writes)
		var wait sync.WaitGroup
		for n := range writers {
			wait.Go(func() {
				w := &write{id: n}
				for calls := 1; left.Add(-1) >= 0; calls++ {
					if err := q.Do(w, n%8 == 7); err != nil {
						t.Error(err)
					}
					if w.commits != calls {
						t.Errorf("write %d was committed %d times after %d calls", n, w.commits, calls)
						return
					}
				}
			})
		}
		wait.Wait()
		q.Close()
		require.False(t, r.overlap.Load(), "two leaders at a time, %d writers", writers)
		committed := 0
		for _, batch := range r.batches {
			require.NotEmpty(t, batch)
			committed += len(batch)
		}
		require.Equal(t, writes, committed, "%d writers", writers)
	}
}

// A batch has its writes in the order in which they joined.
func TestQueue_KeepsTheOrderOfJoining(t *testing.T) {
	var r recorder
	c := callers{t: t, q: New(r.commit)}
	resume := c.q.Hold()
	want := []int{}
	for id := range 50 {
		c.join(false)
		want = append(want, id)
	}
	resume()
	c.wait.Wait()
	require.Equal(t, [][]int{want}, r.ids())
}

// A batch has at most one chain, the first that joined. The other chains stay for later batches, in
// order, and do not delay single writes.
func TestQueue_OneChainPerBatch(t *testing.T) {
	var r recorder
	c := callers{t: t, q: New(r.commit)}
	resume := c.q.Hold()
	for _, chain := range []bool{true, false, true, true, false} {
		c.join(chain)
	}
	resume()
	c.wait.Wait()
	require.Equal(t, [][]int{{0, 1, 4}, {2}, {3}}, r.ids())
}

// If a chain is left for a later batch, single writes that join later are in the same batch, after
// the chain.
func TestQueue_LeftOverChainComesFirst(t *testing.T) {
	var r recorder
	q := New(r.commit)
	q.leaderActive = true
	call := func(chain bool) *write {
		w := &write{}
		w.prepare(chain)
		batch, err := q.join(w)
		require.NoError(t, err)
		require.Nil(t, batch)
		return w
	}
	first, second, single := call(true), call(true), call(false)
	require.Equal(t, []*write{first, single}, q.take())
	third, late := call(true), call(false)
	require.Equal(t, []*write{second, late}, q.take())
	require.Equal(t, []*write{third}, q.take())
	require.Empty(t, q.pending)
}

// If a chain completes a batch but is not part of it, because another chain joined earlier, the
// first caller leads.
func TestQueue_ChainThatCompletesAnothersBatch(t *testing.T) {
	q := New(new(recorder).commit)
	q.expected = 2
	first, second := new(write), new(write)
	for _, w := range []*write{first, second} {
		w.prepare(true)
		batch, err := q.join(w)
		require.NoError(t, err)
		require.Nil(t, batch)
	}
	require.Len(t, first.done, 1)
	require.Equal(t, becomeLeader, <-first.done)
	require.Empty(t, second.done)
	require.Equal(t, []*write{first}, q.take())
}

// The last of the expected writers leads the batch, without a switch to another goroutine.
func TestQueue_LastExpectedWriterLeads(t *testing.T) {
	q := New(new(recorder).commit)
	q.expected = 3
	for n := range 3 {
		w := new(write)
		w.prepare(false)
		batch, err := q.join(w)
		require.NoError(t, err)
		require.Len(t, batch, []int{0, 0, 3}[n])
	}
}

// closing calls Close in another goroutine, and returns when the queue refuses later writes. When
// Close has returned, the channel gets the number of writes that were committed by then.
func closing(t *testing.T, q *Queue[*write], committed *atomic.Int32) <-chan int32 {
	require.False(t, q.Closed())
	atReturn := make(chan int32, 1)
	go func() {
		q.Close()
		atReturn <- committed.Load()
	}()
	require.Eventually(t, q.Closed, time.Minute, 10*time.Microsecond)
	return atReturn
}

// Close returns after all queued writes were committed. Later calls of Do commit nothing.
func TestQueue_CloseWaitsForAll(t *testing.T) {
	var committed atomic.Int32
	started, proceed := make(chan struct{}), make(chan struct{})
	c := callers{t: t, q: New(func(batch []*write) func() {
		started <- struct{}{}
		<-proceed
		committed.Add(int32(len(batch)))
		return nil
	})}
	resume := c.q.Hold()
	for range 3 {
		c.join(true) // three batches
	}
	resume()
	<-started
	atReturn := closing(t, c.q, &committed)
	late := new(write)
	require.ErrorIs(t, c.q.Do(late, false), ErrClosed)
	for range 2 {
		proceed <- struct{}{}
		<-started
	}
	require.Zero(t, c.q.Pending(), "the last batch is running")
	require.Empty(t, atReturn)
	proceed <- struct{}{}
	require.EqualValues(t, 3, <-atReturn)
	c.wait.Wait()
	c.q.Close()
	require.ErrorIs(t, c.q.Do(late, false), ErrClosed)
}

// Close also waits for the running batch if no other write is queued.
func TestQueue_CloseWaitsForTheRunningBatch(t *testing.T) {
	var committed atomic.Int32
	started, proceed := make(chan struct{}), make(chan struct{})
	c := callers{t: t, q: New(func(batch []*write) func() {
		close(started)
		<-proceed
		committed.Add(int32(len(batch)))
		return nil
	})}
	c.wait.Go(func() {
		if err := c.q.Do(new(write), false); err != nil {
			t.Error(err)
		}
	})
	<-started
	atReturn := closing(t, c.q, &committed)
	require.Empty(t, atReturn)
	close(proceed)
	require.EqualValues(t, 1, <-atReturn)
	c.wait.Wait()
}

// Close also waits for a write that lingers for others while no batch runs.
func TestQueue_CloseWaitsForLinger(t *testing.T) {
	var committed atomic.Int32
	c := callers{t: t, q: New(func(batch []*write) func() {
		committed.Add(int32(len(batch)))
		return nil
	})}
	c.q.expected = 2
	c.join(false)
	atReturn := closing(t, c.q, &committed)
	require.Empty(t, atReturn)
	c.q.linger(0, 0)
	require.EqualValues(t, 1, <-atReturn)
	c.wait.Wait()
}

// The function that commit returns runs after the followers have been woken, and may close the
// queue.
func TestQueue_AfterMayClose(t *testing.T) {
	c := callers{t: t}
	closed := make(chan struct{})
	followers := make(chan struct{})
	c.q = New(func(batch []*write) func() {
		return func() {
			<-followers
			c.q.Close()
			close(closed)
		}
	})
	resume := c.q.Hold()
	var returned atomic.Int32
	for id := range 3 {
		go func() {
			if err := c.q.Do(&write{id: id}, false); err != nil {
				t.Error(err)
			}
			if returned.Add(1) == 2 {
				close(followers)
			}
		}()
	}
	c.awaitPending(3)
	resume()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("a function that closes the queue blocks forever")
	}
}

// Running and OldestSince return the times of the running batch. Both return at once while its
// commit blocks.
func TestQueue_TimesOfTheRunningBatch(t *testing.T) {
	started, proceed := make(chan struct{}), make(chan struct{})
	c := callers{t: t, q: New(func([]*write) func() {
		started <- struct{}{}
		<-proceed
		return nil
	})}
	requireIdle := func() {
		since, ended := c.q.Running()
		require.Zero(t, since)
		require.Nil(t, ended)
		require.Zero(t, c.q.OldestSince())
	}
	requireIdle()
	before := time.Now()
	c.wait.Go(func() {
		if err := c.q.Do(new(write), false); err != nil {
			t.Error(err)
		}
	})
	<-started
	since, ended := c.q.Running()
	require.WithinRange(t, since, before, time.Now())
	require.Equal(t, since, c.q.OldestSince(), "its only write led the batch at once")
	require.Empty(t, ended)
	c.awaitPending(0)
	for n := range 2 { // later writes are not older
		w := &write{id: n}
		c.wait.Go(func() {
			if err := c.q.Do(w, false); err != nil {
				t.Error(err)
			}
		})
		c.awaitPending(n + 1)
	}
	require.Equal(t, since, c.q.OldestSince())
	proceed <- struct{}{}
	<-ended

	<-started
	next, nextEnded := c.q.Running()
	require.True(t, next.After(since))
	require.True(t, c.q.OldestSince().After(since))
	require.False(t, c.q.OldestSince().After(next), "its writes were queued before it started")
	proceed <- struct{}{}
	<-nextEnded
	c.wait.Wait()
	requireIdle()
}

// The oldest write is the first one in the queue, also if it is a chain that an earlier batch left
// there.
func TestQueue_OldestPendingWrite(t *testing.T) {
	q := New(new(recorder).commit)
	q.leaderActive = true
	join := func(chain bool) (before, after time.Time) {
		w := new(write)
		w.queuedAt = time.Unix(1, 0) // left from an earlier use
		w.prepare(chain)
		before = time.Now()
		_, err := q.join(w)
		require.NoError(t, err)
		return before, time.Now()
	}
	before, after := join(false)
	join(true)
	secondBefore, secondAfter := join(true)
	join(false)
	require.WithinRange(t, q.OldestSince(), before, after)
	q.take()
	require.WithinRange(t, q.OldestSince(), before, after, "it is in the running batch")
	q.finishBatch(3)
	join(false)
	require.WithinRange(t, q.OldestSince(), secondBefore, secondAfter, "it is the chain")
}

// Do does not allocate memory for a write that is used again.
func TestQueue_Allocations(t *testing.T) {
	q, w := New(func([]*write) func() { return nil }), new(write)
	require.Zero(t, testing.AllocsPerRun(500, func() {
		if err := q.Do(w, false); err != nil {
			t.Error(err)
		}
	}))
}

// BenchmarkQueue measures the time per write for several numbers of writers. commit computes a
// checksum for each write, and may then sleep to simulate a device.
func BenchmarkQueue(b *testing.B) {
	for _, device := range []time.Duration{0, 100 * time.Microsecond} {
		for _, writers := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("device=%v/writers=%d", device, writers), func(b *testing.B) {
				var content [64]byte
				var sum uint32
				batches := 0
				q := New(func(batch []*write) func() {
					batches++
					for range batch {
						sum = crc32.Update(sum, crc32.IEEETable, content[:])
					}
					if device > 0 {
						time.Sleep(device)
					}
					return nil
				})
				var left atomic.Int64
				left.Store(int64(b.N))
				var wait sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range writers {
					wait.Go(func() {
						for w := new(write); left.Add(-1) >= 0; {
							if err := q.Do(w, false); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wait.Wait()
				b.StopTimer()
				q.Close()
				b.ReportMetric(float64(b.N)/float64(batches), "writes/batch")
			})
		}
	}
}
