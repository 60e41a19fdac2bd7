package summary

import (
	"cmp"
	"encoding/binary"
	"slices"

	"migrationlog/checkpoint"
)

// Totals has counts of the events of a segment.
type Totals struct {
	Events uint64
	Kinds  [maxCodeKind + 1]uint64              // by checkpoint.Kind; at 0 the kinds that this version did not know
	Phases [checkpoint.PhaseComplete + 1]uint64 // checkpoints, by phase

	EarliestMS, LatestMS uint64 // span of the events' wall clocks, Unix milliseconds

	// VShards and Nodes have the vShards and the nodes of all migrations with an event in the segment,
	// in ascending order. If there are too many, or if a migration has events that could not be looked
	// up, the list is nil and AnyVShard or AnyNode is true.
	VShards            []uint32
	Nodes              []uint64
	AnyVShard, AnyNode bool

	Begun       uint64 // incarnations whose first checkpoint is in the segment
	RemovedDone uint64 // removals of migrations whose latest checkpoint is at Complete
	Aborted     uint64 // aborts of migrations with a row
	Retries     uint64 // checkpoints with an attempt above 0
	Aborts      []AbortGroup
}

// Sum adds up the totals of segments. The zero value is ready for use.
type Sum struct {
	Totals
	groups map[AbortGroup]int
}

// Add adds the counts of a segment.
func (t *Sum) Add(other Totals) {
	if t.groups == nil {
		t.groups = map[AbortGroup]int{}
	}
	if t.Events == 0 || other.Events > 0 && other.EarliestMS < t.EarliestMS {
		t.EarliestMS = other.EarliestMS
	}
	t.LatestMS = max(t.LatestMS, other.LatestMS)
	t.Events += other.Events
	for i, n := range other.Kinds {
		t.Kinds[i] += n
	}
	for i, n := range other.Phases {
		t.Phases[i] += n
	}
	t.AnyVShard, t.AnyNode = t.AnyVShard || other.AnyVShard, t.AnyNode || other.AnyNode
	t.VShards, t.Nodes = union(t.VShards, other.VShards), union(t.Nodes, other.Nodes)
	t.Begun, t.RemovedDone, t.Aborted, t.Retries = t.Begun+other.Begun, t.RemovedDone+other.RemovedDone, t.Aborted+other.Aborted, t.Retries+other.Retries
	for _, g := range other.Aborts {
		t.addAborts(g)
	}
}

func (t *Sum) addAborts(g AbortGroup) {
	key := g
	key.Count, key.MinMS, key.MaxMS = 0, 0, 0
	i, found := t.groups[key]
	if !found {
		t.groups[key] = len(t.Aborts)
		t.Aborts = append(t.Aborts, g)
		return
	}
	own := &t.Aborts[i]
	own.Count, own.MinMS, own.MaxMS = own.Count+g.Count, min(own.MinMS, g.MinMS), max(own.MaxMS, g.MaxMS)
}

// Finish returns the totals of all segments.
func (t *Sum) Finish() Totals {
	if t.AnyVShard {
		t.VShards = nil
	}
	if t.AnyNode {
		t.Nodes = nil
	}
	return t.Totals
}

// union returns the values of two ascending lists, ascending and without repetitions. It returns the
// first list if that has all values, as it usually has after some segments.
func union[T cmp.Ordered](list, more []T) []T {
	i := 0
	for k, v := range more {
		for i < len(list) && list[i] < v {
			i++
		}
		if i == len(list) || list[i] != v {
			all := slices.Concat(list, more[k:])
			slices.Sort(all)
			return slices.Compact(all)
		}
	}
	return list
}

// AbortGroup has the aborts of migrations with a row that have the same reason, phase and target.
type AbortGroup struct {
	Reason     string           // the first maxReasonBytes bytes; "" with Other
	Other      bool             // the reasons that were left out, because there are too many
	Phase      checkpoint.Phase // of the latest checkpoint; 0: not known
	HasTarget  bool
	TargetNode uint64
	Count      uint64
	// MinMS and MaxMS are the shortest and the longest time between the latest checkpoint and the abort, or
	// its first record. They are negative if the clock went back, and 0 if the phase is not known.
	MinMS, MaxMS int64
}

// The limits of the lists. A segment of the default size has about 33,000 events.
const (
	maxListed      = 4096 // vShards, and nodes
	maxReasons     = 64
	maxReasonBytes = 256
	maxAbortGroups = 1024
)

// limited returns the values in ascending order without repetitions, or nil and true if there are too
// many.
func limited[T cmp.Ordered](values []T) (list []T, any bool) {
	slices.Sort(values)
	values = slices.Compact(values)
	if len(values) > maxListed {
		return nil, true
	}
	return slices.Clip(values), false
}

