package timeline

import (
	"cmp"
	"slices"
	"strconv"
)

// byTime orders moves for a lane.
func byTime(a, b *Move) int {
	return cmp.Or(cmp.Compare(a.FromMS, b.FromMS), cmp.Compare(a.FirstSeq, b.FirstSeq))
}

// laneKey is the key of a lane in a form that sorts.
type laneKey struct {
	number uint64
	name   string
}

var unknownKey = laneKey{1<<64 - 1, "?"}

// numberKey returns the key of a vShard or a node.
func numberKey(n uint64, known bool) laneKey {
	if !known {
		return unknownKey
	}
	return laneKey{n, strconv.FormatUint(n, 10)}
}

// keysOf returns the keys of the lanes that a move is in.
func keysOf(m *Move, by By) []laneKey {
	switch by {
	case ByNode:
		source, target := numberKey(m.SourceNode, m.HasSource), numberKey(m.TargetNode, m.HasTarget)
		if source == target {
			return []laneKey{source}
		}
		return []laneKey{source, target}
	case ByMigration:
		return []laneKey{{m.FromMS, m.ID.String()}}
	}
	return []laneKey{numberKey(uint64(m.VShardID), m.Phase != 0)} // without a checkpoint it is not known
}

// lanesOf puts moves, which are sorted by time, into lanes.
func lanesOf(moves []*Move, by By) []Lane {
	lanes := map[string][]Lane{} // by name
	var keys []laneKey
	for _, m := range moves {
		for _, key := range keysOf(m, by) {
			if lanes[key.name] == nil {
				keys = append(keys, key)
			}
			lanes[key.name] = addToLane(lanes[key.name], key.name, m)
		}
	}
	slices.SortFunc(keys, func(a, b laneKey) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.name, b.name))
	})
	all := []Lane{}
	for _, key := range keys {
		all = append(all, lanes[key.name]...)
	}
	return all
}

// addToLane adds a move to the first lane whose last move it does not overlap.
func addToLane(lanes []Lane, name string, m *Move) []Lane {
	for i := range lanes {
		last := lanes[i].Moves[len(lanes[i].Moves)-1]
		if last.ToMS <= m.FromMS && !overlap(last, m) {
			lanes[i].Moves = append(lanes[i].Moves, m)
			return lanes
		}
	}
	label := name
	if len(lanes) > 0 {
		label = name + " (" + strconv.Itoa(len(lanes)+1) + ")"
	}
	return append(lanes, Lane{Key: name, Label: label, Number: len(lanes) + 1, Moves: []*Move{m}})
}

// overlap reports whether one move began during the flight of the other. Two moves can overlap
// within a millisecond, which only their numbers show.
func overlap(a, b *Move) bool {
	return a.FirstSeq < b.flightEnd() && b.FirstSeq < a.flightEnd()
}

// flightEnd returns the number of the record that ended the flight, or the highest number.
func (m *Move) flightEnd() uint64 {
	if m.EndLost {
		return m.LastSeq
	}
	return cmp.Or(m.EndSeq, 1<<64-1)
}
