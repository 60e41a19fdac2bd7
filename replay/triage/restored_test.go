package triage_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/triage"
)

// A restored row is a move, with the time of an abort that began before the history. Its tries before
// the history and the digests do not count.
func TestTotals_Restored(t *testing.T) {
	restored := func(vshard uint32, p checkpoint.Payload, abort *checkpoint.RestoredAbort) checkpoint.Event {
		c, err := checkpoint.New(idOf(vshard), 3, p, 1000)
		require.NoError(t, err)
		f := checkpoint.RestoredFacts{
			HasTarget: true, TargetNode: 2, SourceGroup: 1, FurthestPhase: c.Phase(), RecordedPhases: 1 << (c.Phase() - 1), Abort: abort,
		}
		f.HighestAttempt[c.Phase()-1] = 3
		return checkpoint.Restored{Checkpoint: c, Facts: f}
	}
	h := newHistory(t, 0)
	h.add(1, restored(1, checkpoint.CatchUp{VShardID: 1}, &checkpoint.RestoredAbort{Reason: "stale", TimestampMS: 1700}))
	h.add(2, restored(2, checkpoint.Complete{VShardID: 2}, nil))
	h.add(3, restored(3, checkpoint.CatchUp{VShardID: 3}, nil))
	h.seq++
	h.totals.Add(replay.Record{Seq: h.seq, Event: checkpoint.Digest{TimestampMS: 2000}})
	h.abort(1, 9000, "stale")
	s := h.summary()
	require.Equal(t, triage.Moves{Total: 3, Done: 1, Aborted: 1, InFlight: 1}, s.Moves)
	require.Equal(t, [2]int64{700, 700}, *s.Aborts[0].AfterMS)
	require.Equal(t, map[uint64]uint64{2: 1}, s.Aborts[0].ByTarget)
}
