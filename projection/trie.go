package projection

import (
	"hash/maphash"
	"iter"
	"slices"

	"migrationlog/checkpoint"
)

// trie is a hash map of which a version can be kept while the next is made: a node
// that an earlier version may still have is copied before it is changed. Versions
// that nobody changes may be read by any number of goroutines.
type trie[K key, V any] struct {
	root  *node[K, V]
	size  int
	owner *owner // of the nodes that no other version has
}

// key is found by the bits of its hash, the lowest first.
type key interface {
	comparable
	hash() uint64
}

// idKey finds a migration.
type idKey checkpoint.MigrationID

func (k idKey) hash() uint64 { return maphash.Comparable(trieSeed, k) }

// shardKey finds a migration among those of its vShard: their hashes begin with the
// same bits.
type shardKey struct {
	vshardID uint32
	id       idKey
}

const shardBits = 32

func (k shardKey) hash() uint64 { return shardHash(k.vshardID) | k.id.hash()<<shardBits }

func shardHash(vshardID uint32) uint64 {
	return maphash.Comparable(trieSeed, vshardID) & (1<<shardBits - 1)
}

// owner is one version's right, of one trie or of several, to change nodes in place.
type owner struct{ _ byte }

// node is a leaf, with entries, or a branch.
type node[K key, V any] struct {
	owner   *owner
	entries []entry[K, V]
	next    *[fanout]*node[K, V] // by the hash's next bits; nil in a leaf
}

type entry[K key, V any] struct {
	key   K
	value V
}

const (
	hashBits   = 64
	fanoutBits = 4
	fanout     = 1 << fanoutBits
	leafSize   = 16 // above it a leaf becomes a branch, for good: more than most leaves ever have
)

var trieSeed = maphash.MakeSeed()

// nextVersion returns the next version, which is that owner's. This one must not change any more.
func (t *trie[K, V]) nextVersion(next *owner) trie[K, V] {
	return trie[K, V]{root: t.root, size: t.size, owner: next}
}

func (t *trie[K, V]) get(key K) (value V, ok bool) {
	if t.size == 0 {
		return value, false
	}
	n := t.subtree(key.hash(), hashBits)
	if i := n.index(key); i >= 0 {
		return n.entries[i].value, true
	}
	return value, false
}

// withHashPrefix yields the entries whose hashes begin with so many bits of this one, and
// perhaps others, in no order.
func (t *trie[K, V]) withHashPrefix(hash uint64, bits int) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.subtree(hash, bits).yieldAll(yield) }
}

// subtree returns the node that has all entries whose hashes begin with so many bits
// of this one, nil where there are none.
func (t *trie[K, V]) subtree(hash uint64, bits int) *node[K, V] {
	n := t.root
	for ; n != nil && n.next != nil && bits > 0; bits -= fanoutBits {
		n = n.next[hash%fanout]
		hash >>= fanoutBits
	}
	return n
}

func (t *trie[K, V]) set(key K, value V) {
	leaf, i := t.leafFor(key)
	if i >= 0 {
		leaf.entries[i].value = value
		return
	}
	leaf.entries = append(leaf.entries, entry[K, V]{key, value})
	t.size++
}

func (t *trie[K, V]) delete(key K) {
	if t.size == 0 {
		return
	}
	leaf, i := t.leafFor(key)
	if i < 0 {
		return
	}
	leaf.entries = slices.Delete(leaf.entries, i, i+1)
	t.size--
}

// leafFor returns the leaf that a key belongs to, as this version's own, and where in it
// the key is: -1 for nowhere, and there is room for it.
func (t *trie[K, V]) leafFor(key K) (*node[K, V], int) {
	at := &t.root
	hash := key.hash()
	for bits := 0; ; bits += fanoutBits {
		n := t.own(*at)
		*at = n
		if n.next == nil {
			if i := n.index(key); i >= 0 || len(n.entries) < leafSize || bits+fanoutBits > hashBits {
				return n, i
			}
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
	case n.owner == t.owner: //mutant:node-owned
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
		at := &n.next[e.key.hash()>>bits%fanout]
		*at = t.own(*at)
		(*at).entries = append((*at).entries, e)
	}
	n.entries = nil
}

// index returns where in a leaf the key is, -1 for nowhere.
func (n *node[K, V]) index(key K) int {
	if n != nil {
		for i := range n.entries {
			if n.entries[i].key == key {
				return i
			}
		}
	}
	return -1
}

// all yields the entries in no order.
func (t *trie[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.yieldAll(yield) }
}

func (n *node[K, V]) yieldAll(yield func(K, V) bool) bool {
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
			if !below.yieldAll(yield) {
				return false
			}
		}
	}
	return true
}
