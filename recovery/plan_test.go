package recovery

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// Every phase is decided by age, membership, doubt, unknown events and earlier incarnations as the
// rules have it. The leader is known and is the source, except in the column for the transfer.
func TestPlan_EveryPhase(t *testing.T) {
	members, withoutTarget := MemberOf(1, 2, 3), MemberOf(1, 2)
	sourceLeads := func(uint64) (uint64, bool) { return 1, true }
	for _, c := range []struct {
		phase                        checkpoint.Phase
		fresh, stale, gone, noLeader string
	}{
		{checkpoint.PhaseAddLearner,
			"resume fresh CatchUp", "abort stale RemoveLearner 9/3", "abort target_gone RemoveLearner 9/3", "abort stale RemoveLearner 9/3"},
		{checkpoint.PhaseCatchUp,
			"resume fresh PromoteLearner", "abort stale RemoveLearner 9/3", "abort target_gone RemoveLearner 9/3", "abort stale RemoveLearner 9/3"},
		{checkpoint.PhasePromoteLearner,
			"resume fresh LeadershipTransfer", "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1",
			"abort target_gone RemoveVoter 9/3 RestoreLeaderHint 9/1", "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1"},
		{checkpoint.PhaseLeadershipTransfer,
			"resume fresh Cutover", "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1",
			"abort target_gone RemoveVoter 9/3 RestoreLeaderHint 9/1", "ask transfer_unknown what:leader,group_id:9"},
		{checkpoint.PhaseCutover,
			"resume past_cutover Complete", "resume past_cutover Complete", "ask target_gone_past_cutover what:membership,node:3", "resume past_cutover Complete"},
		{checkpoint.PhaseComplete,
			"clean_up complete", "clean_up complete", "clean_up complete", "clean_up complete"},
	} {
		t.Run(c.phase.String(), func(t *testing.T) {
			policy := Policy{Member: members, Leader: sourceLeads}
			first := migration(1)
			one := newHistory(t)
			one.run(first, usual, c.phase)
			require.Equal(t, c.fresh, one.plan(policy, 0))
			require.Equal(t, c.fresh, one.plan(policy, timeoutMS), "exactly at the timeout")
			require.Equal(t, c.stale, one.plan(policy, timeoutMS+1))
			require.Equal(t, c.fresh, one.plan(policy, -86_400_000), "the clock went back")
			require.Equal(t, c.stale, one.plan(Policy{Leader: sourceLeads}, timeoutMS+1), "membership is not tested")
			require.Equal(t, c.noLeader, one.plan(Policy{Member: members}, timeoutMS+1))
			require.Equal(t, c.fresh, one.plan(Policy{Member: members}, timeoutMS), "a fresh row needs no leader")
			require.Equal(t, c.gone, one.plan(Policy{Member: withoutTarget, Leader: sourceLeads}, 0))
			if c.phase < checkpoint.PhaseCutover { // the reason is the age if both the age and the membership are reasons
				require.Equal(t, c.stale, one.plan(Policy{Member: withoutTarget, Leader: sourceLeads}, timeoutMS+1))
			}

			again := newHistory(t)
			again.run(first, move{7, 2, 5, 4}, checkpoint.PhaseLeadershipTransfer)
			again.abort(first)
			again.run(first, usual, c.phase)
			require.Equal(t, c.fresh, again.plan(policy, 0), "the second incarnation")
			require.Equal(t, c.stale, again.plan(policy, timeoutMS+1), "the second incarnation")
			require.Equal(t, c.gone, again.plan(Policy{Member: withoutTarget, Leader: sourceLeads}, 0), "the second incarnation")

			lost := newHistory(t)
			lost.run(first, usual, c.phase)
			lost.lose()
			require.Equal(t, "ask in_doubt what:row", lost.plan(policy, timeoutMS+1))
			policy.TrustDoubt = true
			require.Equal(t, c.stale, lost.plan(policy, timeoutMS+1), "the doubt is trusted")
			policy.TrustDoubt = false

			one.unknown(first)
			ask := "ask unknown_event what:event,seq:" + string('0'+rune(c.phase)+1)
			require.Equal(t, ask, one.plan(policy, 0))
			require.Equal(t, ask, one.plan(policy, timeoutMS+1))
			require.Equal(t, ask, one.plan(Policy{Member: withoutTarget, Leader: sourceLeads, TrustDoubt: true}, 0))
			one.upsert(first, 1, usual.payload(c.phase))
			require.Equal(t, c.fresh, one.plan(policy, 0), "a later checkpoint supersedes the unknown event")
		})
	}
}

