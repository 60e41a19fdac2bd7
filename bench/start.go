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

// measureStart opens a store and has all live rows in a Go map.
func measureStart(t task) (found values, err error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	runtime.GC()
	heap := watchHeap()
	began := time.Now()
	s, err := p.Open(t.Dir, peer.Options{Writers: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rows, err := s.Load()
	elapsed := time.Since(began)
	if err != nil {
		return nil, err
	}
	found = values{
		"start_ms":        ms(elapsed),
		"heap_before_mib": heap.beforeMiB, "peak_heap_mib": heap.stop(), "rows": float64(rows),
	}
	if p.Keeps != peer.KeepsRows && !t.Snapshot { // the others read no events
		found["events_per_s"] = float64(t.Events) / elapsed.Seconds()
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	found["heap_sys_mib"] = float64(memory.HeapSys) / mib
	found["peak_rss_mib"], err = peakRSSMiB()
	if err == nil && (rows < t.Rows-1 || rows > t.Rows+100) { // a writer that was killed has left some
		err = fmt.Errorf("%s has %d rows where there should be %d", p.Name, rows, t.Rows)
	}
	return found, err
}

// heapWatch looks often at how many bytes the Go heap holds, garbage that is not
// yet swept included.
type heapWatch struct {
	beforeMiB float64
	peak      atomic.Uint64
	end       chan struct{}
	ended     chan struct{}
}

func watchHeap() *heapWatch {
	h := &heapWatch{end: make(chan struct{}), ended: make(chan struct{})}
	h.look()
	h.beforeMiB = float64(h.peak.Load()) / mib
	go func() {
		defer close(h.ended)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.look()
			case <-h.end:
				return
			}
		}
	}()
	return h
}

func (h *heapWatch) look() {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	h.peak.Store(max(h.peak.Load(), sample[0].Value.Uint64()))
}

// stop returns the peak.
func (h *heapWatch) stop() (peakMiB float64) {
	close(h.end)
	<-h.ended
	h.look()
	return float64(h.peak.Load()) / mib
}

// peakRSSMiB is the most memory that the process has had, as Linux counts it.
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
