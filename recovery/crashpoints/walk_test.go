package crashpoints

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
	"migrationlog/recovery"
	"migrationlog/recovery/model"
	"migrationlog/replay"
)

// history is a history that a walk follows.
type history struct {
	view *projection.View
	walk *Walk
	last map[checkpoint.MigrationID]uint64 // seq of the last event of the incarnation
	seq  uint64
}

func newHistory(policy recovery.Policy, plan Planner) *history {
	return &history{view: projection.New(), walk: New(policy, plan), last: map[checkpoint.MigrationID]uint64{}}
}

func (h *history) add(e checkpoint.Event) []Finding {
	h.seq++
	id := e.Migration()
	h.view.Apply(h.seq, h.last[id], e)
	h.last[id] = h.seq
	if checkpoint.KindOf(e).Effect() == checkpoint.EffectEnd {
		delete(h.last, id)
	}
	return h.walk.Add(Event{Seq: h.seq, ClockMS: e.WallMS(), MigrationID: id, Event: e, View: h.view})
}

// The recording of real moves is cut after each event. No cut is unsafe, at once or when the rows
// are stale, with and without the unrecorded effects, and with and without the target.
func TestWalk_Recording(t *testing.T) {
	lines, err := os.ReadFile("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	h := newHistory(recovery.Policy{}, recovery.Plan)
	for decoder := json.NewDecoder(bytes.NewReader(lines)); decoder.More(); {
		var r replay.Record
		require.NoError(t, decoder.Decode(&r))
		row, has := h.view.Get(r.Event.Migration())
		if u, ok := r.Event.(checkpoint.Upserted); ok && has && row.Checkpoint.Phase() == u.Checkpoint.Phase() && row.Checkpoint.Attempt == u.Checkpoint.Attempt {
			continue // an import skips the duplicate
		}
		require.Empty(t, h.add(r.Event), "cut after #%d", h.seq)
	}
	require.EqualValues(t, 9502, h.walk.Cuts)
	require.Greater(t, h.walk.Scenarios, 5*h.walk.Cuts)
}

const (
	startMS   = 1795399697649
	timeoutMS = 3_600_000
)

func migration(n byte) checkpoint.MigrationID { return checkpoint.MigrationID{0: 1, 15: n} }

// moves has the moves of the small histories. The first two have the same target, and the first and
// the third the same vShard.
var moves = []model.Move{
	{MigrationID: migration(1), VShardID: 7, Group: 9, Source: 1, Target: 3},
	{MigrationID: migration(2), VShardID: 8, Group: 9, Source: 1, Target: 3},
	{MigrationID: migration(3), VShardID: 7, Group: 9, Source: 1, Target: 4},
}

// run returns the checkpoints of a move up to a phase.
func run(m model.Move, through checkpoint.Phase, clockMS uint64) (events []checkpoint.Event) {
	for p := checkpoint.PhaseAddLearner; p <= through; p++ {
		c, err := checkpoint.New(m.MigrationID, 0, m.Payload(p), clockMS)
		if err != nil {
			panic(err)
		}
		events = append(events, checkpoint.Upserted{Checkpoint: c})
	}
	return events
}

// alone plans each row without the others: it lacks the rules 13 and 14.
func alone(rows []projection.Row, policy recovery.Policy, nowMS uint64) (decisions []recovery.Decision) {
	for i := range rows {
		decisions = append(decisions, recovery.Plan(rows[i:i+1], policy, nowMS)...)
	}
	return decisions
}

// changing returns a planner whose decisions are those of recovery.Plan after a change.
func changing(change func(*recovery.Decision)) Planner {
	return func(rows []projection.Row, policy recovery.Policy, nowMS uint64) []recovery.Decision {
		decisions := recovery.Plan(rows, policy, nowMS)
		for i := range decisions {
			change(&decisions[i])
		}
		return decisions
	}
}

// Each planner makes one kind of mistake, which the last cut of a small history shows.
// recovery.Plan makes none of them.
func TestWalk_FindsMistakesOfPlanners(t *testing.T) {
	remove := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}}
	begun := checkpoint.AbortBegun{MigrationID: migration(1), Compensations: remove, TimestampMS: startMS}
	done := checkpoint.Compensated{MigrationID: migration(1), TimestampMS: startMS}
	forget := func(r *projection.Row) { r.Facts.Abort = nil }
	for _, test := range []struct {
		name    string
		history [][]checkpoint.Event
		plan    Planner
		kind    model.Kind
		detail  string
	}{
		{
			"undoes a transfer, because it does not ask who leads",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseLeadershipTransfer, startMS)},
			func(rows []projection.Row, policy recovery.Policy, nowMS uint64) []recovery.Decision {
				policy.Leader = func(uint64) (uint64, bool) { return 1, true }
				return recovery.Plan(rows, policy, nowMS)
			}, model.PastCutover, "undoes the move of vShard 7, which node 3 leads",
		},
		{
			"removes the source instead of the target, which is not yet added",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseAddLearner, startMS)},
			changing(func(d *recovery.Decision) {
				if d.Reason == recovery.Stale && d.Inputs.GroupLeader != nil {
					d.Compensations = append(d.Compensations, checkpoint.Compensation{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 1})
				}
			}), model.PeerInUse, "removes node 1 from group 9, which uses it",
		},
		{
			"forgets the learner, which the latest row lacks",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseCatchUp, startMS)},
			changing(func(d *recovery.Decision) {
				if d.Row.Checkpoint.Phase() == checkpoint.PhaseCatchUp && d.Action == recovery.Abort {
					d.Compensations = nil
				}
			}), model.Leak, "leaves node 3 in group 9",
		},
		{
			"resumes two migrations of one vShard",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseCatchUp, startMS), run(moves[2], checkpoint.PhaseAddLearner, startMS)},
			alone, model.TwoCoordinators, "acts on vShard 7 together with 01000000-0000-0000-0000-000000000001",
		},
		{
			"resumes although the target is gone",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseAddLearner, startMS)},
			func(rows []projection.Row, policy recovery.Policy, nowMS uint64) []recovery.Decision {
				policy.Member = nil
				return recovery.Plan(rows, policy, nowMS)
			}, NotConverging, "catch up: node 3 is no member of the cluster",
		},
		{
			"resumes a migration whose abort has begun",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseCatchUp, startMS+timeoutMS), {begun}},
			func(rows []projection.Row, policy recovery.Policy, nowMS uint64) []recovery.Decision {
				decisions := recovery.Plan(rows, policy, nowMS)
				for i := range decisions {
					if d := &decisions[i]; d.Reason == recovery.AbortUnfinished && d.Row.Seq < d.Row.LastSeq && nowMS <= startMS+timeoutMS {
						forget(&rows[i])
						d.Action, d.NextPhase = recovery.Resume, recovery.Plan(rows[i:i+1], recovery.Policy{}, startMS)[0].NextPhase
					}
				}
				return decisions
			}, NotConverging, "the migration is resumed, but its abort was begun, so the log refuses its checkpoints",
		},
		{
			"repeats a recorded step of an abort",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseCatchUp, startMS), {begun, done}},
			changing(func(d *recovery.Decision) {
				if d.Reason == recovery.AbortUnfinished && len(d.Compensated) > 0 && d.Row.LastSeq == 4 {
					d.Compensations = d.Compensated
				}
			}), NotConverging, "the decision has the step RemoveLearner, which the abort that was begun does not have or has recorded",
		},
		{
			"resumes with the phase of the row",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseCutover, startMS)},
			changing(func(d *recovery.Decision) {
				if d.Reason == recovery.PastCutover {
					d.NextPhase = d.Row.Checkpoint.Phase()
				}
			}), NotConverging, "the decision resumes with Cutover, which does not follow Cutover",
		},
		{
			"removes a row before Complete",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseCutover, startMS)},
			changing(func(d *recovery.Decision) {
				if d.Reason == recovery.PastCutover {
					d.Action = recovery.CleanUp
				}
			}), NotConverging, "the row is removed at Cutover, before Complete",
		},
		{
			"does nothing",
			[][]checkpoint.Event{run(moves[0], checkpoint.PhaseComplete, startMS)},
			changing(func(d *recovery.Decision) {
				if d.Reason == recovery.Complete {
					d.Action = "wait"
				}
			}), NotConverging, "the migration has not ended after 8 plans",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad, good := newHistory(recovery.Policy{}, test.plan), newHistory(recovery.Policy{}, recovery.Plan)
			var found []Finding
			for _, events := range test.history {
				for _, e := range events {
					found = append(found, bad.add(e)...)
					require.Empty(t, good.add(e))
				}
			}
			require.NotEmpty(t, found)
			for _, f := range found {
				require.Equal(t, test.kind, f.Kind)
				require.Equal(t, test.detail, f.Detail)
				require.Equal(t, f.MigrationID, f.Decision.MigrationID())
				if f.Kind == model.TwoCoordinators {
					require.Equal(t, moves[0].MigrationID, f.With)
				}
			}
			require.Equal(t, bad.seq, found[len(found)-1].AfterSeq)
		})
	}
}

