package model

import (
	"cmp"
	"slices"

	"migrationlog/checkpoint"
)

// The functions below return a part of the cluster, or nil if it does not exist. The part may be
// shared with the base. Those named change… return a part that may be changed.

func (c *Cluster) group(id uint64) *group {
	for ; c != nil; c = c.base {
		if g, ok := c.groups[id]; ok {
			return g
		}
	}
	return nil
}

func (c *Cluster) changeGroup(id uint64) *group {
	g := c.group(id)
	if g == nil || c.groups[id] == g {
		return g
	}
	own := &group{g.leader, g.hasLeader, make(map[uint64]*peer, len(g.peers))}
	for node, p := range g.peers {
		changed := *p
		changed.users = slices.Clone(p.users)
		own.peers[node] = &changed
	}
	c.groups[id] = own
	return own
}

func (c *Cluster) move(id checkpoint.MigrationID) *move {
	for ; c != nil; c = c.base {
		if mv, ok := c.moves[id]; ok {
			return mv
		}
	}
	return nil
}

func (c *Cluster) changeMove(id checkpoint.MigrationID) *move {
	mv := c.move(id)
	if mv == nil || c.moves[id] == mv {
		return mv
	}
	own := *mv
	own.peers = slices.Clone(mv.peers)
	c.moves[id] = &own
	return &own
}

func (c *Cluster) stub(key stubKey) *stub {
	for ; c != nil; c = c.base {
		if s, ok := c.stubs[key]; ok {
			return s
		}
	}
	return nil
}

func (c *Cluster) driver(vshardID uint32) driver {
	for ; c != nil; c = c.base {
		if d, ok := c.drivers[vshardID]; ok {
			return d
		}
	}
	return driver{}
}

// remove removes a node from the group. If it led the group, the group has no leader.
func (g *group) remove(node uint64) {
	delete(g.peers, node)
	if g.leader == node {
		g.leader, g.hasLeader = 0, false
	}
}

func compareStubs(a, b stubKey) int {
	return cmp.Or(cmp.Compare(a.vshardID, b.vshardID), cmp.Compare(a.node, b.node))
}
