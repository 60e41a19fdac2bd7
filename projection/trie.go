package projection

import (
	"hash/maphash"
	"iter"
	"slices"
)

// trie is a hash map of which a version can be kept while the next is made: a node
// that an earlier version may still have is copied before it is changed. Versions
// that nobody changes may be read by any number of goroutines.
type trie[K comparable, V any] struct {
	root  *node[K, V]
	size  int
	owner *owner // of the nodes that no other version has
}

// owner is one version's right to change nodes in place.
type owner struct{ _ byte }

// node is a leaf, with entries, or a branch.
type node[K comparable, V any] struct {
	owner   *owner
	entries []entry[K, V]
	next    *[fanout]*node[K, V] // by the hash's next bits; nil in a leaf
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

const (
	hashBits   = 64
	fanoutBits = 4
	fanout     = 1 << fanoutBits
	leafSize   = 8 // above it a leaf becomes a branch
)

var trieSeed = maphash.MakeSeed()

// begin returns the next version. This one must not change any more.
func (t *trie[K, V]) begin() trie[K, V] {
	return trie[K, V]{root: t.root, size: t.size, owner: &owner{}}
}

func (t *trie[K, V]) get(key K) (value V, ok bool) {
	hash := maphash.Comparable(trieSeed, key)
	n := t.root
	for n != nil && n.next != nil {
		n = n.next[hash%fanout]
		hash >>= fanoutBits
	}
	if n != nil {
		for i := range n.entries {
			if n.entries[i].key == key {
				return n.entries[i].value, true
			}
		}
	}
	return value, false
}

func (t *trie[K, V]) set(key K, value V) {
	leaf := t.leaf(key)
	if i := leaf.index(key); i >= 0 {
		leaf.entries[i].value = value
		return
	}
	leaf.entries = append(leaf.entries, entry[K, V]{key, value})
	t.size++
}

func (t *trie[K, V]) delete(key K) {
	if _, ok := t.get(key); !ok {
		return
	}
	leaf := t.leaf(key)
	i := leaf.index(key)
	leaf.entries = slices.Delete(leaf.entries, i, i+1)
	t.size--
}

// leaf returns the leaf that a key belongs to, with room for it, as this version's own.
func (t *trie[K, V]) leaf(key K) *node[K, V] {
	at := &t.root
	hash := maphash.Comparable(trieSeed, key)
	for bits := 0; ; bits += fanoutBits {
		n := t.own(*at)
		*at = n
		if n.next == nil && (len(n.entries) < leafSize || n.index(key) >= 0 || bits+fanoutBits > hashBits) {
			return n
		}
		if n.next == nil {
			t.split(n, bits)
		}
		at = &n.next[hash>>bits%fanout]
	}
}

// own returns the node, or a copy of it, that may be changed.
func (t *trie[K, V]) own(n *node[K, V]) *node[K, V] {
	switch {
	case n == nil:
		return &node[K, V]{owner: t.owner}
	case n.owner == t.owner:
		return n
	case n.next == nil:
		return &node[K, V]{owner: t.owner, entries: slices.Clone(n.entries)}
	}
	next := *n.next
	return &node[K, V]{owner: t.owner, next: &next}
}

// split makes a branch of a leaf, whose entries share so many bits of their hashes.
func (t *trie[K, V]) split(n *node[K, V], bits int) {
	n.next = new([fanout]*node[K, V])
	for _, e := range n.entries {
		at := &n.next[maphash.Comparable(trieSeed, e.key)>>bits%fanout]
		*at = t.own(*at)
		(*at).entries = append((*at).entries, e)
	}
	n.entries = nil
}

func (n *node[K, V]) index(key K) int {
	return slices.IndexFunc(n.entries, func(e entry[K, V]) bool { return e.key == key })
}

// all yields the entries in no order.
func (t *trie[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.each(yield) }
}

func (n *node[K, V]) each(yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	for _, e := range n.entries {
		if !yield(e.key, e.value) {
			return false
		}
	}
	if n.next != nil {
		for _, below := range n.next {
			if !below.each(yield) {
				return false
			}
		}
	}
	return true
}
