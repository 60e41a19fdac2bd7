package main

import (
	"strconv"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/replay"
)

// moveFacts are the facts of a migration that a line about one of its events shows. An abort or a
// removal does not contain them. They are the facts of its incarnation.
type moveFacts struct {
	known  bool // the vShard is known
	vshard uint32
	facts  projection.Facts
}

// moveCell returns the source node and the target node, such as "8 -> 6". A node that is not known
// is "?". A node that may belong to an earlier incarnation ends with "?".
func moveCell(f projection.Facts) string {
	from, to, _ := factCells(f)
	return from + " -> " + to
}

func (m moveFacts) vshardCell() string {
	if !m.known {
		return "?"
	}
	return strconv.FormatUint(uint64(m.vshard), 10)
}

// budgetUS returns the pause budget, or 0 if it is not known.
func (m moveFacts) budgetUS() uint64 {
	if !m.facts.HasSource {
		return 0
	}
	return m.facts.WritePauseBudgetUS
}

func moveFactsOf(r projection.Row) moveFacts {
	return moveFacts{true, r.Checkpoint.Payload.Shard(), r.Facts}
}

// apply applies an event to the view, and returns the facts of its incarnation.
func applyForFacts(v *projection.View, r replay.Record, apply func()) moveFacts {
	id, ok := r.Migration()
	if !ok {
		apply()
		return moveFacts{}
	}
	before, had := v.Get(id)
	apply()
	if row, has := v.Get(id); has {
		return moveFactsOf(row)
	}
	if had {
		return moveFactsOf(before)
	}
	return moveFacts{}
}

// compactFacts are moveFacts in less memory, for the migrations of a whole log.
type compactFacts struct {
	source, target, group, budgetUS uint64
	vshard                          uint32
	hasSource, hasTarget            bool
}

func compact(m moveFacts) compactFacts {
	f := m.facts
	return compactFacts{f.SourceNode, f.TargetNode, f.SourceGroup, f.WritePauseBudgetUS, m.vshard, f.HasSource, f.HasTarget}
}

func (c compactFacts) facts() moveFacts {
	return moveFacts{true, c.vshard, projection.Facts{
		SourceNode: c.source, TargetNode: c.target, SourceGroup: c.group, WritePauseBudgetUS: c.budgetUS, HasSource: c.hasSource, HasTarget: c.hasTarget,
	}}
}

// factsByID has the latest facts of each migration of a log.
type factsByID map[checkpoint.MigrationID]compactFacts

func (f factsByID) add(r replay.Record, m moveFacts) {
	if id, ok := r.Migration(); ok && m.known {
		f[id] = compact(m)
	}
}

func (f factsByID) of(r replay.Record) moveFacts {
	id, _ := r.Migration()
	if c, ok := f[id]; ok {
		return c.facts()
	}
	return moveFacts{}
}