// If the targets have left the cluster, the source is still a member, also if an abort returns the
// leadership to it.
func TestWalk_TargetGoneKeepsTheSource(t *testing.T) {
	targetGone := false
	h := newHistory(recovery.Policy{}, func(rows []projection.Row, policy recovery.Policy, nowMS uint64) []recovery.Decision {
		require.True(t, policy.Member(moves[0].Source))
		targetGone = targetGone || !policy.Member(moves[0].Target)
		return recovery.Plan(rows, policy, nowMS)
	})
	for _, e := range append(run(moves[0], checkpoint.PhasePromoteLearner, startMS), checkpoint.AbortBegun{
		MigrationID: moves[0].MigrationID, TimestampMS: startMS, Compensations: []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: moves[0].Group, PeerID: moves[0].Target},
			{Kind: checkpoint.RestoreLeaderHint, GroupID: moves[0].Group, PeerID: moves[0].Source},
		},
	}) {
		require.Empty(t, h.add(e))
	}
	require.True(t, targetGone)
}

// An abort that would remove the peer of another migration asks, but only as long as the other has a
// row. A coordinator that cleans up the other before the question is answered aborts next time.
func TestWalk_SharedPeerAfterCleanUp(t *testing.T) {
	for _, plan := range []Planner{recovery.Plan, alone} {
		h := newHistory(recovery.Policy{}, plan)
		var found []Finding
		for _, e := range append(run(moves[0], checkpoint.PhaseCatchUp, startMS), run(moves[1], checkpoint.PhaseAddLearner, startMS+1000)...) {
			require.Empty(t, found)
			found = h.add(e)
		}
		require.Len(t, found, 1)
		require.Equal(t, model.PeerInUse, found[0].Kind)
		require.Equal(t, moves[0].MigrationID, found[0].MigrationID)
		require.Equal(t, recovery.Stale, found[0].Decision.Reason)
	}
}