// The furthest phase of the incarnation decides the compensations and the questions, and the latest
// row the next phase.
func TestPlan_FurthestPhase(t *testing.T) {
	const sourceLeads, targetLeads, noLeader = 1, 3, 0
	for _, c := range []struct {
		name              string
		furthest, back    checkpoint.Phase
		leader            uint64
		fresh, stale, out string
	}{
		{"CatchUp to AddLearner", checkpoint.PhaseCatchUp, checkpoint.PhaseAddLearner, noLeader,
			"resume fresh CatchUp", "abort stale RemoveLearner 9/3", "abort target_gone RemoveLearner 9/3"},
		{"PromoteLearner to CatchUp", checkpoint.PhasePromoteLearner, checkpoint.PhaseCatchUp, noLeader,
			"resume fresh PromoteLearner", "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1", "abort target_gone RemoveVoter 9/3 RestoreLeaderHint 9/1"},
		{"LeadershipTransfer to CatchUp, nobody known to lead", checkpoint.PhaseLeadershipTransfer, checkpoint.PhaseCatchUp, noLeader,
			"resume fresh PromoteLearner", "ask transfer_unknown what:leader,group_id:9", "ask transfer_unknown what:leader,group_id:9"},
		{"LeadershipTransfer to CatchUp, the source leads", checkpoint.PhaseLeadershipTransfer, checkpoint.PhaseCatchUp, sourceLeads,
			"resume fresh PromoteLearner", "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1", "abort target_gone RemoveVoter 9/3 RestoreLeaderHint 9/1"},
		{"LeadershipTransfer to CatchUp, the target leads", checkpoint.PhaseLeadershipTransfer, checkpoint.PhaseCatchUp, targetLeads,
			"resume transfer_committed PromoteLearner", "resume transfer_committed PromoteLearner", "ask target_gone_past_cutover what:membership,node:3"},
		{"LeadershipTransfer, the target leads", checkpoint.PhaseLeadershipTransfer, checkpoint.PhaseLeadershipTransfer, targetLeads,
			"resume transfer_committed Cutover", "resume transfer_committed Cutover", "ask target_gone_past_cutover what:membership,node:3"},
		{"PromoteLearner, the target leads", checkpoint.PhasePromoteLearner, checkpoint.PhasePromoteLearner, targetLeads,
			"resume fresh LeadershipTransfer", "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1", "abort target_gone RemoveVoter 9/3 RestoreLeaderHint 9/1"},
		{"Cutover to LeadershipTransfer, the target leads", checkpoint.PhaseCutover, checkpoint.PhaseLeadershipTransfer, targetLeads,
			"ask regressed_past_cutover what:row", "ask regressed_past_cutover what:row", "ask regressed_past_cutover what:row"},
		{"Complete to AddLearner", checkpoint.PhaseComplete, checkpoint.PhaseAddLearner, noLeader,
			"ask regressed_past_cutover what:row", "ask regressed_past_cutover what:row", "ask regressed_past_cutover what:row"},
		{"Complete to Cutover", checkpoint.PhaseComplete, checkpoint.PhaseCutover, noLeader,
			"resume past_cutover Complete", "resume past_cutover Complete", "ask target_gone_past_cutover what:membership,node:3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			h.run(migration(1), usual, c.furthest)
			h.upsert(migration(1), 1, usual.payload(c.back))
			policy := Policy{Leader: func(group uint64) (uint64, bool) { return c.leader, group == 9 && c.leader != noLeader }}
			require.Equal(t, c.fresh, h.plan(policy, 0))
			require.Equal(t, c.stale, h.plan(policy, timeoutMS+1))
			policy.Member = MemberOf(1, 2)
			require.Equal(t, c.out, h.plan(policy, 0))
		})
	}
}

