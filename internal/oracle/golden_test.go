package oracle_test

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/internal/oracle"
)

// The replay reader and the oracle read the golden logs in the same way, with and without snapshots.
func TestOracle_GoldenLogs(t *testing.T) {
	dirs, err := filepath.Glob("../../testdata/golden/*/*/log")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	restored, digests := 0, 0
	for _, dir := range dirs {
		l, err := oracle.Read(dir)
		require.NoError(t, err)
		require.NotEmpty(t, l.Events)
		ids := map[uuid.UUID]bool{{9}: true} // without events
		for _, e := range l.Events {
			ids[e.Migration] = true
			restored += map[bool]int{true: 1}[e.Kind == oracle.KindRestored]
			digests += map[bool]int{true: 1}[e.Kind == oracle.KindDigest]
		}
		h := &history{dir: dir, ids: slices.Collect(maps.Keys(ids)), r: rand.New(rand.NewPCG(0, 0))}
		for range 10 {
			require.NoError(t, h.compareReplay(l), dir)
		}
	}
	require.Equal(t, 4, restored)
	require.Equal(t, 4, digests)
}
