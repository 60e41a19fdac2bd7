package projection

import (
	"hash/maphash"
	"iter"
	"slices"

	"migrationlog/checkpoint"
)

// trie is a persistent hash map: an old version stays readable while the next version is changed.
// The versions share nodes. A shared node is copied before it is changed. Several goroutines may
// read a version if none changes it.
type trie[K key, V any] struct {
	root  *node[K, V]
	size  int
	owner *owner // of the nodes that only this version has
}

// key is the key of an entry. The trie uses the lowest bits of its hash first.
type key interface {
	comparable
	hash() uint64
}

// idKey is the key of a migration.
type idKey checkpoint.MigrationID

func (k idKey) hash() uint64 { return maphash.Comparable(trieSeed, k) }

// shardKey is the key of a migration and its vShard. The hashes of all migrations of a vShard have
// the same lowest shardBits bits, so they are in one subtree.
type shardKey struct {
	vshardID uint32
	id       idKey
}

const shardBits = 32

func (k shardKey) hash() uint64 { return shardHash(k.vshardID) | k.id.hash()<<shardBits }

func shardHash(vshardID uint32) uint64 {
	return maphash.Comparable(trieSeed, vshardID) & (1<<shardBits - 1)
}

// owner identifies one version, of one or several tries. A version may change a node in place if
// the node has the same owner. The field makes the address of each owner unique.
type owner struct{ _ byte }

// node is a leaf, which has entries, or a branch, which has other nodes.
type node[K key, V any] struct {
	owner   *owner
	entries []entry[K, V]
	next    *[fanout]*node[K, V] // indexed by the next bits of the hash; nil in a leaf
}

type entry[K key, V any] struct {
	key   K
	value V
}

const (
	hashBits   = 64
	fanoutBits = 4
	fanout     = 1 << fanoutBits
	leafSize   = 16 // a larger leaf becomes a branch and stays one; most leaves never get that large
)

var trieSeed = maphash.MakeSeed()

// nextVersion returns a copy of the trie that belongs to owner next. The old version must not be
// changed afterwards.
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

// withHashPrefix yields the entries whose hashes equal hash in the lowest bits, in no order. It may
// yield other entries too.
func (t *trie[K, V]) withHashPrefix(hash uint64, bits int) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.subtree(hash, bits).yieldAll(yield) }
}

// subtree returns the node with all entries whose hashes equal hash in the lowest bits. It returns
// nil if there is no such node.
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

// leafFor returns the leaf for a key, which this version may change, and the index of the key in
// it. If the key is missing, the index is -1, and an entry can be added to the leaf.
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

// own returns a node that this version may change: n itself, a copy of it, or a new leaf if n is
// nil.
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

// split turns a leaf into a branch. The hashes of its entries are equal in the lowest bits.
func (t *trie[K, V]) split(n *node[K, V], bits int) {
	n.next = new([fanout]*node[K, V])
	for _, e := range n.entries {
		at := &n.next[e.key.hash()>>bits%fanout]
		*at = t.own(*at)
		(*at).entries = append((*at).entries, e)
	}
	n.entries = nil
}

// index returns the index of the key in a leaf, or -1 if the key is missing or n is nil.
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