// The history may lack the target or the source, or have several targets.
func TestPlan_Facts(t *testing.T) {
	id := migration(1)
	for _, c := range []struct {
		name         string
		history      func(h *history)
		fresh, stale string
	}{
		{"CatchUp alone", func(h *history) { h.upsert(id, 0, usual.payload(checkpoint.PhaseCatchUp)) },
			"ask target_unknown what:target", "ask target_unknown what:target"},
		{"Complete alone", func(h *history) { h.upsert(id, 0, usual.payload(checkpoint.PhaseComplete)) },
			"clean_up complete", "clean_up complete"},
		{"PromoteLearner alone: the source is unknown", func(h *history) { h.upsert(id, 0, usual.payload(checkpoint.PhasePromoteLearner)) },
			"resume fresh LeadershipTransfer", "abort stale RemoveVoter 9/3"},
		{"another target", func(h *history) {
			h.run(id, usual, checkpoint.PhasePromoteLearner)
			h.upsert(id, 1, move{7, 1, 4, 9}.payload(checkpoint.PhasePromoteLearner))
			h.upsert(id, 2, usual.payload(checkpoint.PhasePromoteLearner))
		}, "ask target_changed what:target,seen:[{group_id:9,peer_id:3},{group_id:9,peer_id:4}]",
			"ask target_changed what:target,seen:[{group_id:9,peer_id:3},{group_id:9,peer_id:4}]"},
		{"another group at Cutover", func(h *history) {
			h.run(id, usual, checkpoint.PhaseLeadershipTransfer)
			h.upsert(id, 0, move{7, 1, 3, 10}.payload(checkpoint.PhaseCutover))
		}, "ask target_changed what:target,seen:[{group_id:9,peer_id:3},{group_id:10,peer_id:3}]",
			"ask target_changed what:target,seen:[{group_id:9,peer_id:3},{group_id:10,peer_id:3}]"},
		{"another source only", func(h *history) {
			h.run(id, move{7, 2, 3, 9}, checkpoint.PhasePromoteLearner)
			h.upsert(id, 1, usual.payload(checkpoint.PhaseAddLearner))
		}, "resume fresh CatchUp", "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			c.history(h)
			require.Equal(t, c.fresh, h.plan(Policy{}, 0))
			require.Equal(t, c.stale, h.plan(Policy{}, timeoutMS+1))
		})
	}
}

// A fact is uncertain if an event may be missing after it. Only the policy can take it as true.
func TestPlan_UncertainFacts(t *testing.T) {
	id := migration(1)
	target := newHistory(t)
	target.upsert(id, 0, usual.payload(checkpoint.PhaseAddLearner))
	target.lose()
	target.upsert(id, 0, usual.payload(checkpoint.PhaseCatchUp))
	require.Equal(t, "ask target_unknown what:target", target.plan(Policy{}, 0))
	require.Equal(t, "resume fresh PromoteLearner", target.plan(Policy{TrustDoubt: true}, 0))
	require.Equal(t, "abort stale RemoveLearner 9/3", target.plan(Policy{TrustDoubt: true}, timeoutMS+1))

	source := newHistory(t)
	source.upsert(id, 0, usual.payload(checkpoint.PhaseAddLearner))
	source.lose()
	source.upsert(id, 0, usual.payload(checkpoint.PhasePromoteLearner))
	require.Equal(t, "abort stale RemoveVoter 9/3", source.plan(Policy{}, timeoutMS+1))
	require.Equal(t, "abort stale RemoveVoter 9/3 RestoreLeaderHint 9/1", source.plan(Policy{TrustDoubt: true}, timeoutMS+1))
}

// begun returns the row of a migration whose abort was begun, with the steps that are done.
func begun(h *history, id checkpoint.MigrationID, done ...bool) projection.Row {
	row, ok := h.view.Get(id)
	require.True(h.t, ok)
	row.Facts.Abort = &projection.AbortProgress{Reason: "stale", Done: done, Compensations: []checkpoint.Compensation{
		{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3},
		{Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 1},
		{Kind: checkpoint.RemoveGhostStub, VShardID: 7},
	}[:len(done)]}
	return row
}

