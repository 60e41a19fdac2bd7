package crashpoints

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/recovery/model"
)

// Planner makes decisions, as recovery.Plan does.
type Planner func(rows []projection.Row, policy recovery.Policy, nowMS uint64) []recovery.Decision

// maxTogether limits the work at one cut. If more rows have unrecorded effects, the effects of each
// row alone are not tried. Of more moments, only the first and the last are tried. Of the rows at
// Complete, only so many of each peer are planned, the newest ones.
const maxTogether = 8

// Walk follows a history event by event. After each event, it carries out the decisions about the
// migration and about all rows that are related to it, directly or through other rows. Two rows are
// related if they have the same vShard or the same peer, or if both are at LeadershipTransfer in
// one group. The decisions about all other rows have not changed since the event before. Use New.
//
// The log does not show the whole state of the cluster at a crash. The walk therefore tries several
// states. The effects after the furthest checkpoint that was recorded were carried out for no
// migration, for all of them, or for each one alone. The targets have left the cluster or not. The
// coordinator starts at once, or when one of the rows becomes stale. See maxTogether for the
// limits.
type Walk struct {
	plan      Planner
	policy    recovery.Policy
	timeoutMS uint64
	cluster   *model.Cluster
	rows      map[checkpoint.MigrationID]indexed
	shards    map[uint32]idSet            // the moving rows of a vShard
	peers     map[projection.Target]idSet // the moving rows that use a peer
	completed map[projection.Target][]seqID
	batch     projection.Batch
	restored  []checkpoint.MigrationID // the moving rows that were restored since the last cut
	// Cuts and Scenarios count the cuts and the executions of decisions so far.
	Cuts, Scenarios uint64
}

// leadership is the PeerID that stands for the leadership of a group. Two rows at
// LeadershipTransfer are related if their groups are the same, because only one of the two targets
// can lead.
const leadership = math.MaxUint64

type idSet map[checkpoint.MigrationID]struct{}

// seqID is a row at Complete.
type seqID struct {
	seq uint64
	id  checkpoint.MigrationID
}

// indexed is a row as the index has it.
type indexed struct {
	vshardID uint32
	seq      uint64
	moving   bool // not at Complete, or its abort has begun
	peers    []projection.Target
}

// New returns a walk at the start of a history. The members and the leaders of the policy are those
// of the model.
func New(policy recovery.Policy, plan Planner) *Walk {
	policy.UnnamedInDoubt = false // its decision has no row, so there is nothing to carry out
	return &Walk{
		plan: plan, policy: policy, timeoutMS: policy.AbortTimeoutMS(), cluster: model.New(),
		rows: map[checkpoint.MigrationID]indexed{}, shards: map[uint32]idSet{}, peers: map[projection.Target]idSet{},
		completed: map[projection.Target][]seqID{},
	}
}

// Event is an event of the history, with the view after it.
type Event struct {
	Seq         uint64
	ClockMS     uint64
	MigrationID checkpoint.MigrationID
	Event       checkpoint.Event // nil: of an unknown kind
	View        *projection.View
}

// Add cuts the history after an event, and returns the findings about this cut. The state between two
// restored rows never existed, so the first cut after them is about all of them. A digest changes no
// row.
func (w *Walk) Add(e Event) []Finding {
	switch e.Event.(type) {
	case checkpoint.Restored:
		if row, ok := e.View.Get(e.MigrationID); ok {
			w.observeRow(row)
			if w.index(e.View, e.MigrationID); w.rows[e.MigrationID].moving {
				w.restored = append(w.restored, e.MigrationID)
			}
		}
		return nil
	case checkpoint.Digest:
		if len(w.restored) == 0 {
			return nil
		}
		return w.cut(e, nil)
	}
	if e.Event != nil {
		w.cluster.Observe(e.Event)
	}
	affected := w.related(e.MigrationID)
	w.index(e.View, e.MigrationID)
	return w.cut(e, append(affected, e.MigrationID))
}

// cut checks the affected migrations, and the migrations that were restored since the last cut.
func (w *Walk) cut(e Event, affected []checkpoint.MigrationID) []Finding {
	w.Cuts++
	affected = append(affected, w.restored...)
	w.restored = nil
	return w.check(e, w.closure(affected))
}

