package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
)

// quantiles are the quantiles of the latency that are reported, by metric.
var quantiles = []struct {
	metric string
	part   float64
}{
	{"p0_us", 0}, {"p10_us", .1}, {"p25_us", .25}, {"p50_us", .5}, {"p75_us", .75}, {"p90_us", .9}, {"p95_us", .95},
	{"p99_us", .99}, {"p99_5_us", .995}, {"p99_9_us", .999}, {"p99_95_us", .9995}, {"p99_99_us", .9999}, {"max_us", 1},
}

// writer drives its own migrations. If the peer takes bytes, the writer encodes each event before
// the op's time begins. If the peer takes events, the op includes the encoding.
type writer struct {
	events    *eventgen.Generator
	latencies []time.Duration
}

func newWriters(t task) []*writer {
	writers := make([]*writer, t.Writers)
	for i := range writers {
		writers[i] = &writer{
			events:    eventgen.New(t.Seed+uint64(i)<<32, max(4, t.Rows/t.Writers)),
			latencies: make([]time.Duration, 0, 1<<18/t.Writers),
		}
	}
	return writers
}

func (w *writer) step(p peer.Peer, s peer.Store) error {
	op, err := w.events.Next()
	if err != nil {
		return err
	}
	if err := p.Prepare(&op); err != nil {
		return err
	}
	began := time.Now()
	err = s.Apply(&op)
	w.latencies = append(w.latencies, time.Since(began))
	return err
}

// measureUpsert lets many writers upsert for the task's duration. Then it opens the store again and
// returns an error if a row is missing.
func measureUpsert(t task) (values, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	writers := newWriters(t)
	if err := importBeginnings(p, t, writers); err != nil {
		return nil, err
	}
	s, err := p.Open(t.Dir, peer.Options{Writers: t.Writers, ExpectedEvents: t.DurationMS * min(1000, 50*t.Writers)})
	if err != nil {
		return nil, err
	}
	runtime.GC()
	cpu := cpuTime()
	elapsed, err := drive(p, s, writers, time.Duration(t.DurationMS)*time.Millisecond)
	cpu = cpuTime() - cpu
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	found := summarize(writers, elapsed, cpu)
	return found, checkRows(p, t.Dir, writers)
}

// importBeginnings begins all migrations, so that the measured upserts overwrite rows.
func importBeginnings(p peer.Peer, t task, writers []*writer) error {
	which, left := 0, t.Writers*max(4, t.Rows/t.Writers)
	return p.Import(t.Dir, func() (op eventgen.Op, more bool, err error) {
		if left == 0 {
			return op, false, nil
		}
		left--
		which = (which + 1) % len(writers)
		op, err = writers[which].events.Next()
		return op, true, err
	}, nil)
}

// drive lets all writers write until the duration is over. It returns the elapsed time, which
// includes the last ops.
func drive(p peer.Peer, s peer.Store, writers []*writer, duration time.Duration) (time.Duration, error) {
	var done sync.WaitGroup
	failures := make([]error, len(writers))
	began := time.Now()
	for i, w := range writers {
		done.Go(func() {
			for time.Since(began) < duration && failures[i] == nil {
				failures[i] = w.step(p, s)
			}
		})
	}
	done.Wait()
	return time.Since(began), errors.Join(failures...)
}

// cpuTime returns the CPU time of this process so far, in user and in kernel mode.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails only for invalid arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func summarize(writers []*writer, elapsed, cpu time.Duration) values {
	var all []time.Duration
	for _, w := range writers {
		all = append(all, w.latencies...)
	}
	slices.Sort(all)
	found := values{
		"ops_per_s":     float64(len(all)) / elapsed.Seconds(),
		"cpu_us_per_op": float64(cpu.Nanoseconds()) / 1e3 / float64(len(all)),
	}
	for _, q := range quantiles {
		found[q.metric] = float64(percentile(all, q.part)) / 1e3
	}
	return found
}

// checkRows opens the store again and returns an error if it has not all rows.
func checkRows(p peer.Peer, dir string, writers []*writer) error {
	want := 0
	for _, w := range writers {
		want += w.events.Live()
	}
	s, err := p.Open(dir, peer.Options{Bulk: true})
	if err != nil {
		return err
	}
	_, got, err := s.Load()
	if err == nil && got != want {
		err = fmt.Errorf("%s has %d rows after %d were acknowledged: its figures do not count", p.Name, got, want)
	}
	return errors.Join(err, s.Close())
}

// writeOn writes durably until the process is killed.
func writeOn(t task) (values, error) {
	p, s, err := t.open()
	if err != nil {
		return nil, err
	}
	w := &writer{events: eventgen.New(t.Seed, 1)}
	for n := 1; ; n++ {
		if err := w.step(p, s); err != nil {
			return nil, err
		}
		reportProgress(n)
	}
}
