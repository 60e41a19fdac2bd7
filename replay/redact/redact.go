package redact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"migrationlog/checkpoint"
)

// Redactor replaces values in the events of one history. Call Learn for every event before the
// first call of Event. A Redactor is not safe for concurrent use.
//
// Nodes, groups and vShards become their ranks, from 1. A reason becomes "reason-1", "reason-2" and
// so on, in the order of first use. All clocks are moved by one constant, so that the history begins
// on 2020-01-01. The id with rank n becomes an id that ends with n; if its first half is a time
// (UUID version 7), that time is moved too. Durations, log indexes, attempts and epochs stay.
type Redactor struct {
	nodes, groups ranks[uint64]
	vshards       ranks[uint32]
	ids           map[checkpoint.MigrationID]checkpoint.MigrationID
	reasons       map[string]string
	firstMS       uint64 // 0 before the first event
}

// New returns a redactor that has learned nothing.
func New() *Redactor {
	return &Redactor{
		nodes: ranks[uint64]{}, groups: ranks[uint64]{}, vshards: ranks[uint32]{},
		ids: map[checkpoint.MigrationID]checkpoint.MigrationID{}, reasons: map[string]string{},
	}
}

// ranks maps each value to its rank. A value that was only learned has no rank yet.
type ranks[T uint32 | uint64] map[T]T

func (r ranks[T]) learn(v T) { r[v] = 0 }

func (r ranks[T]) number() {
	for i, v := range slices.Sorted(maps.Keys(r)) {
		r[v] = T(i + 1)
	}
}

// Learn collects the values of an event.
func (r *Redactor) Learn(e checkpoint.Event) {
	if ms := e.WallMS(); r.firstMS == 0 || ms < r.firstMS {
		r.firstMS = ms
	}
	r.ids[e.Migration()] = checkpoint.MigrationID{}
	switch e := e.(type) {
	case checkpoint.Upserted:
		r.learnPayload(e.Checkpoint.Payload)
	case checkpoint.Restored:
		r.learnPayload(e.Checkpoint.Payload)
		r.learnFacts(e.Facts)
	case checkpoint.Aborted:
		r.learnAbort(e.Reason, e.Compensations)
	case checkpoint.AbortBegun:
		r.learnAbort(e.Reason, e.Compensations)
	}
}

func (r *Redactor) learnPayload(p checkpoint.Payload) {
	r.vshards.learn(p.Shard())
	if node, group, ok := checkpoint.TargetOf(p); ok {
		r.nodes.learn(node)
		r.groups.learn(group)
	}
	if add, ok := p.(checkpoint.AddLearner); ok {
		r.nodes.learn(add.SourceNode)
	}
}

func (r *Redactor) learnFacts(f checkpoint.RestoredFacts) {
	if f.HasSource {
		r.nodes.learn(f.SourceNode)
	}
	if f.HasTarget {
		r.nodes.learn(f.TargetNode)
		r.groups.learn(f.SourceGroup)
	}
	for _, t := range f.Targets {
		r.nodes.learn(t.PeerID)
		r.groups.learn(t.GroupID)
	}
	if f.Abort != nil {
		r.learnAbort(f.Abort.Reason, f.Abort.Compensations)
	}
}

func (r *Redactor) learnAbort(reason string, comps []checkpoint.Compensation) {
	if _, known := r.reasons[reason]; !known {
		r.reasons[reason] = fmt.Sprintf("reason-%d", len(r.reasons)+1)
	}
	for _, c := range comps {
		if hasVShard(c) {
			r.vshards.learn(c.VShardID)
		}
		if hasPeer(c) {
			r.nodes.learn(c.PeerID)
			r.groups.learn(c.GroupID)
		}
	}
}

// hasVShard reports whether a compensation has a vShard, and hasPeer whether it has a peer. A writer
// may also have set a field that the kind does not need.
func hasVShard(c checkpoint.Compensation) bool {
	return c.Kind == checkpoint.RemoveGhostStub || c.VShardID != 0
}

func hasPeer(c checkpoint.Compensation) bool {
	return c.Kind != checkpoint.RemoveGhostStub || c.PeerID != 0 || c.GroupID != 0
}

// Number gives each value its rank. It must be called once, after the last Learn and before the
// first Event.
func (r *Redactor) Number() {
	r.nodes.number()
	r.groups.number()
	r.vshards.number()
	var timeMS uint64
	ids := slices.SortedFunc(maps.Keys(r.ids), func(a, b checkpoint.MigrationID) int { return bytes.Compare(a[:], b[:]) })
	for i, id := range ids {
		if id.Version() == 7 {
			timeMS = max(timeMS, r.MS(binary.BigEndian.Uint64(id[:])>>16))
		}
		r.ids[id] = rankedID(timeMS, uint64(i+1))
	}
}

// rankedID returns a version 7 id with a time and a rank. Ids with higher ranks are higher, if their
// times are not lower.
func rankedID(timeMS, rank uint64) (id checkpoint.MigrationID) {
	binary.BigEndian.PutUint64(id[:], timeMS<<16)
	id[6] = 0x70
	binary.BigEndian.PutUint64(id[8:], rank)
	id[8] = 0x80
	return id
}

// startMS is the time at which a redacted history begins.
var startMS = uint64(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())

// MS returns a moved wall clock. A clock of 0 stays 0, and one that would be below 0 becomes 0.
func (r *Redactor) MS(ms uint64) uint64 {
	if ms == 0 || ms+startMS < r.firstMS {
		return 0
	}
	return ms + startMS - r.firstMS
}

