package projection

import (
	"errors"
	"runtime"
	"sync"
)

// hashed is an entry with the hash of its key.
type hashed[K key, V any] struct {
	hash uint64
	entry[K, V]
}

// build makes a trie of the entries, whose keys must all be different. It reorders the entries, and
// builds the subtries in parallel.
func build[K key, V any](entries []hashed[K, V]) trie[K, V] {
	t := trie[K, V]{size: len(entries)}
	t.root = t.buildNode(entries, 0)
	return t
}

// buildNode returns a node with the entries, whose hashes must be equal in the lowest bits.
func (t *trie[K, V]) buildNode(entries []hashed[K, V], bits int) *node[K, V] {
	switch {
	case len(entries) == 0:
		return nil
	case len(entries) <= leafSize || bits+fanoutBits > hashBits:
		n := &node[K, V]{owner: t.owner, entries: make([]entry[K, V], len(entries))}
		for i := range entries {
			n.entries[i] = entries[i].entry
		}
		return n
	}
	parts := partition(entries, bits)
	n := &node[K, V]{owner: t.owner, next: new([fanout]*node[K, V])}
	forEach(fanout, bits == 0, func(i int) { n.next[i] = t.buildNode(parts[i], bits+fanoutBits) })
	return n
}

// partition sorts the entries in place by the next fanoutBits bits of their hashes. It returns the
// entries for each value of these bits.
func partition[K key, V any](entries []hashed[K, V], bits int) (parts [fanout][]hashed[K, V]) {
	var sizes, next [fanout]int // next[i] is the index for the next entry of part i
	for i := range entries {
		sizes[entries[i].hash>>bits%fanout]++
	}
	begin := 0
	for i, size := range sizes {
		next[i] = begin
		parts[i] = entries[begin : begin+size]
		begin += size
	}
	end := 0
	for i, size := range sizes {
		for end += size; next[i] < end; {
			e := &entries[next[i]]
			to := &next[e.hash>>bits%fanout]
			*e, entries[*to] = entries[*to], *e
			*to++
		}
	}
	return parts
}

// forEach calls f for each number below n, either in parallel on all CPUs or one after another.
func forEach(n int, parallel bool, f func(i int)) {
	if !parallel {
		for i := range n {
			f(i)
		}
		return
	}
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

// Extend applies the events of several migrations up to event lastSeq. No event up to lastSeq may
// be lost. eventsOf must call apply for each event of migration i, in the order of their seqs. The
// caller must also call RaiseEpoch with the highest epoch of the events.
// Extend calls eventsOf concurrently. If eventsOf returns an error, Extend returns that error and
// leaves the view unchanged.
func (v *View) Extend(lastSeq uint64, migrations int, eventsOf func(i int, apply func(seq, prevSeq uint64, c Change)) error) error {
	states, errs := make([]*state, migrations), make([]error, migrations)
	forRuns(migrations, func(begin, end int) {
		for i := begin; i < end; i++ {
			s := &states[i]
			errs[i] = eventsOf(i, func(seq, prevSeq uint64, c Change) {
				if *s == nil {
					*s = v.find(c.Migration())
				}
				*s = c.follow(*s, seq, prevSeq, false)
			})
		}
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if v.rows.size+v.rowless.size == 0 {
		built := viewOf(states, lastSeq)
		built.RaiseEpoch(v.epoch)
		*v = *built
		return nil
	}
	for _, s := range states {
		v.put(v.find(s.Checkpoint.MigrationID), s)
	}
	v.lastSeq = lastSeq
	return nil
}

// viewOf returns the view with these states after event lastSeq. Each state must belong to a
// different migration.
func viewOf(states []*state, lastSeq uint64) *View {
	rows := make([]hashed[idKey, *state], 0, len(states))
	v := New()
	v.lastSeq = lastSeq
	for _, s := range states {
		key := idKey(s.Checkpoint.MigrationID)
		switch s.status {
		case ended:
			continue
		case noCheckpoint:
			v.rowless.set(key, s)
			continue
		}
		rows = append(rows, hashed[idKey, *state]{entry: entry[idKey, *state]{key, s}})
	}
	shards := make([]hashed[shardKey, struct{}], len(rows))
	forRuns(len(rows), func(begin, end int) {
		for i := begin; i < end; i++ {
			r := &rows[i]
			r.hash = r.key.hash()
			shards[i].key = shardKey{r.value.shard(), r.key}
			shards[i].hash = shardHash(r.value.shard()) | r.hash<<shardBits
		}
	})
	v.rows, v.shards = build(rows), build(shards)
	return v
}

// forRuns divides the numbers below n into runs of rowsPerRun, the last of which may be shorter. It
// calls f for the runs in parallel.
func forRuns(n int, f func(begin, end int)) {
	forEach((n+rowsPerRun-1)/rowsPerRun, true, func(i int) { f(i*rowsPerRun, min((i+1)*rowsPerRun, n)) })
}