// appendTotals appends the section: unsigned varints, with a byte for each bool and the reasons as
// text.
func appendTotals(b []byte, t *Totals) []byte {
	for _, n := range t.Kinds {
		b = binary.AppendUvarint(b, n)
	}
	for _, n := range t.Phases {
		b = binary.AppendUvarint(b, n)
	}
	for _, n := range []uint64{t.Events, t.EarliestMS, t.LatestMS, t.Begun, t.RemovedDone, t.Aborted, t.Retries} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendList(b, t.VShards, t.AnyVShard)
	b = appendList(b, t.Nodes, t.AnyNode)
	b = binary.AppendUvarint(b, uint64(len(t.Aborts)))
	for _, g := range t.Aborts {
		b = append(b, bit(g.Other, 1)|bit(g.HasTarget, 2), byte(g.Phase))
		b = binary.AppendUvarint(b, g.TargetNode)
		b = binary.AppendUvarint(b, g.Count)
		b = binary.AppendVarint(b, g.MinMS)
		b = binary.AppendVarint(b, g.MaxMS)
		b = binary.AppendUvarint(b, uint64(len(g.Reason)))
		b = append(b, g.Reason...)
	}
	return b
}

// appendList appends 0 for any, or the length plus one and then the differences of an ascending list.
func appendList[T uint32 | uint64](b []byte, list []T, any bool) []byte {
	if any {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(list))+1)
	before := T(0)
	for _, n := range list {
		b = binary.AppendUvarint(b, uint64(n-before))
		before = n
	}
	return b
}

func decodeTotals(b []byte) (t Totals, ok bool) {
	c := cursor{b: b}
	for i := range t.Kinds {
		t.Kinds[i] = c.uvarint()
	}
	for i := range t.Phases {
		t.Phases[i] = c.uvarint()
	}
	for _, n := range []*uint64{&t.Events, &t.EarliestMS, &t.LatestMS, &t.Begun, &t.RemovedDone, &t.Aborted, &t.Retries} {
		*n = c.uvarint()
	}
	t.VShards, t.AnyVShard = decodeList[uint32](&c)
	t.Nodes, t.AnyNode = decodeList[uint64](&c)
	n := c.count()
	for range n {
		bits := byte(c.uint(1))
		g := AbortGroup{Other: bits&1 != 0, HasTarget: bits&2 != 0, Phase: checkpoint.Phase(c.uint(1))}
		g.TargetNode, g.Count = c.uvarint(), c.uvarint()
		g.MinMS, g.MaxMS = c.varint(), c.varint()
		g.Reason = string(c.bytes(c.count()))
		t.Aborts = append(t.Aborts, g)
	}
	return t, c.done()
}

func decodeList[T uint32 | uint64](c *cursor) (list []T, any bool) {
	n := c.count()
	if n == 0 {
		return nil, true
	}
	list = make([]T, 0, n-1)
	before := T(0)
	for range n - 1 {
		before += T(c.uvarint())
		list = append(list, before)
	}
	return list, false
}

// uvarint reads an unsigned varint.
func (c *cursor) uvarint() uint64 {
	n, k := binary.Uvarint(c.b)
	if c.failed || k <= 0 {
		c.failed = true
		return 0
	}
	c.b = c.b[k:]
	return n
}

// varint reads a signed varint.
func (c *cursor) varint() int64 {
	n, k := binary.Varint(c.b)
	if c.failed || k <= 0 {
		c.failed = true
		return 0
	}
	c.b = c.b[k:]
	return n
}

// count reads a number of items, each of which takes at least one byte. A list of n items may have
// the count n+1.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b))+1 {
		c.failed = true
		return 0
	}
	return int(n)
}

// abortTable groups aborts.
type abortTable struct {
	groups  []AbortGroup
	index   map[AbortGroup]int // by the key of the group
	reasons map[string]bool
}

// add adds one abort. ms is the time since the latest checkpoint.
func (a *abortTable) add(key AbortGroup, ms int64) {
	if a.index == nil {
		a.index, a.reasons = map[AbortGroup]int{}, map[string]bool{}
	}
	if !a.reasons[key.Reason] {
		if len(a.reasons) < maxReasons {
			a.reasons[key.Reason] = true
		} else {
			key.Reason, key.Other = "", true
		}
	}
	i, found := a.index[key]
	if !found && len(a.groups) >= maxAbortGroups {
		key = AbortGroup{Other: true, Phase: key.Phase}
		i, found = a.index[key]
	}
	if !found {
		i = len(a.groups)
		a.index[key] = i
		key.MinMS, key.MaxMS = ms, ms
		a.groups = append(a.groups, key)
	}
	g := &a.groups[i]
	g.Count, g.MinMS, g.MaxMS = g.Count+1, min(g.MinMS, ms), max(g.MaxMS, ms)
}
