package triage_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/triage"
)

// history appends records to totals. The moves of vShard n have the id n.
type history struct {
	t      *testing.T
	totals *triage.Totals
	seq    uint64
	prev   map[uint32]uint64
}

func newHistory(t *testing.T, sinceMS uint64) *history {
	return &history{t: t, totals: triage.NewTotals(sinceMS), prev: map[uint32]uint64{}}
}

func idOf(vshard uint32) (id checkpoint.MigrationID) {
	id[0] = 1
	binary.BigEndian.PutUint32(id[12:], vshard)
	return id
}

func (h *history) add(vshard uint32, e checkpoint.Event) {
	h.seq++
	h.totals.Add(replay.Record{Seq: h.seq, PrevSeq: h.prev[vshard], Event: e})
	h.prev[vshard] = h.seq
	if kind := checkpoint.KindOf(e).Effect(); kind == checkpoint.EffectEnd {
		delete(h.prev, vshard)
	}
}

func (h *history) step(vshard uint32, attempt uint32, ms uint64, p checkpoint.Payload) {
	c, err := checkpoint.New(idOf(vshard), attempt, p, ms)
	require.NoError(h.t, err)
	h.add(vshard, checkpoint.Upserted{Checkpoint: c})
}

// move records AddLearner at the time ms.
func (h *history) move(vshard uint32, target, ms uint64) {
	h.step(vshard, 0, ms, checkpoint.AddLearner{VShardID: vshard, SourceNode: 99, TargetNode: target, SourceGroup: 1})
}

func (h *history) abort(vshard uint32, ms uint64, reason string) {
	h.add(vshard, checkpoint.Aborted{MigrationID: idOf(vshard), Reason: reason, TimestampMS: ms})
}

func (h *history) summary() triage.Summary { return triage.New(h.totals.Counts(), triage.Inputs{}) }

// A node stands out if it has at least five of the aborts with a reason, and its share is over twice
// that of all moves.
func TestTotals_ANodeStandsOut(t *testing.T) {
	for name, tc := range map[string]struct {
		aborts, moves uint32 // to node 1; 90 more moves to node 2 are not aborted
		want          []uint64
	}{
		"five of ten":         {5, 10, []uint64{1}},
		"four of ten":         {4, 10, []uint64{}},
		"half of the moves":   {45, 90, []uint64{}}, // twice the share of all 180 moves
		"a little over twice": {45, 89, []uint64{1}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t, 0)
			for n := range tc.moves {
				h.move(n, 1, 1000)
				if n < tc.aborts {
					h.abort(n, 1500, "x")
				}
			}
			for n := range uint32(90) {
				h.move(1000+n, 2, 1000)
			}
			aborts := h.summary().Aborts
			require.Len(t, aborts, 1)
			require.EqualValues(t, tc.aborts, aborts[0].ByTarget[1])
			require.Equal(t, tc.want, aborts[0].StandsOut)
		})
	}
}

// The time before an abort ends with the beginning of the abort, not with the last compensation.
func TestTotals_AbortUnderWay(t *testing.T) {
	h := newHistory(t, 0)
	h.move(1, 2, 1000)
	h.add(1, checkpoint.AbortBegun{MigrationID: idOf(1), Reason: "stale", TimestampMS: 1700, Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 1, PeerID: 2}}})
	h.add(1, checkpoint.Compensated{MigrationID: idOf(1), TimestampMS: 5000})
	h.abort(1, 9000, "stale")
	aborts := h.summary().Aborts
	require.Equal(t, [2]int64{700, 700}, *aborts[0].AfterMS)
}

// Groups are by reason and phase. A move without a known target counts in no node.
func TestTotals_Groups(t *testing.T) {
	h := newHistory(t, 0)
	h.move(1, 2, 1000)
	h.abort(1, 1010, "a")
	h.move(2, 2, 1000)
	h.step(2, 0, 1020, checkpoint.CatchUp{VShardID: 2})
	h.step(2, 3, 1030, checkpoint.CatchUp{VShardID: 2})
	h.abort(2, 1025, "a") // the clock went back
	h.step(3, 0, 1020, checkpoint.CatchUp{VShardID: 3})
	h.abort(3, 1040, "a")
	h.move(4, 2, 1000)
	h.add(4, checkpoint.Removed{MigrationID: idOf(4), TimestampMS: 1100})
	s := h.summary()
	require.Equal(t, triage.Moves{Total: 4, Aborted: 3, RemovedUnfinished: 1, Retried: 1}, s.Moves)
	require.Len(t, s.Aborts, 2)
	require.Equal(t, checkpoint.PhaseCatchUp, *s.Aborts[0].Phase)
	require.Equal(t, [2]int64{-5, 20}, *s.Aborts[0].AfterMS)
	require.Equal(t, map[uint64]uint64{2: 1}, s.Aborts[0].ByTarget)
	require.Equal(t, checkpoint.PhaseAddLearner, *s.Aborts[1].Phase)
}

// A window counts the moves that have a record in it, and those in flight. The samples are those of the
// whole log.
func TestTotals_Window(t *testing.T) {
	h := newHistory(t, 2000)
	h.move(1, 2, 1000) // ends before the window
	h.step(1, 0, 1010, checkpoint.CatchUp{VShardID: 1})
	h.abort(1, 1999, "old")
	h.move(2, 2, 1500) // ends in it
	h.abort(2, 2000, "new")
	h.move(3, 2, 1500) // in flight
	h.move(4, 2, 1500) // complete before it
	h.step(4, 0, 1600, checkpoint.Complete{VShardID: 4})
	counts := h.totals.Counts()
	require.Equal(t, triage.Moves{Total: 2, Aborted: 1, InFlight: 1}, counts.Moves)
	require.Equal(t, "new", counts.Aborts[0].Reason)
	require.EqualValues(t, 2000, triage.New(counts, triage.Inputs{}).SinceMS)
	require.EqualValues(t, 2, counts.Baseline.Phase(checkpoint.PhaseAddLearner).Count())
}

// If the end of a move is lost, the move is counted, but not as in flight. Reasons beyond the limit are
// one group.
func TestTotals_Limits(t *testing.T) {
	h := newHistory(t, 0)
	h.move(1, 2, 1000)
	delete(h.prev, 1)
	h.seq++
	h.totals.Add(replay.Record{Damage: &replay.Damage{FirstSeq: h.seq, LastSeq: h.seq}})
	h.move(1, 2, 1100)
	require.Equal(t, triage.Moves{Total: 2, InFlight: 1, EndLost: 1}, h.summary().Moves)

	h = newHistory(t, 0)
	for n := range uint32(1500) {
		h.move(n, 2, 1000)
		h.abort(n, 1000, fmt.Sprintf("reason %d", n))
	}
	aborts := h.summary().Aborts
	require.Len(t, aborts, 1001)
	require.Equal(t, triage.OtherReasons, aborts[0].Reason)
	require.EqualValues(t, 500, aborts[0].Count)
	require.Nil(t, aborts[0].Phase)
}
