package recovery

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// planRows returns the decisions about the rows in short form, by the number of the migration.
func planRows(rows []projection.Row, p Policy, ageMS int64) map[byte]string {
	short := map[byte]string{}
	for _, d := range Plan(rows, p, uint64(startMS+ageMS)) {
		short[d.MigrationID()[15]] = brief(d)
	}
	return short
}

// withAge returns the row with a clock that is this much earlier.
func withAge(row projection.Row, ageMS uint64) projection.Row {
	row.Checkpoint.TimestampMS -= ageMS
	return row
}

// An abort does not remove the target of another migration that is not aborted too. Near misses are
// other groups, other peers, the source, and a move that was complete before.
func TestPlan_PeerShared(t *testing.T) {
	first, second := migration(1), migration(2)
	const ask = "ask peer_shared what:peer,group_id:9,peer_id:3,shared_with:[01000000-0000-0000-0000-000000000002]"
	const abort = "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1"
	for _, c := range []struct {
		name    string
		history func(h *history)
		want    string
	}{
		{"the same target, resumed", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseCatchUp)
		}, ask},
		{"the same target, past Cutover", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseCutover)
		}, ask},
		{"the same target, in doubt", func(h *history) {
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseCatchUp)
			h.lose()
			h.run(first, usual, checkpoint.PhasePromoteLearner)
		}, ask},
		{"the same target, complete after the first began", func(h *history) {
			h.upsert(first, 0, usual.payload(checkpoint.PhaseAddLearner))
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseComplete)
			h.upsert(first, 0, usual.payload(checkpoint.PhasePromoteLearner))
		}, ask},
		{"the same target, complete before the first began", func(h *history) {
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseComplete)
			h.run(first, usual, checkpoint.PhasePromoteLearner)
		}, abort},
		{"the same target, before Complete when the first began", func(h *history) {
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseCutover)
			h.run(first, usual, checkpoint.PhasePromoteLearner)
		}, ask},
		{"complete before this incarnation, and after an earlier one of the same id", func(h *history) {
			h.run(first, usual, checkpoint.PhaseCatchUp)
			h.abort(first)
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseComplete)
			h.run(first, usual, checkpoint.PhasePromoteLearner)
		}, abort},
		{"the same target, removed", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseComplete)
			h.add(checkpoint.Removed{MigrationID: second, TimestampMS: startMS})
		}, abort},
		{"one of several targets", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 1, 3, 9}, checkpoint.PhaseCatchUp)
			h.upsert(second, 1, move{8, 1, 4, 9}.payload(checkpoint.PhaseAddLearner))
		}, ask},
		{"another group", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 1, 3, 10}, checkpoint.PhaseCatchUp)
		}, abort},
		{"another peer", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 1, 4, 9}, checkpoint.PhaseCatchUp)
		}, abort},
		{"the target is the source of the other", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 3, 4, 9}, checkpoint.PhaseCatchUp)
		}, abort},
		{"the source is the target of the other", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.run(second, move{8, 4, 1, 9}, checkpoint.PhaseCatchUp)
		}, abort},
		{"the other has no target", func(h *history) {
			h.run(first, usual, checkpoint.PhasePromoteLearner)
			h.upsert(second, 0, checkpoint.CatchUp{VShardID: 8})
		}, abort},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			c.history(h)
			row, ok := h.view.Get(first)
			require.True(t, ok)
			rows := []projection.Row{withAge(row, timeoutMS+1)}
			if other, ok := h.view.Get(second); ok {
				rows = append(rows, other)
			}
			require.Equal(t, c.want, planRows(rows, Policy{}, 0)[1])
		})
	}
}