// A planner that cleans up nothing as long as a peer is asked about is safe. For that, the walk
// relates an abort to the rows at Complete.
func TestWalk_SharedPeerWithoutCleanUp(t *testing.T) {
	holds := func(rows []projection.Row, policy recovery.Policy, nowMS uint64) []recovery.Decision {
		decisions := recovery.Plan(rows, policy, nowMS)
		if slices.ContainsFunc(decisions, func(d recovery.Decision) bool { return d.Reason == recovery.PeerShared }) {
			for i := range decisions {
				if decisions[i].Action == recovery.CleanUp {
					decisions[i].Action = recovery.AskFirst
				}
			}
		}
		return decisions
	}
	h := newHistory(recovery.Policy{}, holds)
	first, second := run(moves[0], checkpoint.PhasePromoteLearner, startMS), run(moves[1], checkpoint.PhaseComplete, startMS+1000)
	for _, e := range slices.Concat(first[:1], second, first[1:]) {
		require.Empty(t, h.add(e), "cut after #%d", h.seq)
	}
}

// Two migrations that are both aborted may have a peer in common. An abort may have many steps.
func TestWalk_Aborts(t *testing.T) {
	steps := slices.Repeat([]checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}}, 20)
	first := run(moves[0], checkpoint.PhaseCatchUp, startMS)
	for _, events := range [][]checkpoint.Event{
		run(moves[1], checkpoint.PhaseCatchUp, startMS),
		{checkpoint.AbortBegun{MigrationID: migration(1), Compensations: steps, TimestampMS: startMS}},
	} {
		h := newHistory(recovery.Policy{}, recovery.Plan)
		for _, e := range slices.Concat(first, events) {
			require.Empty(t, h.add(e), "cut after #%d", h.seq)
		}
	}
}

// Two rows at LeadershipTransfer in one group are related: the second transfer takes the leadership
// from the first target, whose move is then undone.
func TestWalk_LeadershipOfGroup(t *testing.T) {
	other := model.Move{MigrationID: migration(4), VShardID: 8, Group: 9, Source: 1, Target: 4}
	h := newHistory(recovery.Policy{}, recovery.Plan)
	var found []Finding
	for _, e := range slices.Concat(run(moves[0], checkpoint.PhaseLeadershipTransfer, startMS), run(other, checkpoint.PhaseLeadershipTransfer, startMS)) {
		require.Empty(t, found)
		found = h.add(e)
	}
	require.Len(t, found, 1)
	require.Equal(t, model.PastCutover, found[0].Kind)
	require.Equal(t, moves[0].MigrationID, found[0].MigrationID)
	require.Equal(t, []checkpoint.MigrationID{migration(1), migration(4)}, found[0].Unrecorded)
}