// Replace takes all rows from the view, and does not cut the history. Call it after a snapshot was
// adopted, because then also rows of other migrations than that of the event have changed.
func (w *Walk) Replace(view *projection.View) {
	ids := slices.Collect(maps.Keys(w.rows))
	for _, row := range view.All() {
		id := row.Checkpoint.MigrationID
		if _, known := w.rows[id]; !known {
			ids = append(ids, id)
			w.observeRow(row)
		}
	}
	for _, id := range ids {
		w.index(view, id)
		if _, ok := view.Get(id); !ok {
			w.cluster.Observe(checkpoint.Removed{MigrationID: id})
		}
	}
}

// observeRow brings the model to the state that a row with its facts proves.
func (w *Walk) observeRow(row projection.Row) {
	if f := row.Facts; f.HasTarget && f.HasSource {
		w.cluster.Observe(checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{
			MigrationID: row.Checkpoint.MigrationID,
			Payload: checkpoint.AddLearner{
				VShardID: row.Checkpoint.Payload.Shard(), SourceNode: f.SourceNode, TargetNode: f.TargetNode, SourceGroup: f.SourceGroup,
			},
		}})
	}
	w.cluster.Observe(checkpoint.Upserted{Checkpoint: row.Checkpoint})
	if a := row.Facts.Abort; a != nil {
		w.cluster.Observe(checkpoint.AbortBegun{MigrationID: row.Checkpoint.MigrationID, Compensations: a.Compensations})
		for i, done := range a.Done {
			if done {
				w.cluster.Observe(checkpoint.Compensated{MigrationID: row.Checkpoint.MigrationID, Step: uint32(i)})
			}
		}
	}
}

// index replaces the row of a migration in the index.
func (w *Walk) index(view *projection.View, id checkpoint.MigrationID) {
	old, had := w.rows[id]
	if had {
		removeFrom(w.shards, old.vshardID, id)
		for _, at := range old.peers {
			removeFrom(w.peers, at, id)
			if list := w.completed[at]; !old.moving {
				if i, found := slices.BinarySearchFunc(list, old.seq, bySeq); found {
					list = slices.Delete(list, i, i+1)
				}
				if w.completed[at] = list; len(list) == 0 {
					delete(w.completed, at)
				}
			}
		}
		delete(w.rows, id)
	}
	row, ok := view.Get(id)
	if !ok {
		return
	}
	now := indexed{
		vshardID: row.Checkpoint.Payload.Shard(), seq: row.Seq, peers: peersOf(&row),
		moving: row.Checkpoint.Phase() != checkpoint.PhaseComplete || row.Facts.Abort != nil,
	}
	w.rows[id] = now
	if now.moving {
		addTo(w.shards, now.vshardID, id)
		if furthest := max(row.Facts.FurthestPhase, row.Checkpoint.Phase()); furthest == checkpoint.PhaseLeadershipTransfer {
			now.peers = append(now.peers, projection.Target{GroupID: row.Facts.SourceGroup, PeerID: leadership})
			w.rows[id] = now
		}
	}
	for _, at := range now.peers {
		if now.moving {
			addTo(w.peers, at, id)
		} else {
			list := w.completed[at]
			i, _ := slices.BinarySearchFunc(list, now.seq, bySeq)
			w.completed[at] = slices.Insert(list, i, seqID{now.seq, id})
		}
	}
}

func bySeq(r seqID, seq uint64) int { return cmp.Compare(r.seq, seq) }

func addTo[K comparable](sets map[K]idSet, key K, id checkpoint.MigrationID) {
	if sets[key] == nil {
		sets[key] = idSet{}
	}
	sets[key][id] = struct{}{}
}

func removeFrom[K comparable](sets map[K]idSet, key K, id checkpoint.MigrationID) {
	if delete(sets[key], id); len(sets[key]) == 0 {
		delete(sets, key)
	}
}

// targetsOf returns the peers to which a row moves its vShard. It also returns the peers that an
// unfinished abort of the row removes.
func targetsOf(row *projection.Row) []projection.Target {
	f := &row.Facts
	targets := slices.Clone(f.Targets)
	if f.HasTarget {
		targets = appendNew(targets, projection.Target{GroupID: f.SourceGroup, PeerID: f.TargetNode})
	}
	if f.Abort != nil {
		for _, step := range f.Abort.Compensations {
			if step.Kind == checkpoint.RemoveLearner || step.Kind == checkpoint.RemoveVoter {
				targets = appendNew(targets, projection.Target{GroupID: step.GroupID, PeerID: step.PeerID})
			}
		}
	}
	return targets
}