// Two aborts may remove the same peer. An unfinished abort asks like any other, but only about the
// steps that remain.
func TestPlan_PeerSharedByAborts(t *testing.T) {
	h := newHistory(t)
	h.run(migration(1), usual, checkpoint.PhasePromoteLearner)
	h.run(migration(2), move{8, 1, 3, 9}, checkpoint.PhasePromoteLearner)
	require.Equal(t, map[byte]string{
		1: "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1", 2: "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1",
	}, planRows(h.view.All(), Policy{}, timeoutMS+1))

	other, _ := h.view.Get(migration(2))
	require.Equal(t, "ask peer_shared what:peer,group_id:9,peer_id:3,shared_with:[01000000-0000-0000-0000-000000000002]",
		planRows([]projection.Row{begun(h, migration(1), false, false), other}, Policy{}, 0)[1])
	require.Equal(t, "abort abort_unfinished RestoreLeaderHint 9/1 done:RemoveVoter",
		planRows([]projection.Row{begun(h, migration(1), true, false), other}, Policy{}, 0)[1])

	h.run(migration(3), move{10, 1, 3, 9}, checkpoint.PhaseCutover)
	require.Equal(t, map[byte]string{
		1: "ask peer_shared what:peer,group_id:9,peer_id:3,shared_with:[01000000-0000-0000-0000-000000000003]",
		2: "ask peer_shared what:peer,group_id:9,peer_id:3,shared_with:[01000000-0000-0000-0000-000000000003]",
		3: "resume past_cutover Complete",
	}, planRows(h.view.All(), Policy{}, timeoutMS+1))
}

// A learner is shared like a voter. An abort with several shared peers asks about each once.
func TestPlan_PeersShared(t *testing.T) {
	h := newHistory(t)
	h.run(migration(1), usual, checkpoint.PhaseCatchUp)
	h.run(migration(2), move{8, 1, 3, 9}, checkpoint.PhaseCatchUp)
	h.run(migration(3), move{10, 1, 4, 9}, checkpoint.PhaseCatchUp)
	row := begun(h, migration(1), false, false, false)
	row.Facts.Abort.Compensations = []checkpoint.Compensation{
		{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 4},
		{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3},
		{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3},
	}
	second, _ := h.view.Get(migration(2))
	third, _ := h.view.Get(migration(3))
	require.Equal(t, "ask peer_shared"+
		" what:peer,group_id:9,peer_id:4,shared_with:[01000000-0000-0000-0000-000000000003]"+
		" what:peer,group_id:9,peer_id:3,shared_with:[01000000-0000-0000-0000-000000000002]",
		planRows([]projection.Row{third, second, row}, Policy{}, 0)[1])
}

// Two migrations of one vShard do not both resume. A migration that is aborted, cleaned up or asked
// about does not hinder the other.
func TestPlan_VShardShared(t *testing.T) {
	ids := []checkpoint.MigrationID{migration(1), migration(2), migration(3)}
	both := func(other string) string {
		return "ask vshard_shared what:vshard,vshard_id:7,shared_with:[" + other + "]"
	}
	const one, two, three = "01000000-0000-0000-0000-000000000001", "01000000-0000-0000-0000-000000000002", "01000000-0000-0000-0000-000000000003"
	for _, c := range []struct {
		name    string
		history func(h *history)
		want    map[byte]string
	}{
		{"both fresh", func(h *history) {
			h.run(ids[0], usual, checkpoint.PhaseCatchUp)
			h.run(ids[1], move{7, 1, 2, 9}, checkpoint.PhaseCatchUp)
		}, map[byte]string{1: both(two), 2: both(one)}},
		{"one past Cutover", func(h *history) {
			h.run(ids[0], usual, checkpoint.PhaseCutover)
			h.run(ids[1], move{7, 1, 2, 9}, checkpoint.PhaseCatchUp)
		}, map[byte]string{1: both(two), 2: both(one)}},
		{"three", func(h *history) {
			h.run(ids[0], usual, checkpoint.PhaseCatchUp)
			h.run(ids[1], move{7, 1, 2, 9}, checkpoint.PhaseCatchUp)
			h.run(ids[2], move{7, 1, 4, 9}, checkpoint.PhaseAddLearner)
		}, map[byte]string{1: both(two + "," + three), 2: both(one + "," + three), 3: both(one + "," + two)}},
		{"another vShard", func(h *history) {
			h.run(ids[0], usual, checkpoint.PhaseCatchUp)
			h.run(ids[1], move{8, 1, 2, 9}, checkpoint.PhaseCatchUp)
		}, map[byte]string{1: "resume fresh PromoteLearner", 2: "resume fresh PromoteLearner"}},
		{"one complete", func(h *history) {
			h.run(ids[0], usual, checkpoint.PhaseComplete)
			h.run(ids[1], move{7, 1, 2, 9}, checkpoint.PhaseCatchUp)
		}, map[byte]string{1: "clean_up complete", 2: "resume fresh PromoteLearner"}},
		{"one with an unknown event", func(h *history) {
			h.run(ids[0], usual, checkpoint.PhaseCatchUp)
			h.unknown(ids[0])
			h.run(ids[1], move{7, 1, 2, 9}, checkpoint.PhaseCatchUp)
		}, map[byte]string{1: "ask unknown_event what:event,seq:3", 2: "resume fresh PromoteLearner"}},
		{"one whose peer is shared", func(h *history) {
			h.run(ids[0], move{7, 1, 4, 9}, checkpoint.PhaseCatchUp)
			h.run(ids[1], usual, checkpoint.PhaseCatchUp)
			h.run(ids[2], move{8, 1, 4, 9}, checkpoint.PhaseCatchUp)
		}, map[byte]string{
			1: "ask peer_shared what:peer,group_id:9,peer_id:4,shared_with:[" + three + "]",
			2: "resume fresh PromoteLearner", 3: "resume fresh PromoteLearner",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			c.history(h)
			rows := h.view.All()
			if c.name == "one whose peer is shared" {
				rows[0] = withAge(rows[0], timeoutMS+1)
			}
			require.Equal(t, c.want, planRows(rows, Policy{}, 0))
		})
	}
	h := newHistory(t)
	h.run(ids[0], usual, checkpoint.PhaseCutover)
	h.run(ids[1], move{7, 1, 2, 9}, checkpoint.PhaseCatchUp)
	require.Equal(t, map[byte]string{1: "resume past_cutover Complete", 2: "abort stale RemoveLearner 9/2"},
		planRows(h.view.All(), Policy{}, timeoutMS+1))
}

