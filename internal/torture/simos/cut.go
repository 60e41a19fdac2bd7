package simos

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Luck decides which of the unsynced changes survive a power cut. With the zero value, none do.
type Luck struct {
	names, sectors, sizes float64 // probability that a change survives; 1 is certain
	rng                   *rand.Rand
}

// FullLuck returns the Luck with which all unsynced changes survive.
func FullLuck() Luck { return Luck{names: 1, sectors: 1, sizes: 1} }

// DrawLuck returns a random Luck. Some draws keep no change, and some keep all changes.
func DrawLuck(rng *rand.Rand) Luck {
	if rng.IntN(8) == 0 {
		return Luck{}
	}
	if rng.IntN(8) == 0 {
		return FullLuck()
	}
	return Luck{names: drawChance(rng), sectors: drawChance(rng), sizes: drawChance(rng), rng: rng}
}

func drawChance(rng *rand.Rand) float64 {
	switch rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 1
	case 2:
		return 0.5
	}
	return rng.Float64()
}

func (l Luck) holds(chance float64) bool {
	return chance == 1 || chance > 0 && l.rng.Float64() < chance
}

// pick returns the index of one of n versions. The first version is the synced one.
func (l Luck) pick(n int, chance float64) int {
	if n == 1 || chance == 0 {
		return 0
	}
	if l.holds(chance) {
		return n - 1
	}
	return l.rng.IntN(n)
}

// Cut returns a possible content of the disk if the power is cut right after the first at
// recorded operations.
func (d *Disk) Cut(at int, luck Luck) *Image {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.treeAt(at)
	entries := t.durable
	if len(t.pending) > 0 {
		entries = maps.Clone(entries)
		for dir, names := range entries {
			entries[dir] = maps.Clone(names)
		}
		for _, c := range luck.arrived(t.pending) {
			c.apply(entries)
		}
	}
	return cutter{at, luck, entries, map[*inode]*Image{}}.image(d.root)
}

// arrived returns the changes that reached the device. If a change is missing, all later changes of
// the same name are missing too.
func (l Luck) arrived(pending []*change) (arrived []*change) {
	var missing []*change
	for _, c := range pending {
		behind := false
		for _, m := range missing {
			behind = behind || m.touches(c.to) || c.from.dir != nil && m.touches(c.from)
		}
		if !behind && l.holds(l.names) {
			arrived = append(arrived, c)
		} else {
			missing = append(missing, c)
		}
	}
	return arrived
}

// cutter makes the image of one cut.
type cutter struct {
	at      int
	luck    Luck
	entries map[*inode]map[string]*inode
	made    map[*inode]*Image
}

func (c cutter) image(n *inode) *Image {
	if i, ok := c.made[n]; ok {
		return i
	}
	i := &Image{}
	c.made[n] = i
	if !n.isDir() {
		i.Bytes = c.file(n)
		return i
	}
	i.Entries = map[string]*Image{}
	for _, name := range sortedNames(c.entries[n]) { // sorted, so that a seed repeats
		i.Entries[name] = c.image(c.entries[n][name])
	}
	return i
}

func (c cutter) file(n *inode) []byte {
	content := n.contentAt(c.at)
	if len(content.sizes) == 0 {
		return nil // nothing was ever written
	}
	b := make([]byte, content.sizes[c.luck.pick(len(content.sizes), c.luck.sizes)])
	for i, s := range content.sectors {
		from := i * SectorBytes
		if from >= len(b) {
			break
		}
		version := n.bytes[s.versions[c.luck.pick(len(s.versions), c.luck.sectors)]]
		if from < len(version) {
			copy(b[from:min(len(b), from+SectorBytes)], version[from:])
		}
	}
	return b
}

func sortedNames(entries map[string]*inode) []string {
	return slices.Sorted(maps.Keys(entries))
}