// An abort that was begun continues with the steps that are not recorded, whatever the age, the
// membership and the leader are.
func TestPlan_UnfinishedAbort(t *testing.T) {
	h := newHistory(t)
	h.run(migration(1), usual, checkpoint.PhaseCutover)
	targetLeads := func(uint64) (uint64, bool) { return 3, true }
	for _, policy := range []Policy{{}, {Member: MemberOf()}, {Member: MemberOf(1, 2, 3), Leader: targetLeads}} {
		for _, nowMS := range []uint64{0, startMS, startMS + timeoutMS + 1} {
			plan := func(done ...bool) string {
				return brief(Plan([]projection.Row{begun(h, migration(1), done...)}, policy, nowMS)[0])
			}
			require.Equal(t, "abort abort_unfinished", plan())
			require.Equal(t, "abort abort_unfinished RemoveVoter 9/3 RestoreLeaderHint 9/1", plan(false, false))
			require.Equal(t, "abort abort_unfinished RestoreLeaderHint 9/1 done:RemoveVoter", plan(true, false))
			require.Equal(t, "abort abort_unfinished RemoveVoter 9/3 RemoveGhostStub 0/0 done:RestoreLeaderHint", plan(false, true, false))
			require.Equal(t, "abort abort_unfinished done:RemoveVoter done:RestoreLeaderHint", plan(true, true))
		}
	}
	row := begun(h, migration(1), true, false)
	row.Facts.UnknownSeq = 17
	require.Equal(t, "ask unknown_event done:RemoveVoter what:event,seq:17", brief(Plan([]projection.Row{row}, Policy{}, startMS)[0]))
	row.Facts.UnknownSeq, row.Doubt = 0, projection.InDoubt
	require.Equal(t, "ask in_doubt done:RemoveVoter what:row", brief(Plan([]projection.Row{row}, Policy{}, startMS)[0]))
}

// If several rules match, the first decides.
func TestPlan_OrderOfRules(t *testing.T) {
	changed := []projection.Target{{GroupID: 9, PeerID: 3}, {GroupID: 9, PeerID: 4}}
	for _, c := range []struct {
		name  string
		phase checkpoint.Phase
		row   func(*projection.Row)
		want  string
	}{
		{"in doubt, and an unknown event", checkpoint.PhaseCatchUp, func(r *projection.Row) {
			r.Doubt, r.Facts.UnknownSeq = projection.InDoubt, 9
		}, "ask in_doubt what:row"},
		{"an unknown event, and an unfinished abort", checkpoint.PhaseCatchUp, func(r *projection.Row) {
			r.Facts.UnknownSeq, r.Facts.Abort = 9, &projection.AbortProgress{}
		}, "ask unknown_event what:event,seq:9"},
		{"an unfinished abort, at Complete", checkpoint.PhaseComplete, func(r *projection.Row) {
			r.Facts.Abort = &projection.AbortProgress{}
		}, "abort abort_unfinished"},
		{"an unfinished abort, and several targets", checkpoint.PhaseCatchUp, func(r *projection.Row) {
			r.Facts.Targets, r.Facts.Abort = changed, &projection.AbortProgress{}
		}, "abort abort_unfinished"},
		{"Complete, and an uncertain target", checkpoint.PhaseComplete, func(r *projection.Row) {
			r.Facts.TargetUncertain = true
		}, "clean_up complete"},
		{"Complete, and several targets", checkpoint.PhaseComplete, func(r *projection.Row) {
			r.Facts.Targets = changed
		}, "clean_up complete"},
		{"back from Cutover, and no target", checkpoint.PhaseCatchUp, func(r *projection.Row) {
			r.Facts.FurthestPhase, r.Facts.HasTarget = checkpoint.PhaseCutover, false
		}, "ask regressed_past_cutover what:row"},
		{"an uncertain target, and several targets", checkpoint.PhaseCatchUp, func(r *projection.Row) {
			r.Facts.TargetUncertain, r.Facts.Targets = true, changed
		}, "ask target_unknown what:target"},
		{"several targets, at Cutover, and the latest is gone", checkpoint.PhaseCutover, func(r *projection.Row) {
			r.Facts.Targets = changed
		}, "ask target_changed what:target,seen:[{group_id:9,peer_id:3},{group_id:9,peer_id:4}]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			h.run(migration(1), usual, c.phase)
			row, _ := h.view.Get(migration(1))
			c.row(&row)
			require.Equal(t, c.want, brief(Plan([]projection.Row{row}, Policy{Member: MemberOf()}, startMS+timeoutMS+1)[0]))
		})
	}
}

