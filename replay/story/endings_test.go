package story

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// If an id is used again and again, each incarnation has the next number. The number is found in a
// few steps, also after many incarnations.
func TestEndings_ManyOfOneID(t *testing.T) {
	e, id := newEndings(), checkpoint.MigrationID{15: 1}
	kinds := []replay.Kind{replay.KindAbort, replay.KindRemove, ""}
	var after replay.Kind
	for want := 1; want <= 50_000; want++ {
		number, got := e.next(id)
		require.Equal(t, want, number)
		require.Equal(t, after, got)
		after = kinds[want%len(kinds)]
		e.add(id, want, after)
	}
	number, after := e.next(checkpoint.MigrationID{15: 2})
	require.Equal(t, 1, number)
	require.Empty(t, after)
}

// A range of numbers has a lost event if it overlaps one of the lost ranges.
func TestTracker_LostBetween(t *testing.T) {
	tracker := NewTracker(Options{})
	for _, r := range [][2]uint64{{3, 4}, {8, 8}, {10, 20}} {
		tracker.Add(replay.Record{Damage: &replay.Damage{FirstSeq: r[0], LastSeq: r[1]}})
	}
	isLost := func(seq uint64) bool { return seq == 3 || seq == 4 || seq == 8 || seq >= 10 && seq <= 20 }
	for first := uint64(1); first < 25; first++ {
		want := false
		for last := first; last < 25; last++ {
			want = want || isLost(last)
			require.Equal(t, want, tracker.LostBetween(first, last), "%d to %d", first, last)
		}
	}
}
