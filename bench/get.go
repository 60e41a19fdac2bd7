package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
)

// measureGet gets random rows while a writer upserts durably. Then it reads all rows without the
// writer.
func measureGet(t task) (found values, err error) {
	p, s, err := t.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	g, ok := s.(peer.Getter)
	if !ok {
		return nil, fmt.Errorf("%s serves no rows", p.Name)
	}
	ids, err := liveIDs(s, t.Seed)
	if err != nil {
		return nil, err
	}
	found, err = getBesideWriter(p, s, g, ids, t)
	if err != nil {
		return nil, err
	}
	var times []float64
	for range 5 {
		began := time.Now()
		n, err := g.All()
		times = append(times, ms(time.Since(began)))
		if err != nil || n < len(ids) {
			return nil, fmt.Errorf("%s: %d of %d rows: %w", p.Name, n, len(ids), err)
		}
	}
	found["all_ms"] = spreadOf(times).Median
	return found, nil
}

func getBesideWriter(p peer.Peer, s peer.Store, g peer.Getter, ids []peer.ID, t task) (values, error) {
	var stop atomic.Bool
	wrote := make(chan error)
	w := &writer{events: eventgen.New(t.Seed, 4)}
	go func() {
		var err error
		for err == nil && !stop.Load() {
			err = w.step(p, s)
		}
		wrote <- err
	}()
	runtime.GC()
	gets, mallocs, elapsed, err := getFor(g, ids, time.Duration(t.DurationMS)*time.Millisecond)
	stop.Store(true)
	if err := errors.Join(err, <-wrote); err != nil {
		return nil, err
	}
	return values{
		"get_ns":           float64(elapsed.Nanoseconds()) / float64(gets),
		"allocs_per_get":   float64(mallocs) / float64(gets), // includes the writer's
		"writer_ops_per_s": float64(len(w.latencies)) / elapsed.Seconds(),
	}, nil
}

// getFor gets rows one after another until the duration is over.
func getFor(g peer.Getter, ids []peer.ID, duration time.Duration) (gets int, mallocs uint64, elapsed time.Duration, err error) {
	var before, after runtime.MemStats
	buf := make([]byte, 0, 1024)
	runtime.ReadMemStats(&before)
	began := time.Now()
	for elapsed = 0; elapsed < duration; elapsed = time.Since(began) {
		for range 64 {
			id := ids[gets%len(ids)]
			_, found, err := g.Get(id, buf[:0])
			if err != nil || !found {
				return 0, 0, 0, fmt.Errorf("get %s: found %v: %w", id, found, err)
			}
			gets++
		}
	}
	runtime.ReadMemStats(&after)
	return gets, after.Mallocs - before.Mallocs, elapsed, nil
}