// The steps of an abort come from its events. The abort belongs to its incarnation.
func TestPlan_UnfinishedAbortOfHistory(t *testing.T) {
	h, id := newHistory(t), migration(1)
	h.run(id, usual, checkpoint.PhasePromoteLearner)
	h.add(checkpoint.AbortBegun{MigrationID: id, Reason: "stale", TimestampMS: startMS, Compensations: []checkpoint.Compensation{
		{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3},
		{Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 1},
	}})
	require.Equal(t, "abort abort_unfinished RemoveVoter 9/3 RestoreLeaderHint 9/1", h.plan(Policy{}, 0))
	for range 2 { // the same step recorded twice counts once
		h.add(checkpoint.Compensated{MigrationID: id, Step: 1, TimestampMS: startMS})
		require.Equal(t, "abort abort_unfinished RemoveVoter 9/3 done:RestoreLeaderHint", h.plan(Policy{}, 0))
	}
	h.add(checkpoint.Compensated{MigrationID: id, Step: 0, TimestampMS: startMS})
	require.Equal(t, "abort abort_unfinished done:RemoveVoter done:RestoreLeaderHint", h.plan(Policy{}, 0))
	h.abort(id)
	require.Empty(t, h.plan(Policy{}, 0))
	h.run(id, usual, checkpoint.PhaseCatchUp)
	require.Equal(t, "resume fresh PromoteLearner", h.plan(Policy{}, 0))
}

// The abort timeout is strictly greater, in whole milliseconds.
func TestPlan_AbortTimeout(t *testing.T) {
	h := newHistory(t)
	h.run(migration(1), usual, checkpoint.PhaseCatchUp)
	const fresh, stale = "resume fresh PromoteLearner", "abort stale RemoveLearner 9/3"
	for _, c := range []struct {
		timeout time.Duration
		ageMS   int64
		want    string
	}{
		{0, timeoutMS, fresh}, {0, timeoutMS + 1, stale},
		{time.Nanosecond, 0, fresh}, {time.Nanosecond, 1, stale},
		{-time.Hour, 0, fresh}, {-time.Hour, 1, stale},
		{1500 * time.Microsecond, 1, fresh}, {1500 * time.Microsecond, 2, stale},
		{2 * time.Hour, 2 * timeoutMS, fresh}, {2 * time.Hour, 2*timeoutMS + 1, stale},
	} {
		require.Equal(t, c.want, h.plan(Policy{AbortTimeout: c.timeout}, c.ageMS), "%v", c)
	}
}

// The compensations of a move depend on its furthest phase and on whether its source is known.
func TestPlan_Compensations(t *testing.T) {
	source := uint64(1)
	learner := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 9, PeerID: 3}}
	voter := []checkpoint.Compensation{{Kind: checkpoint.RemoveVoter, GroupID: 9, PeerID: 3}}
	hint := append(slices.Clone(voter), checkpoint.Compensation{Kind: checkpoint.RestoreLeaderHint, GroupID: 9, PeerID: 1})
	for phase, want := range map[checkpoint.Phase][2][]checkpoint.Compensation{ // with and without the source
		checkpoint.PhaseAddLearner:         {learner, learner},
		checkpoint.PhaseCatchUp:            {learner, learner},
		checkpoint.PhasePromoteLearner:     {hint, voter},
		checkpoint.PhaseLeadershipTransfer: {hint, voter},
		checkpoint.PhaseCutover:            {},
		checkpoint.PhaseComplete:           {},
	} {
		require.Equal(t, want[0], Compensations(phase, 9, 3, &source), phase)
		require.Equal(t, want[1], Compensations(phase, 9, 3, nil), phase)
	}
}
