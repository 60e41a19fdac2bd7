package stats

import "slices"

// groups holds a value for each of at most limit keys, and one for all other keys together.
type groups[K comparable, V any] struct {
	m      map[K]*V
	limit  int
	others *V // nil if there are no other keys
}

func newGroups[K comparable, V any](limit int) groups[K, V] {
	return groups[K, V]{m: map[K]*V{}, limit: limit}
}

// of returns the value of a key.
func (g *groups[K, V]) of(k K) *V {
	if v, ok := g.m[k]; ok {
		return v
	}
	if len(g.m) >= g.limit {
		if g.others == nil {
			g.others = new(V)
		}
		return g.others
	}
	v := new(V)
	g.m[k] = v
	return v
}

// sorted returns the values, after setting the key in each, and the value of the other keys.
func (g *groups[K, V]) sorted(setKey func(*V, K), compare func(a, b V) int) (list []V, others *V) {
	list = make([]V, 0, len(g.m))
	for k, v := range g.m {
		setKey(v, k)
		list = append(list, *v)
	}
	slices.SortFunc(list, compare)
	return list, g.others
}