// peersOf returns the targets of a row and all other peers in the steps of its unfinished abort,
// such as the source, to which RestoreLeaderHint returns the leadership.
func peersOf(row *projection.Row) []projection.Target {
	peers := targetsOf(row)
	if abort := row.Facts.Abort; abort != nil {
		for _, step := range abort.Compensations {
			peers = appendNew(peers, projection.Target{GroupID: step.GroupID, PeerID: step.PeerID})
		}
	}
	return peers
}

func appendNew(list []projection.Target, at projection.Target) []projection.Target {
	if slices.Contains(list, at) {
		return list
	}
	return append(list, at)
}

// related returns the moving rows with the same vShard or with one of the same peers.
func (w *Walk) related(id checkpoint.MigrationID) (ids []checkpoint.MigrationID) {
	row, ok := w.rows[id]
	if !ok {
		return nil
	}
	ids = slices.AppendSeq(ids, maps.Keys(w.shards[row.vshardID]))
	for _, at := range row.peers {
		ids = slices.AppendSeq(ids, maps.Keys(w.peers[at]))
	}
	return ids
}

// closure returns these migrations and all that are related to them, directly or through others, in
// ascending order. It also returns the newest maxTogether migrations at Complete of each peer,
// because they can change the abort of the peer into a question, see rule 13 in docs/RECOVERY.md.
// It does not look for the relations of a migration at Complete.
func (w *Walk) closure(ids []checkpoint.MigrationID) []checkpoint.MigrationID {
	found := idSet{}
	for len(ids) > 0 {
		id := ids[len(ids)-1]
		ids = ids[:len(ids)-1]
		row, ok := w.rows[id]
		if _, seen := found[id]; seen || !ok {
			continue
		}
		found[id] = struct{}{}
		if !row.moving {
			continue
		}
		ids = append(ids, w.related(id)...)
		for _, at := range row.peers {
			list := w.completed[at]
			for _, newest := range list[max(0, len(list)-maxTogether):] {
				ids = append(ids, newest.id)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b checkpoint.MigrationID) int { return bytes.Compare(a[:], b[:]) })
}

// check carries out the decisions about the rows under all circumstances.
func (w *Walk) check(e Event, ids []checkpoint.MigrationID) (findings []Finding) {
	rows := make([]projection.Row, len(ids))
	moving := false
	for i, id := range ids {
		rows[i], _ = e.View.Get(id)
		moving = moving || w.rows[id].moving
	}
	for _, unrecorded := range w.unrecorded(ids) {
		for _, nowMS := range w.moments(rows, e.ClockMS) {
			for _, gone := range []bool{false, true} {
				if len(ids) == 0 || gone && !moving {
					continue
				}
				w.Scenarios++
				s := newScenario(w, e, ids, nowMS)
				s.begin(unrecorded, gone)
				s.run()
				for _, f := range s.findings {
					if !slices.ContainsFunc(findings, func(g Finding) bool { return g.Kind == f.Kind && g.MigrationID == f.MigrationID }) {
						f.AfterSeq, f.Unrecorded, f.TargetGone = e.Seq, unrecorded, gone
						findings = append(findings, f)
					}
				}
			}
		}
	}
	return findings
}

// unrecorded returns the sets of migrations whose unrecorded effects are assumed: no migration, all
// of them, and each one alone if there are at most maxTogether.
func (w *Walk) unrecorded(ids []checkpoint.MigrationID) (sets [][]checkpoint.MigrationID) {
	var all []checkpoint.MigrationID
	for _, id := range ids {
		if len(w.cluster.Unrecorded(id)) > 0 {
			all = append(all, id)
		}
	}
	sets = append(sets, nil)
	if len(all) > 0 {
		sets = append(sets, all)
	}
	for i := range all {
		if len(all) > 1 && len(all) <= maxTogether {
			sets = append(sets, all[i:i+1])
		}
	}
	return sets
}

// moments returns the times at which a coordinator starts: the clock of the last event, and each
// later time at which a row becomes stale. Of more than maxTogether moments, it returns the first
// and the last.
func (w *Walk) moments(rows []projection.Row, clockMS uint64) []uint64 {
	moments := []uint64{clockMS}
	for _, row := range rows {
		if ts := row.Checkpoint.TimestampMS; ts < math.MaxUint64-w.timeoutMS {
			if staleMS := ts + w.timeoutMS + 1; staleMS > clockMS && row.Checkpoint.Phase() < checkpoint.PhaseComplete {
				moments = append(moments, staleMS)
			}
		}
	}
	slices.Sort(moments)
	moments = slices.Compact(moments)
	if len(moments) > maxTogether {
		moments = []uint64{moments[0], moments[len(moments)-1]}
	}
	return moments
}
