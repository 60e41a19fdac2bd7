package eventlog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Snapshots are removed as long as no gap becomes wider than wanted, and older ones until they are
// small enough.
func TestSuperfluousSnapshots(t *testing.T) {
	const gap = 100
	for _, tc := range []struct {
		name        string
		seqs        []uint64
		sizeBytes   int64 // of each
		superfluous []uint64
	}{
		{"none", nil, 1, nil},
		{"the newest two stay", []uint64{1, 2}, 1 << 40, nil},
		{"an older one near the beginning of the log", []uint64{1, 2, 3}, 1, []uint64{1}},
		{"a gap of just the wanted width", []uint64{40, 100, 200}, 1, []uint64{40}},
		{"a gap that would be too wide", []uint64{40, 101, 200}, 1, nil},
		{"every second one is enough", []uint64{60, 120, 180, 240, 300, 360}, 1, nil},
		{"only one of several", []uint64{100, 130, 160, 190, 220, 250}, 1, []uint64{130, 160}},
		{"gaps that were wide already", []uint64{500, 1000, 1500, 2000}, 1, nil},
		{"they fit", []uint64{500, 1000, 1500, 2000}, 8000, nil},
		{"they are too large", []uint64{500, 1000, 1500, 2000}, 8001, []uint64{500, 1000}},
		{"the gaps are doubled", []uint64{300, 600, 900, 1200, 1500, 1800, 2000}, 5000, []uint64{300, 900, 1500}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var files []snapshotFile
			for _, seq := range tc.seqs {
				files = append(files, snapshotFile{fmt.Sprint(seq), seq, tc.sizeBytes})
			}
			require.Equal(t, tc.superfluous, seqsOf(superfluousSnapshots(files, gap, 2000)))
		})
	}
}

// In a history of any length, with snapshots at any interval, no gap is wider than the wanted one,
// unless no snapshot was taken there or the older ones are too large. Another call removes no more.
// A crash between two removals does not change that.
func TestSuperfluousSnapshots_RandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		gap, maxStep, maxBytes := 1+rng.Uint64N(1000), 1+rng.Uint64N(1000), 1+rng.Int64N(1<<(1+rng.IntN(14)))
		if seed%2 == 0 {
			maxBytes = 1 // all are small enough
		}
		var files []snapshotFile
		var seq uint64
		for range rng.IntN(200) {
			seq += 1 + rng.Uint64N(maxStep)
			files = append(files, snapshotFile{fmt.Sprint(seq), seq, rng.Int64N(maxBytes)})
			superfluous := superfluousSnapshots(files, gap, seq)
			removed := len(superfluous)
			if rng.IntN(10) == 0 {
				removed = rng.IntN(removed + 1) // a crash
			}
			crashed := removed < len(superfluous)
			files = without(files, superfluous[:removed])
			if maxBytes == 1 {
				requireNarrow(t, files, max(gap, maxStep))
			}
			if !crashed {
				require.Empty(t, superfluousSnapshots(files, gap, seq), "seed %d", seed)
				requireFew(t, files, gap, seq)
			}
		}
	}
}

// requireNarrow checks that no two neighbors are further apart.
func requireNarrow(t *testing.T, files []snapshotFile, gap uint64) {
	before := uint64(0)
	for _, f := range files {
		require.LessOrEqual(t, f.seq-before, gap)
		before = f.seq
	}
}

// requireFew checks the number and the size of the older snapshots.
func requireFew(t *testing.T, files []snapshotFile, gap, events uint64) {
	older := files[:max(0, len(files)-newestSnapshots)]
	require.LessOrEqual(t, uint64(len(older)), 2*events/gap)
	var olderBytes uint64
	for _, f := range older {
		olderBytes += uint64(f.sizeBytes)
	}
	require.LessOrEqual(t, olderBytes, events*olderBytesPerEvent)
}

func without(files, removed []snapshotFile) []snapshotFile {
	return slices.DeleteFunc(slices.Clone(files), func(f snapshotFile) bool { return slices.Contains(removed, f) })
}

func seqsOf(files []snapshotFile) (seqs []uint64) {
	for _, f := range files {
		seqs = append(seqs, f.seq)
	}
	return seqs
}
