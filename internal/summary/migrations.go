package summary

import (
	"encoding/binary"
	"iter"
	"slices"

	"migrationlog/checkpoint"
)

// Migration is one incarnation of a migration that has an event in a segment. If an id is used again
// in the same segment, each incarnation has an entry. A run of events without a row, such as raised
// epochs, has one too. The state is the one after the last event of the segment.
type Migration struct {
	ID checkpoint.MigrationID

	Began bool // the first event of the incarnation is in this segment
	// Partial is true if earlier events of the incarnation could not be looked up. The nodes, the group,
	// Furthest and the stays then come from the events in this segment, and may be unknown.
	Partial bool
	// Several is true if the events of the incarnation name more than one vShard, source or target.
	Several bool
	Ended   bool // by an abort or a removal

	HasVShard, HasSource, HasTarget bool
	VShardID                        uint32 // of the latest checkpoint
	SourceNode                      uint64 // the first one of the incarnation
	TargetNode, SourceGroup         uint64 // the first ones of the incarnation

	Phase, Furthest checkpoint.Phase // of the latest checkpoint, and the highest one; 0: no checkpoint
	InPhase         bool             // no abort has begun since the latest checkpoint, so its stay is open
	CheckpointMS    uint64           // wall clock of the latest checkpoint, if its stay is open
	// StayMS is the length of the latest checkpoint's stay, if it has ended: the time to the abort or its
	// first record, or to the removal. It is negative if the clock went back.
	StayMS int64
}

// Migrations has the migrations of a segment, in the order of their first frames. One of them can be
// read without the others.
//
// The section has the number of migrations (4 bytes), the widths of five columns (1 byte each), the
// earliest time of a checkpoint (8 bytes), and then these columns: the ids (16 bytes each), two bytes
// of flags and phases, the vShard, the source node, the target node, the group, and a duration. This is
// the time of the latest checkpoint since the earliest one or, if the stay of the latest checkpoint has
// ended, StayMS in zigzag encoding.
type Migrations struct {
	n                                            int
	ids, states, flags                           []byte
	vShards, sources, targets, groups, durations column
	earliestMS                                   uint64
}

const idBytes = len(checkpoint.MigrationID{})

// A state has Phase in bits 0 to 2 and Furthest in bits 3 to 5.
const (
	statePhase    = 1<<3 - 1
	stateFurthest = 3
	stateInPhase  = 1 << 6
	stateEnded    = 1 << 7

	flagBegan     = 1 << 0
	flagPartial   = 1 << 1
	flagSeveral   = 1 << 2
	flagHasVShard = 1 << 3
	flagHasSource = 1 << 4
	flagHasTarget = 1 << 5
)

// Len returns the number of migrations.
func (m Migrations) Len() int { return m.n }

// ID returns the id of the migration with the index i.
func (m Migrations) ID(i int) checkpoint.MigrationID {
	return checkpoint.MigrationID(m.ids[i*idBytes:])
}

// Find yields the index of each incarnation of a migration.
func (m Migrations) Find(id checkpoint.MigrationID) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range m.n {
			if m.ID(i) == id && !yield(i) {
				return
			}
		}
	}
}

// At returns the migration with the index i.
func (m Migrations) At(i int) Migration {
	state, flags := m.states[i], m.flags[i]
	out := Migration{
		ID: m.ID(i), Began: flags&flagBegan != 0, Partial: flags&flagPartial != 0, Several: flags&flagSeveral != 0,
		HasVShard: flags&flagHasVShard != 0, HasSource: flags&flagHasSource != 0, HasTarget: flags&flagHasTarget != 0,
		VShardID: uint32(m.vShards.at(i)), SourceNode: m.sources.at(i), TargetNode: m.targets.at(i), SourceGroup: m.groups.at(i),
		Phase: checkpoint.Phase(state & statePhase), Furthest: checkpoint.Phase(state >> stateFurthest & statePhase),
		InPhase: state&stateInPhase != 0, Ended: state&stateEnded != 0,
	}
	switch n := m.durations.at(i); {
	case out.InPhase:
		out.CheckpointMS = m.earliestMS + n
	case out.Phase != 0:
		out.StayMS = int64(n>>1) ^ -int64(n&1)
	}
	return out
}

func decodeMigrations(b []byte) (Migrations, bool) {
	c := cursor{b: b}
	m := Migrations{n: int(c.uint(4))}
	var widths [5]int
	for i := range widths {
		widths[i] = c.width()
	}
	m.earliestMS = c.uint(8)
	if m.n > len(c.b) {
		return Migrations{}, false
	}
	m.ids, m.states, m.flags = c.bytes(m.n*idBytes), c.bytes(m.n), c.bytes(m.n)
	for i, col := range []*column{&m.vShards, &m.sources, &m.targets, &m.groups, &m.durations} {
		*col = c.column(m.n, widths[i])
	}
	return m, c.done()
}

func (m *Migration) state() byte {
	state := byte(m.Phase) | byte(m.Furthest)<<stateFurthest
	return state | bit(m.InPhase, stateInPhase) | bit(m.Ended, stateEnded)
}

func (m *Migration) flags() byte {
	return bit(m.Began, flagBegan) | bit(m.Partial, flagPartial) | bit(m.Several, flagSeveral) |
		bit(m.HasVShard, flagHasVShard) | bit(m.HasSource, flagHasSource) | bit(m.HasTarget, flagHasTarget)
}

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

// columns returns the values of the columns of a migration.
func (m *Migration) columns(earliestMS uint64) [5]uint64 {
	duration := uint64(m.StayMS)<<1 ^ uint64(m.StayMS>>63)
	if m.InPhase {
		duration = m.CheckpointMS - earliestMS
	}
	return [5]uint64{uint64(m.VShardID), m.SourceNode, m.TargetNode, m.SourceGroup, duration}
}

func appendMigrations(b []byte, all []incarnation) []byte {
	earliestMS := ^uint64(0)
	for i := range all {
		if all[i].InPhase {
			earliestMS = min(earliestMS, all[i].CheckpointMS)
		}
	}
	var highest [5]uint64
	for i := range all {
		for c, n := range all[i].columns(earliestMS) {
			highest[c] = max(highest[c], n)
		}
	}
	rowBytes := idBytes + 2
	for _, n := range highest {
		rowBytes += widthOf(n)
	}
	b = slices.Grow(b, 4+len(highest)+8+len(all)*rowBytes)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(all)))
	for _, n := range highest {
		b = append(b, byte(widthOf(n)))
	}
	b = binary.LittleEndian.AppendUint64(b, earliestMS)
	for i := range all {
		b = append(b, all[i].ID[:]...)
	}
	for i := range all {
		b = append(b, all[i].state())
	}
	for i := range all {
		b = append(b, all[i].flags())
	}
	for c, n := range highest {
		width := widthOf(n)
		for i := range all {
			b = appendUint(b, all[i].columns(earliestMS)[c], width)
		}
	}
	return b
}