// ID returns the id that replaces an id of a learned event. The second result is false for other
// ids.
func (r *Redactor) ID(id checkpoint.MigrationID) (checkpoint.MigrationID, bool) {
	to, ok := r.ids[id]
	return to, ok
}

// Event returns the event with its values replaced. The event must have been learned.
func (r *Redactor) Event(e checkpoint.Event) (checkpoint.Event, error) {
	switch e := e.(type) {
	case checkpoint.Upserted:
		c := e.Checkpoint
		redacted, err := checkpoint.New(r.ids[c.MigrationID], c.Attempt, r.payload(c.Payload), r.MS(c.TimestampMS))
		return checkpoint.Upserted{Checkpoint: redacted, Epoch: e.Epoch}, err
	case checkpoint.Restored:
		c := e.Checkpoint
		redacted, err := checkpoint.New(r.ids[c.MigrationID], c.Attempt, r.payload(c.Payload), r.MS(c.TimestampMS))
		return checkpoint.Restored{Checkpoint: redacted, Facts: r.facts(e.Facts), Epoch: e.Epoch}, err
	case checkpoint.Aborted:
		e.MigrationID, e.TimestampMS = r.ids[e.MigrationID], r.MS(e.TimestampMS)
		e.Reason, e.Compensations = r.reasons[e.Reason], r.compensations(e.Compensations)
		return e, nil
	case checkpoint.AbortBegun:
		e.MigrationID, e.TimestampMS = r.ids[e.MigrationID], r.MS(e.TimestampMS)
		e.Reason, e.Compensations = r.reasons[e.Reason], r.compensations(e.Compensations)
		return e, nil
	case checkpoint.Removed:
		e.MigrationID, e.TimestampMS = r.ids[e.MigrationID], r.MS(e.TimestampMS)
		return e, nil
	case checkpoint.Compensated:
		e.MigrationID, e.TimestampMS = r.ids[e.MigrationID], r.MS(e.TimestampMS)
		return e, nil
	case checkpoint.EpochRaised:
		e.MigrationID, e.TimestampMS = r.ids[e.MigrationID], r.MS(e.TimestampMS)
		return e, nil
	}
	return nil, fmt.Errorf("an event of type %T cannot be redacted", e)
}

func (r *Redactor) payload(p checkpoint.Payload) checkpoint.Payload {
	switch p := p.(type) {
	case checkpoint.AddLearner:
		p.VShardID, p.SourceNode, p.TargetNode, p.SourceGroup = r.vshards[p.VShardID], r.nodes[p.SourceNode], r.nodes[p.TargetNode], r.groups[p.SourceGroup]
		p.StartedAtHLC.WallNS = r.ns(p.StartedAtHLC.WallNS)
		return p
	case checkpoint.CatchUp:
		p.VShardID = r.vshards[p.VShardID]
		return p
	case checkpoint.PromoteLearner:
		p.VShardID, p.TargetNode, p.SourceGroup = r.vshards[p.VShardID], r.nodes[p.TargetNode], r.groups[p.SourceGroup]
		return p
	case checkpoint.LeadershipTransfer:
		p.VShardID, p.NewLeaderNodeID, p.SourceGroup = r.vshards[p.VShardID], r.nodes[p.NewLeaderNodeID], r.groups[p.SourceGroup]
		return p
	case checkpoint.Cutover:
		p.VShardID, p.NewLeaderNodeID, p.SourceGroup = r.vshards[p.VShardID], r.nodes[p.NewLeaderNodeID], r.groups[p.SourceGroup]
		return p
	case checkpoint.Complete:
		p.VShardID = r.vshards[p.VShardID]
		return p
	}
	return p
}

func (r *Redactor) facts(f checkpoint.RestoredFacts) checkpoint.RestoredFacts {
	if f.HasSource {
		f.SourceNode, f.StartedAtHLC.WallNS = r.nodes[f.SourceNode], r.ns(f.StartedAtHLC.WallNS)
	}
	if f.HasTarget {
		f.TargetNode, f.SourceGroup = r.nodes[f.TargetNode], r.groups[f.SourceGroup]
	}
	f.Targets = slices.Clone(f.Targets)
	for i, t := range f.Targets {
		f.Targets[i] = checkpoint.Target{GroupID: r.groups[t.GroupID], PeerID: r.nodes[t.PeerID]}
	}
	if f.Abort != nil {
		a := *f.Abort
		a.Reason, a.Compensations, a.TimestampMS = r.reasons[a.Reason], r.compensations(a.Compensations), r.MS(a.TimestampMS)
		f.Abort = &a
	}
	return f
}

// ns is like MS for nanoseconds.
func (r *Redactor) ns(ns uint64) uint64 {
	const perMS = uint64(time.Millisecond)
	if ns/perMS+startMS < r.firstMS {
		return 0
	}
	return r.MS(ns/perMS)*perMS + ns%perMS
}

func (r *Redactor) compensations(comps []checkpoint.Compensation) []checkpoint.Compensation {
	list := slices.Clone(comps)
	for i, c := range list {
		if hasVShard(c) {
			list[i].VShardID = r.vshards[c.VShardID]
		}
		if hasPeer(c) {
			list[i].PeerID, list[i].GroupID = r.nodes[c.PeerID], r.groups[c.GroupID]
		}
	}
	return list
}
