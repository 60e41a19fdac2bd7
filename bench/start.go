package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"migrationlog/bench/peer"
)

const mib = 1 << 20

// opening is one opening of a store, up to the moment when all live rows are in a Go map.
type opening struct {
	peer    peer.Peer
	store   peer.Store
	rows    any // keeps the map alive
	n       int // live rows
	elapsed time.Duration

	heapBeforeMiB, peakHeapMiB float64
}

// openAndLoad opens the task's store and loads all live rows. The caller closes the store.
func openAndLoad(t task) (o opening, err error) {
	if o.peer, err = peer.Named(t.Peer); err != nil {
		return o, err
	}
	runtime.GC()
	heap := watchHeap()
	began := time.Now()
	if o.store, err = o.peer.Open(t.Dir, peer.Options{Writers: 1}); err != nil {
		return o, err
	}
	o.rows, o.n, err = o.store.Load()
	o.elapsed = time.Since(began)
	o.heapBeforeMiB, o.peakHeapMiB = heap.beforeMiB, heap.stop()
	// A history may end between the removal of a migration and the beginning of the next one. Each
	// killed writer leaves at most one row of its own.
	if err == nil && (o.n < t.Rows-1 || o.n > t.Rows+100) {
		err = fmt.Errorf("%s has %d rows, expected %d", o.peer.Name, o.n, t.Rows)
	}
	if err != nil {
		err = errors.Join(err, o.store.Close())
	}
	return o, err
}

// measureStart measures an opening after a long history with few live rows.
func measureStart(t task) (found values, err error) {
	o, err := openAndLoad(t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.store.Close()) }()
	found = values{
		"start_ms":        ms(o.elapsed),
		"heap_before_mib": o.heapBeforeMiB, "peak_heap_mib": o.peakHeapMiB, "rows": float64(o.n),
	}
	if o.peer.Keeps != peer.KeepsRows && !t.Snapshot { // the others read no events
		found["events_per_s"] = float64(t.Events) / o.elapsed.Seconds()
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	found["heap_sys_mib"] = float64(memory.HeapSys) / mib
	found["peak_rss_mib"], err = peakRSSMiB()
	return found, err
}

// measureLoad measures an opening with many live rows, and the memory that they occupy afterwards.
func measureLoad(t task) (found values, err error) {
	before := liveHeapBytes()
	o, err := openAndLoad(t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.store.Close()) }()
	found = values{"load_ms": ms(o.elapsed), "peak_heap_mib": o.peakHeapMiB, "rows": float64(o.n)}
	if found["peak_rss_mib"], err = peakRSSMiB(); err != nil {
		return nil, err
	}
	held := liveHeapBytes() - before
	found["heap_mib"], found["heap_bytes_per_row"] = held/mib, held/float64(o.n)
	runtime.KeepAlive(o.rows)
	return found, nil
}

// liveHeapBytes returns the bytes of the Go heap that are reachable. It collects twice, because the
// first collection may leave objects that a finalizer or a sync.Pool still holds.
func liveHeapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return float64(memory.HeapAlloc)
}

// heapWatch samples the size of the Go heap every 500 µs. The size includes garbage that is not yet
// swept.
type heapWatch struct {
	beforeMiB float64
	peak      atomic.Uint64
	end       chan struct{}
	ended     chan struct{}
}

func watchHeap() *heapWatch {
	h := &heapWatch{end: make(chan struct{}), ended: make(chan struct{})}
	h.sample()
	h.beforeMiB = float64(h.peak.Load()) / mib
	go func() {
		defer close(h.ended)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.sample()
			case <-h.end:
				return
			}
		}
	}()
	return h
}

func (h *heapWatch) sample() {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	h.peak.Store(max(h.peak.Load(), sample[0].Value.Uint64()))
}

// stop ends the sampling and returns the peak.
func (h *heapWatch) stop() (peakMiB float64) {
	close(h.end)
	<-h.ended
	h.sample()
	return float64(h.peak.Load()) / mib
}

// peakRSSMiB returns the peak resident set size of this process, as Linux reports it.
func peakRSSMiB() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
