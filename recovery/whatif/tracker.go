package whatif

import (
	"bytes"
	"math"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
)

// tracker keeps the decisions of recovery.Plan about rows that change one by one. A change of a row
// or of the time can change the decisions about that row and about its neighbors, which are the rows
// of the same vShard or the same peer. The tracker plans only these again.
type tracker struct {
	policy    recovery.Policy
	timeoutMS uint64
	nowMS     uint64
	rows      map[checkpoint.MigrationID]*tracked
	shards    map[uint32]set // the moving rows of a vShard
	peers     map[projection.Target]*peer
	fresh     heap // moving rows, by the time at which they become stale; the earliest first
	stale     heap // moving rows, by the same time; the latest first
	dirty     set  // the rows whose decisions may have changed
}

// tracked is a row with its decision. A row is replaced as a whole, so that an entry of a heap with
// a replaced row is recognized.
type tracked struct {
	row         projection.Row
	staleFromMS uint64              // the first time at which the row is stale; math.MaxUint64: never
	peers       []projection.Target // its targets, and the peers in the steps of its abort
	decision    recovery.Decision
	replaced    bool
}

// moving reports whether the decision about the row depends on the time or on other rows. A row at
// Complete only waits for its removal.
func (r *tracked) moving() bool {
	return r.row.Checkpoint.Phase() != checkpoint.PhaseComplete || r.row.Facts.Abort != nil
}

func (r *tracked) isStale(nowMS uint64) bool {
	return nowMS >= r.staleFromMS && r.staleFromMS != math.MaxUint64
}

type set map[*tracked]struct{}

// peer has the rows that use one peer of a group.
type peer struct {
	moving   set
	complete []*tracked // rows that are not moving, by their seq
}

func newTracker(policy recovery.Policy) *tracker {
	policy.UnnamedInDoubt = false // its decision has no row, see Walk.AskForMigrations
	return &tracker{
		policy: policy, timeoutMS: policy.AbortTimeoutMS(), rows: map[checkpoint.MigrationID]*tracked{},
		shards: map[uint32]set{}, peers: map[projection.Target]*peer{}, dirty: set{},
		fresh: heap{before: func(a, b uint64) bool { return a < b }}, stale: heap{before: func(a, b uint64) bool { return a > b }},
	}
}

// setRow replaces the migration's row.
func (t *tracker) setRow(row projection.Row) {
	t.removeRow(row.Checkpoint.MigrationID)
	r := &tracked{row: row, peers: peersOf(&row), staleFromMS: math.MaxUint64}
	if clockMS := row.Checkpoint.TimestampMS; clockMS < math.MaxUint64-t.timeoutMS {
		r.staleFromMS = clockMS + t.timeoutMS + 1
	}
	t.rows[row.Checkpoint.MigrationID] = r
	for _, target := range r.peers {
		p := t.peers[target]
		if p == nil {
			p = &peer{moving: set{}}
			t.peers[target] = p
		}
		if r.moving() {
			p.moving[r] = struct{}{}
		} else {
			i, _ := slices.BinarySearchFunc(p.complete, r.row.Seq, bySeq)
			p.complete = slices.Insert(p.complete, i, r)
		}
	}
	if r.moving() {
		shard := row.Checkpoint.Payload.Shard()
		if t.shards[shard] == nil {
			t.shards[shard] = set{}
		}
		t.shards[shard][r] = struct{}{}
		if r.isStale(t.nowMS) {
			t.stale.push(r)
		} else {
			t.fresh.push(r)
		}
	}
	t.changed(r)
}

// removeRow removes the migration's row, if it has one.
func (t *tracker) removeRow(id checkpoint.MigrationID) {
	r := t.rows[id]
	if r == nil {
		return
	}
	t.changed(r) //mutant:whatif-removed
	r.replaced = true
	delete(t.dirty, r)
	delete(t.rows, id)
	for _, target := range r.peers {
		p := t.peers[target]
		if r.moving() {
			delete(p.moving, r)
		} else if i, found := slices.BinarySearchFunc(p.complete, r.row.Seq, bySeq); found {
			p.complete = slices.Delete(p.complete, i, i+1)
		}
		if len(p.moving)+len(p.complete) == 0 {
			delete(t.peers, target)
		}
	}
	if shard := r.row.Checkpoint.Payload.Shard(); r.moving() {
		if delete(t.shards[shard], r); len(t.shards[shard]) == 0 {
			delete(t.shards, shard)
		}
	}
}

func bySeq(r *tracked, seq uint64) int {
	switch {
	case r.row.Seq < seq:
		return -1
	case r.row.Seq > seq:
		return 1
	}
	return 0
}

