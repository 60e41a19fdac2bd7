package replay_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// A period has all records from its beginning to its end and, before them, all records of the
// incarnations that have a row at its beginning.
func TestPeriod_HasTheHistoriesOfItsMoves(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	unchecked := 0
	for number := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, number))
		fsys := randomLog(t, rng)
		addSummaries(t, fsys)
		if rng.IntN(4) == 0 {
			removeSomeSummaries(rng, fsys)
		}
		all := recordsOf(t, openFS(t, fsys), replay.Query{})
		for range 4 {
			sinceMS, untilMS := 1000+rng.Uint64N(900), uint64(0)
			if rng.IntN(2) == 0 {
				untilMS = sinceMS + rng.Uint64N(200)
			}
			var got []replay.Record
			var covered replay.Coverage
			o := replay.PeriodOptions{SinceMS: sinceMS, UntilMS: untilMS, Later: rng.IntN(2) == 0, Covered: &covered}
			for r, err := range openFS(t, fsys).Period(t.Context(), o) {
				require.NoError(t, err)
				got = append(got, r)
			}
			unchecked += covered.Unchecked
			requirePeriod(t, all, got, o)
		}
	}
	require.NotZero(t, unchecked)
}

func requirePeriod(t *testing.T, all, got []replay.Record, o replay.PeriodOptions) {
	var later []replay.Record
	if end := slices.IndexFunc(all, replay.Point{TimeMS: o.UntilMS}.Before); end >= 0 {
		all, later = all[:end], all[end:]
	}
	begin := slices.IndexFunc(all, func(r replay.Record) bool { return r.WallMS() >= o.SinceMS })
	if begin < 0 {
		begin = len(all)
	}
	had := map[uint64]bool{}
	last := uint64(0)
	for _, r := range got {
		require.Greater(t, r.Seq, last)
		last = r.Seq
		had[r.Seq] = true
	}
	for _, r := range all[begin:] {
		require.True(t, had[r.Seq], "seq %d of %+v", r.Seq, o)
	}
	for id, records := range withRows(all[:begin]) {
		for _, r := range records {
			require.True(t, had[r.Seq], "seq %d of %s, before %+v", r.Seq, id, o)
		}
	}
	atEnd := withRows(all)
	for _, r := range later {
		id, _ := r.Migration()
		if o.Later && atEnd[id] != nil {
			require.True(t, had[r.Seq], "seq %d of %s, after %+v", r.Seq, id, o)
		}
		require.True(t, o.Later || !had[r.Seq], "seq %d, after %+v", r.Seq, o)
	}
}

// withRows returns the events of each incarnation that has a row after the records.
func withRows(records []replay.Record) map[checkpoint.MigrationID][]replay.Record {
	live := map[checkpoint.MigrationID][]replay.Record{}
	for _, r := range records {
		id, _ := r.Migration()
		switch r.Kind() {
		case replay.KindAbort, replay.KindRemove:
			delete(live, id)
		default:
			live[id] = append(live[id], r)
		}
	}
	maps.DeleteFunc(live, func(_ checkpoint.MigrationID, of []replay.Record) bool {
		return !slices.ContainsFunc(of, func(r replay.Record) bool { return r.Kind() == replay.KindCheckpoint })
	})
	return live
}