// If a lost event may belong to any migration, the last decision asks for those without a row,
// whatever the policy says about doubt.
func TestPlan_UnnamedInDoubt(t *testing.T) {
	h := newHistory(t)
	h.run(migration(1), usual, checkpoint.PhaseCatchUp)
	const unnamed = "ask unnamed_in_doubt what:migrations"
	require.Equal(t, "resume fresh PromoteLearner\n"+unnamed, h.plan(Policy{UnnamedInDoubt: true}, 0))
	require.Equal(t, "resume fresh PromoteLearner\n"+unnamed, h.plan(Policy{UnnamedInDoubt: true, TrustDoubt: true}, 0))
	require.Equal(t, "resume fresh PromoteLearner", h.plan(Policy{}, 0))
	require.Equal(t, unnamed, newHistory(t).plan(Policy{UnnamedInDoubt: true}, 0))
	require.Empty(t, newHistory(t).plan(Policy{}, 0))
}

// The plan depends only on its arguments: not on the order of the rows, and not on an earlier call.
func TestPlan_IsDeterministic(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := newHistory(t)
	for n := range byte(200) {
		m := move{uint32(random.IntN(60)), 1, uint64(random.IntN(5)), uint64(random.IntN(20))}
		h.run(migration(n), m, checkpoint.Phase(1+random.IntN(6)))
	}
	rows := h.view.All()
	for i := range rows {
		rows[i] = withAge(rows[i], uint64(random.IntN(2*timeoutMS)))
	}
	policy := Policy{Member: MemberOf(0, 1, 2, 3), UnnamedInDoubt: true}
	want := Plan(rows, policy, startMS)
	reasons := map[Reason]bool{}
	for _, d := range want {
		reasons[d.Reason] = true
	}
	require.Subset(t, reasons, map[Reason]bool{PeerShared: true, VShardShared: true, Stale: true, TargetGone: true, Complete: true, PastCutover: true})
	for range 20 {
		random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		require.Equal(t, want, Plan(rows, policy, startMS))
	}
}

// BenchmarkPlan plans 10,000 rows, half of which are stale. Each target and each vShard has ten rows.
func BenchmarkPlan(b *testing.B) {
	view := projection.New()
	for n := range uint64(10_000) {
		id := checkpoint.MigrationID{byte(n * 7), 1, byte(n >> 8), byte(n)}
		c, err := checkpoint.New(id, 0, checkpoint.AddLearner{VShardID: uint32(n % 1000), SourceNode: 1, TargetNode: n % 10, SourceGroup: n % 1000}, startMS-timeoutMS*(n%2))
		if err != nil {
			b.Fatal(err)
		}
		view.Apply(n+1, 0, checkpoint.Upserted{Checkpoint: c})
	}
	rows := view.All()
	policy := Policy{Member: MemberOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), Leader: func(uint64) (uint64, bool) { return 1, true }}
	for b.Loop() {
		Plan(rows, policy, startMS+1)
	}
}