// peersOf returns the targets of the row, and the peers in the steps of its unfinished abort.
func peersOf(row *projection.Row) []projection.Target {
	facts := &row.Facts
	peers := slices.Clone(facts.Targets)
	if facts.HasTarget && len(peers) == 0 {
		peers = append(peers, projection.Target{GroupID: facts.SourceGroup, PeerID: facts.TargetNode})
	}
	if facts.Abort != nil {
		for _, c := range facts.Abort.Compensations {
			if target := (projection.Target{GroupID: c.GroupID, PeerID: c.PeerID}); !slices.Contains(peers, target) {
				peers = append(peers, target)
			}
		}
	}
	return peers
}

// setNow moves the time, which may go back.
func (t *tracker) setNow(nowMS uint64) {
	t.nowMS = nowMS
	for r := t.fresh.first(); r != nil && r.isStale(nowMS); r = t.fresh.first() {
		t.stale.push(t.fresh.pop())
		t.changed(r) //mutant:whatif-stale
	}
	for r := t.stale.first(); r != nil && !r.isStale(nowMS); r = t.stale.first() {
		t.fresh.push(t.stale.pop())
		t.changed(r) //mutant:whatif-fresh
	}
}

// nextStaleMS returns the next time at which a row becomes stale, or math.MaxUint64 if there is
// none.
func (t *tracker) nextStaleMS() uint64 {
	if r := t.fresh.first(); r != nil {
		return r.staleFromMS
	}
	return math.MaxUint64
}

// changed marks a row and its neighbors as dirty.
func (t *tracker) changed(r *tracked) {
	t.dirty[r] = struct{}{}
	for n := range t.neighbors(r) {
		if n.moving() { //mutant:whatif-neighbors
			t.dirty[n] = struct{}{}
		}
	}
}

// neighbors yields the rows on which the decision about a row may depend, or whose decisions may
// depend on it. A row can occur more than once.
func (t *tracker) neighbors(r *tracked) func(yield func(*tracked) bool) {
	return func(yield func(*tracked) bool) {
		if r.moving() {
			for n := range t.shards[r.row.Checkpoint.Payload.Shard()] {
				if n != r && !yield(n) {
					return
				}
			}
		}
		for _, target := range r.peers {
			p := t.peers[target]
			if p == nil {
				continue
			}
			for n := range p.moving {
				if n != r && !yield(n) {
					return
				}
			}
			// A row that was at Complete before the incarnation began does not use the peer any
			// more.
			for i := len(p.complete) - 1; r.moving() && i >= 0 && p.complete[i].row.Seq >= r.row.Facts.BeganSeq; i-- {
				if !yield(p.complete[i]) {
					return
				}
			}
		}
	}
}

// flush plans the dirty rows and calls visit for each decision that has changed, in the order of the
// migration ids.
func (t *tracker) flush(visit func(*recovery.Decision)) {
	if len(t.dirty) == 0 {
		return
	}
	needed := make(set, 2*len(t.dirty))
	for r := range t.dirty {
		needed[r] = struct{}{}
		for n := range t.neighbors(r) {
			needed[n] = struct{}{}
		}
	}
	rows := make([]projection.Row, 0, len(needed))
	for r := range needed {
		rows = append(rows, r.row)
	}
	decisions := recovery.Plan(rows, t.policy, t.nowMS)
	for i := range decisions {
		now := &decisions[i]
		r := t.rows[now.MigrationID()]
		if _, dirty := t.dirty[r]; !dirty {
			continue
		}
		before := r.decision
		r.decision = *now
		if !same(&before, now) {
			visit(now)
		}
	}
	clear(t.dirty)
}

// same reports whether two decisions about a row are the same, except for the time.
func same(a, b *recovery.Decision) bool {
	return a.Action == b.Action && a.Reason == b.Reason && a.Row.LastSeq == b.Row.LastSeq && a.Row.Seq == b.Row.Seq &&
		slices.Equal(a.Compensations, b.Compensations) && slices.EqualFunc(a.Asks, b.Asks, sameAsk)
}

func sameAsk(a, b recovery.Ask) bool {
	return a.Topic == b.Topic && a.Seq == b.Seq && a.Node == b.Node && a.GroupID == b.GroupID && a.PeerID == b.PeerID &&
		a.VShardID == b.VShardID && slices.Equal(a.Seen, b.Seen) && slices.Equal(a.SharedWith, b.SharedWith)
}

// decisions returns all decisions, in the order of the migration ids.
func (t *tracker) decisions() []recovery.Decision {
	all := make([]recovery.Decision, 0, len(t.rows))
	for _, r := range t.rows {
		all = append(all, r.decision)
	}
	slices.SortFunc(all, func(a, b recovery.Decision) int {
		idA, idB := a.MigrationID(), b.MigrationID()
		return bytes.Compare(idA[:], idB[:])
	})
	return all
}