// The walk assumes the unrecorded effects of nobody, of everybody, and of each migration alone.
func TestWalk_Unrecorded(t *testing.T) {
	h := newHistory(recovery.Policy{}, recovery.Plan)
	for _, e := range slices.Concat(run(moves[0], checkpoint.PhaseCatchUp, startMS), run(moves[1], checkpoint.PhasePromoteLearner, startMS), run(moves[2], checkpoint.PhaseCutover, startMS)) {
		h.add(e)
	}
	require.Equal(t, [][]checkpoint.MigrationID{nil, {migration(1), migration(3)}, {migration(1)}, {migration(3)}},
		h.walk.unrecorded([]checkpoint.MigrationID{migration(1), migration(2), migration(3)}))
}

// After a snapshot, the walk knows the rows whose events were lost, and no longer those that have
// ended.
func TestWalk_Replace(t *testing.T) {
	forgets := changing(func(d *recovery.Decision) {
		if d.MigrationID() == migration(1) && d.Action == recovery.Abort {
			d.Compensations = nil
		}
	})
	var found []Finding
	for _, plan := range []Planner{recovery.Plan, forgets} {
		h := newHistory(recovery.Policy{}, plan)
		for _, e := range run(moves[1], checkpoint.PhasePromoteLearner, startMS) {
			require.Empty(t, h.add(e))
		}
		first := run(moves[0], checkpoint.PhaseCatchUp, startMS)
		h.view.Apply(4, 0, first[0])
		h.view.Apply(5, 3, checkpoint.Removed{MigrationID: migration(2)})
		h.seq, h.last[migration(1)] = 5, 4
		h.walk.Replace(h.view)
		found = append(found, h.add(first[1])...)
		require.Len(t, h.walk.rows, 1)
	}
	require.Len(t, found, 1)
	require.Equal(t, "leaves node 3 in group 9", found[0].Detail)
}

// In random histories whose migrations share vShards and peers, the rows that the walk looks at are
// enough: planning all rows at each cut finds no other mistakes.
func TestWalk_RelatedRowsAreEnough(t *testing.T) {
	kinds := map[model.Kind]int{}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 17))
		h := newHistory(recovery.Policy{}, alone)
		found := map[string]bool{}
		key := func(f Finding) string { return fmt.Sprintf("%s %s #%d", f.Kind, f.MigrationID, f.Decision.Row.LastSeq) }
		for range 40 {
			e := randomEvent(h, random)
			for _, f := range h.add(e) {
				found[key(f)] = true
				kinds[f.Kind]++
			}
			var all []checkpoint.MigrationID
			for _, row := range h.view.All() {
				all = append(all, row.Checkpoint.MigrationID)
			}
			for _, f := range h.walk.check(Event{Seq: h.seq, ClockMS: e.WallMS(), View: h.view}, all) {
				require.Contains(t, found, key(f), "seed %d, cut after #%d: %s", seed, h.seq, f.Detail)
			}
		}
	}
	require.Positive(t, kinds[model.PeerInUse])
	require.Positive(t, kinds[model.TwoCoordinators])
}

// randomEvent returns the next event of one of four migrations in one group. No row stays at
// LeadershipTransfer, because the decision about it depends on every transfer in the group.
func randomEvent(h *history, random *rand.Rand) checkpoint.Event {
	id := migration(byte(1 + random.IntN(4)))
	m := model.Move{MigrationID: id, VShardID: uint32(random.IntN(3)), Group: 1, Source: 9, Target: uint64(random.IntN(3))}
	row, has := h.view.Get(id)
	clockMS := startMS + h.seq*timeoutMS/4
	switch {
	case !has:
		return run(m, checkpoint.PhaseAddLearner, clockMS)[0]
	case row.Facts.Abort != nil:
		return checkpoint.Aborted{MigrationID: id, Compensations: row.Facts.Abort.Compensations, TimestampMS: clockMS}
	case row.Checkpoint.Phase() == checkpoint.PhaseComplete:
		return checkpoint.Removed{MigrationID: id, TimestampMS: clockMS}
	case random.IntN(5) == 0 && row.Checkpoint.Phase() < checkpoint.PhaseLeadershipTransfer:
		return checkpoint.AbortBegun{MigrationID: id, TimestampMS: clockMS, Compensations: []checkpoint.Compensation{
			{Kind: checkpoint.RemoveVoter, GroupID: row.Facts.SourceGroup, PeerID: row.Facts.TargetNode},
		}}
	}
	m.VShardID, m.Target = row.Checkpoint.Payload.Shard(), row.Facts.TargetNode
	next := row.Checkpoint.Phase() + 1
	if next == checkpoint.PhaseLeadershipTransfer {
		next = checkpoint.PhaseCutover
	}
	events := run(m, next, clockMS)
	return events[len(events)-1]
}
