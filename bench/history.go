package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
)

// source yields a number of events of a number of migrations.
func source(next func() (eventgen.Op, error), events int) func() (eventgen.Op, bool, error) {
	return func() (eventgen.Op, bool, error) {
		if events == 0 {
			return eventgen.Op{}, false, nil
		}
		events--
		op, err := next()
		return op, true, err
	}
}

// measureImport writes events as fast as the peer can, durable at the end.
func measureImport(t task) (values, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = p.Import(t.Dir, source(eventgen.New(t.Seed, t.Rows).Next, t.Events), nil)
	elapsed := time.Since(began)
	return values{"events_per_s": float64(t.Events) / elapsed.Seconds(), "import_ms": ms(elapsed)}, err
}

// makeHistory is measureImport for what is to be read later.
func makeHistory(t task) (values, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	return values{}, p.Import(t.Dir, source(eventgen.New(t.Seed, t.Rows).Next, t.Events), tellProgress)
}

// measureDisk writes AddLearner events only, the longest.
func measureDisk(t task) (values, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	if err := p.Import(t.Dir, source(eventgen.New(t.Seed, t.Rows).NextAddLearner, t.Events), nil); err != nil {
		return nil, err
	}
	size, allocated, err := peer.DirBytes(t.Dir)
	return values{
		"size_bytes_per_event":      float64(size) / float64(t.Events),
		"allocated_bytes_per_event": float64(allocated) / float64(t.Events),
	}, err
}

// measureHistory reads all events of one migration from the files.
func measureHistory(t task) (found values, err error) {
	p, s, err := t.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ids, err := ids(s, t.Seed)
	if err != nil {
		return nil, err
	}
	h, ok := s.(peer.Historian)
	if !ok {
		return nil, fmt.Errorf("%s keeps no history", p.Name)
	}
	began := time.Now()
	events, err := h.History(ids[0])
	elapsed := time.Since(began)
	if err == nil && events == 0 {
		err = fmt.Errorf("%s has no history of %s, which has a row", p.Name, ids[0])
	}
	return values{"history_ms": ms(elapsed), "events_of_it": float64(events)}, err
}

// ids returns the migrations that have a row, in an order that the seed decides.
func ids(s peer.Store, seed uint64) ([]peer.ID, error) {
	rows, err := s.Rows()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("the store has no rows")
	}
	ids := make([]peer.ID, 0, len(rows))
	for id := range rows {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b peer.ID) int { return bytes.Compare(a[:], b[:]) })
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids, nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
