package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
	"migrationlog/checkpoint"
)

// history is a directory with events that several steps read.
type history struct {
	contender    contender
	events, rows int
	unended      bool // no migration has ended: see eventgen.Generator.NextUnended
	made         bool
}

func (h *history) name() string {
	kind := "ended"
	if h.unended {
		kind = "unended"
	}
	peer := regexp.MustCompile(`\W+`).ReplaceAllString(h.contender.name, "-")
	return fmt.Sprintf("history-%s-%s-%d-%d", peer, kind, h.events, h.rows)
}

// seed returns the seed of the history's events. All peers get the same events, even if a run
// measures other peers, or in another order.
func (h *history) seed(runSeed uint64) uint64 {
	hash := fnv.New64a()
	fmt.Fprintln(hash, runSeed, h.events, h.rows, h.unended)
	return hash.Sum64()
}

// source returns the history's events for Peer.Import.
func (t task) source() func() (eventgen.Op, bool, error) {
	g, left := eventgen.New(t.Seed, t.Rows), t.Events
	next := g.Next
	if t.Unended {
		next = g.NextUnended
	}
	return limited(next, left)
}

// limited yields the first events of a sequence, up to that number.
func limited(next func() (eventgen.Op, error), events int) func() (eventgen.Op, bool, error) {
	return func() (eventgen.Op, bool, error) {
		if events == 0 {
			return eventgen.Op{}, false, nil
		}
		events--
		op, err := next()
		return op, true, err
	}
}

// subject is the migration whose events the history workload reads.
type subject struct {
	id     peer.ID
	events int
}

// chooseSubject returns a migration of the history with that seed and size, and the number of its
// events. The seed picks it from the migrations that have a row at the end and have reached
// Complete, so that it has a long history. If there is none, the seed picks it from all migrations
// that have a row.
func chooseSubject(seed uint64, events, rows int) (subject, error) {
	type state struct {
		events   int
		complete bool
	}
	live := map[peer.ID]state{}
	next := task{Seed: seed, Events: events, Rows: rows}.source()
	for {
		op, more, err := next()
		if err != nil {
			return subject{}, err
		}
		if !more {
			break
		}
		if op.Ends {
			delete(live, op.ID)
			continue
		}
		phase := op.Event.(checkpoint.Upserted).Checkpoint.Phase()
		live[op.ID] = state{live[op.ID].events + 1, phase == checkpoint.PhaseComplete}
	}
	ids := slices.SortedFunc(maps.Keys(live), compareIDs)
	complete := slices.DeleteFunc(slices.Clone(ids), func(id peer.ID) bool { return !live[id].complete })
	if len(complete) > 0 {
		ids = complete
	}
	if len(ids) == 0 {
		return subject{}, errors.New("the history has no migration with a row")
	}
	id := ids[rand.New(rand.NewPCG(seed, 0)).IntN(len(ids))]
	return subject{id, live[id].events}, nil
}

func compareIDs(a, b peer.ID) int { return bytes.Compare(a[:], b[:]) }

// measureImport writes events as fast as the peer can. They are durable at the end.
func measureImport(t task) (values, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = p.Import(t.Dir, t.source(), nil)
	elapsed := time.Since(began)
	return values{"events_per_s": float64(t.Events) / elapsed.Seconds(), "import_ms": ms(elapsed)}, err
}

// makeHistory writes the events of a history that later tasks read.
func makeHistory(t task) (values, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	return values{}, p.Import(t.Dir, t.source(), reportProgress)
}

// measureDisk writes AddLearner events only, which are the longest.
func measureDisk(t task) (values, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return nil, err
	}
	if err := p.Import(t.Dir, limited(eventgen.New(t.Seed, t.Rows).NextAddLearner, t.Events), nil); err != nil {
		return nil, err
	}
	size, allocated, err := peer.DirBytes(t.Dir)
	return values{
		"size_bytes_per_event":      float64(size) / float64(t.Events),
		"allocated_bytes_per_event": float64(allocated) / float64(t.Events),
	}, err
}

// measureHistory reads all events of the task's migration from the files. It returns an error if
// their number is not the expected one.
func measureHistory(t task) (found values, err error) {
	p, s, err := t.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	h, ok := s.(peer.Historian)
	if !ok {
		return nil, fmt.Errorf("%s keeps no history", p.Name)
	}
	began := time.Now()
	events, err := h.History(t.Migration)
	elapsed := time.Since(began)
	if err == nil && events != t.MigrationEvents {
		err = fmt.Errorf("%s has %d events of migration %s, expected %d", p.Name, events, t.Migration, t.MigrationEvents)
	}
	return values{"history_ms": ms(elapsed), "events_of_it": float64(events)}, err
}

// liveIDs returns the migrations that have a row, in an order that the seed determines.
func liveIDs(s peer.Store, seed uint64) ([]peer.ID, error) {
	rows, err := s.Rows()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("the store has no rows")
	}
	ids := slices.SortedFunc(maps.Keys(rows), compareIDs)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids, nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
