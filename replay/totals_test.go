package replay_test

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
	"migrationlog/replay/triage"
)

// orderlyMoves returns a function that returns the events of some moves at once, each in the order of
// the phases. Some begin again in a phase, and some are aborted, with or without a recorded beginning.
func orderlyMoves(t testing.TB, rng *rand.Rand) func(wallMS uint64) any {
	var live [][]func(wallMS uint64) any
	begun := uint32(0)
	return func(wallMS uint64) any {
		if len(live) < 8 {
			begun++
			live = append(live, orderlyMove(t, rng, begun))
		}
		i := rng.IntN(len(live))
		event := live[i][0](wallMS)
		if live[i] = live[i][1:]; len(live[i]) == 0 {
			live = slices.Delete(live, i, i+1)
		}
		return event
	}
}

func orderlyMove(t testing.TB, rng *rand.Rand, n uint32) (events []func(wallMS uint64) any) {
	id, target := checkpoint.MigrationID{1, byte(n >> 8), byte(n)}, uint64(1+n%3)
	add := func(event func(ms uint64) any) { events = append(events, event) }
	abortAt := rng.IntN(12)
	for i, p := range []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: n, SourceNode: 9, TargetNode: target, SourceGroup: 1},
		checkpoint.CatchUp{VShardID: n},
		checkpoint.PromoteLearner{VShardID: n, TargetNode: target, SourceGroup: 1},
		checkpoint.LeadershipTransfer{VShardID: n, NewLeaderNodeID: target, SourceGroup: 1},
		checkpoint.Cutover{VShardID: n, NewLeaderNodeID: target, SourceGroup: 1},
		checkpoint.Complete{VShardID: n},
	} {
		for attempt := range uint32(1 + rng.IntN(3)/2) {
			add(func(ms uint64) any { return attempted(t, id, attempt, p, ms) })
		}
		if i == abortAt {
			if rng.IntN(3) > 0 {
				add(func(ms uint64) any { return checkpoint.AbortBegun{MigrationID: id, Reason: "stuck", TimestampMS: ms} })
				add(func(ms uint64) any { return checkpoint.Compensated{MigrationID: id, TimestampMS: ms} })
			}
			add(func(ms uint64) any { return checkpoint.Aborted{MigrationID: id, Reason: "stuck", TimestampMS: ms} })
			return events
		}
	}
	add(func(ms uint64) any { return checkpoint.Removed{MigrationID: id, TimestampMS: ms} })
	return events
}

func attempted(t testing.TB, id checkpoint.MigrationID, attempt uint32, p checkpoint.Payload, wallMS uint64) checkpoint.Event {
	c, err := checkpoint.New(id, attempt, p, wallMS)
	require.NoError(t, err)
	return checkpoint.Upserted{Checkpoint: c}
}

// disorderlyEvents returns a function that returns random events of few migrations.
func disorderlyEvents(t testing.TB, rng *rand.Rand) func(wallMS uint64) any {
	return func(wallMS uint64) any {
		id := checkpoint.MigrationID{byte(1 + rng.IntN(6))}
		switch rng.IntN(10) {
		case 0:
			return checkpoint.AbortBegun{MigrationID: id, Reason: "stuck", TimestampMS: wallMS}
		case 1:
			return checkpoint.EpochRaised{MigrationID: id, TimestampMS: wallMS, Epoch: wallMS}
		case 2:
			return attempted(t, id, 1+rng.Uint32N(3), checkpoint.CatchUp{VShardID: 1}, wallMS)
		}
		return randomEvent(t, rng, id, wallMS)
	}
}

// The counts of a log do not depend on its summaries: they are those of all its records.
func TestTotals_WithoutSummaries(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for number := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, number))
		events := orderlyMoves(t, rng)
		if number%2 == 1 {
			events = disorderlyEvents(t, rng)
		}
		plain := logOfEvents(t, rng, events)
		whole := maps.Clone(plain)
		addSummaries(t, whole)
		want := countsOfRecords(t, plain)
		require.Equal(t, want, countsOfSummaries(t, plain), "case %d, without summaries", number)
		require.Equal(t, want, countsOfSummaries(t, whole), "case %d, with all summaries", number)
		half := maps.Clone(whole)
		maps.DeleteFunc(half, func(name string, _ *fstest.MapFile) bool { return inIndex(name) && rng.IntN(2) == 0 })
		require.Equal(t, want, countsOfSummaries(t, half), "case %d, with half of the summaries", number)
		addSummaries(t, half)
		for name, file := range half { // the end has the frames
			if inIndex(name) && rng.IntN(2) == 0 {
				data := slices.Clone(file.Data)
				data[len(data)-1] ^= 1
				half[name] = &fstest.MapFile{Data: data}
			}
		}
		require.Equal(t, want, countsOfSummaries(t, half), "case %d, with damaged summaries", number)
	}
}

func inIndex(name string) bool { return strings.HasPrefix(name, segment.SummaryDir+"/") }

// countsOfRecords returns the counts after one pass over all records.
func countsOfRecords(t testing.TB, fsys fstest.MapFS) triage.Counts {
	totals := triage.NewTotals(0)
	for _, r := range recordsOf(t, openFS(t, fsys), replay.Query{}) {
		totals.Add(r)
	}
	counts := totals.Counts()
	for i := range counts.Aborts {
		counts.Aborts[i].StandsOut = nil
	}
	return counts
}

func countsOfSummaries(t testing.TB, fsys fstest.MapFS) triage.Counts {
	reader := openFS(t, fsys)
	totals, err := reader.Totals(t.Context())
	require.NoError(t, err)
	require.Zero(t, totals.Partial)
	fold, err := reader.FoldAllTo(t.Context(), replay.Point{})
	require.NoError(t, err)
	return triage.CountsOf(totals.Totals, totals.Stays, fold.View.All())
}

// If events of a move are lost, the totals name the segments whose counts lack facts.
func TestTotals_Partial(t *testing.T) {
	fsys := logOf(t,
		[]any{destroyed{}, upserted(t, idB, checkpoint.AddLearner{VShardID: 2}, 200)},
		[]any{upserted(t, idB, checkpoint.CatchUp{VShardID: 2}, 300)},
		[]any{upserted(t, idB, checkpoint.CatchUp{VShardID: 2}, 400)},
	)
	totals, err := openFS(t, fsys).Totals(t.Context())
	require.NoError(t, err)
	require.Zero(t, totals.Partial, "the move in the damaged segment is known")
	delete(fsys, path.Join(segment.WALDir, segment.Name(1)))
	totals, err = openFS(t, fsys).Totals(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, totals.Partial)
}
