package projection

import (
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

type number int

func (n number) hash() uint64 { return maphash.Comparable(trieSeed, n) }

// A trie equals a model, a map. An old version of a trie equals the map at the time when the next
// version was made, whatever changes were made to later versions.
func TestTrie_EqualsModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type version struct {
		trie  trie[number, int]
		model map[number]int
	}
	var kept []version
	now := version{model: map[number]int{}}
	for n := range 200_000 {
		key := number(rng.IntN(1 << (1 + n/1000%14)))
		switch rng.IntN(3) {
		case 0:
			now.trie.delete(key)
			delete(now.model, key)
		default:
			now.trie.set(key, n)
			now.model[key] = n
		}
		want, present := now.model[key]
		got, found := now.trie.get(key)
		require.Equal(t, present, found)
		require.Equal(t, want, got)
		if n%5000 == 0 {
			kept = append(kept, version{now.trie, maps.Clone(now.model)})
			now.trie = now.trie.nextVersion(&owner{})
		}
	}
	for _, v := range append(kept, now) {
		require.Equal(t, v.model, maps.Collect(v.trie.all()))
		require.Equal(t, len(v.model), v.trie.size)
	}
}

// A lookup does not allocate memory.
func TestTrie_GetAllocatesNothing(t *testing.T) {
	var v trie[idKey, *state]
	v.set(idKey{1}, &state{})
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, ok := v.get(idKey{1}); !ok {
			t.Fail()
		}
	}))
}
