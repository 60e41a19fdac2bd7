package check

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/replay"
	"migrationlog/replay/diff"
)

var (
	moved  = checkpoint.MigrationID{15: 1}
	undone = checkpoint.MigrationID{15: 2}
)

// replica returns a replica of group 1.
func replica(nodeNumber uint64) shard.ReplicaID {
	return shard.ReplicaID{Node: nodeNumber, Group: 1, Tag: shard.FirstTag}
}

// good returns the evidence of a run with a completed and an aborted move. A second coordinator, with
// epoch 3, has continued both.
func good() Evidence {
	steps := []checkpoint.Compensation{
		{Kind: checkpoint.RemoveVoter, GroupID: 1, PeerID: 5}, {Kind: checkpoint.RestoreLeaderHint, GroupID: 1, PeerID: 1},
	}
	e := Evidence{
		Kills: 1,
		Moves: []Move{{moved, coordinator.Complete}, {undone, coordinator.Aborted}},
		Compensations: []node.Compensation{
			{MigrationID: undone, Step: 0, Epoch: 2, KnownIndex: 105},
			{MigrationID: undone, Step: 1, Epoch: 2, KnownIndex: 107}, // the coordinator died before its record
			{MigrationID: undone, Step: 1, Epoch: 3, KnownIndex: 108},
		},
		Clients:   []Client{{Name: "a", Group: 1, Acknowledged: 3}},
		Histories: []diff.Histories{{Agreement: diff.Same}, {Agreement: diff.Same}},
		Members:   []coordinator.Status{{DigestIndex: 9, Digest: "d"}, {DigestIndex: 9, Digest: "d"}, {DigestIndex: 9, Digest: "d"}},
	}
	state := shard.State{Writes: map[string][]uint64{"a": {1, 2, 3, 4}}} // the answer to the last write was lost
	g := Group{ID: 1, Replicas: 3, State: state}
	for n := range uint64(3) {
		g.View.Voters = append(g.View.Voters, replica(n+1))
		g.Local = append(g.Local, node.Local{Hosted: replica(n + 1), State: state})
	}
	e.Groups = []Group{g}
	upsert := func(id checkpoint.MigrationID, p checkpoint.Payload, epoch uint64) {
		e.append(checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: p}, Epoch: epoch})
	}
	upsert(undone, checkpoint.AddLearner{VShardID: 1}, 2)
	upsert(undone, checkpoint.CatchUp{VShardID: 1}, 2)
	upsert(undone, checkpoint.PromoteLearner{VShardID: 1}, 2)
	upsert(undone, checkpoint.LeadershipTransfer{VShardID: 1}, 2)
	e.append(checkpoint.AbortBegun{MigrationID: undone, Compensations: steps, Epoch: 2})
	e.append(checkpoint.Compensated{MigrationID: undone, Step: 0, Epoch: 2})
	upsert(moved, checkpoint.AddLearner{VShardID: 2}, 2)
	upsert(moved, checkpoint.CatchUp{VShardID: 2}, 2)
	e.append(checkpoint.EpochRaised{MigrationID: checkpoint.MigrationID{15: 255}, Epoch: 3})
	e.append(checkpoint.Compensated{MigrationID: undone, Step: 1, Epoch: 3})
	e.append(checkpoint.Aborted{MigrationID: undone, Compensations: steps, Epoch: 3})
	upsert(moved, checkpoint.PromoteLearner{VShardID: 2}, 3)
	upsert(moved, checkpoint.LeadershipTransfer{VShardID: 2}, 3)
	upsert(moved, checkpoint.Cutover{VShardID: 2}, 3)
	upsert(moved, checkpoint.Complete{VShardID: 2}, 3)
	e.append(checkpoint.Removed{MigrationID: moved, Epoch: 3})
	return e
}

// append appends an event with the raft index 101 for the first one, 102 for the second one, and so on.
func (e *Evidence) append(event checkpoint.Event) {
	n := uint64(len(e.History) + 1)
	e.History = append(e.History, replay.Record{Seq: n, RaftIndex: 100 + n, Event: event})
}

// remove removes the event with a raft index.
func (e *Evidence) remove(index int) { e.History = slices.Delete(e.History, index-101, index-100) }

func TestRun_PassesForGoodEvidence(t *testing.T) {
	r := Run(good())
	require.True(t, r.Passed(), "%+v", r)
	require.Equal(t, Report{
		Moves: 2, Complete: 1, Aborted: 1, Kills: 1, Recovered: 2, ClientWritesAcknowledged: 3, DigestsEqual: true, Violations: []string{},
	}, r)
	move, abort := Interrupted(good().History)
	require.Equal(t, moved, move)
	require.Equal(t, undone, abort)
}

// Each check fails if the evidence shows its fault.
func TestRun_FindsEachFault(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(*Evidence)
		want   string // of found
	}{
		"an acknowledged write is lost": {
			func(e *Evidence) { e.Groups[0].State.Writes["a"] = []uint64{1, 3, 4} },
			"lost 1"},
		"all writes of a group are lost": {
			func(e *Evidence) {
				e.Groups[0].State.Writes = nil
				e.Groups[0].Local = nil
				e.Groups[0].View.Voters = nil
			},
			"lost 3, replica counts 1"},
		"a learner is left": {
			func(e *Evidence) {
				e.Groups[0].View.Learners = []shard.ReplicaID{replica(4)}
				e.Groups[0].Local = append(e.Groups[0].Local, node.Local{Hosted: replica(4), State: e.Groups[0].State})
			},
			"learners 1"},
		"a voter is left": {
			func(e *Evidence) {
				e.Groups[0].View.Voters = append(e.Groups[0].View.Voters, replica(4))
				e.Groups[0].Local = append(e.Groups[0].Local, node.Local{Hosted: replica(4), State: e.Groups[0].State})
			},
			"replica counts 1"},
		"a row is left": {
			func(e *Evidence) { e.Members[2].InFlight = 1 },
			"in flight 1"},
		"a step runs again under a new coordinator": {
			func(e *Evidence) { e.Compensations[0].Epoch = 3 },
			"twice 1"},
		"a step runs again after the coordinator has seen its event": {
			func(e *Evidence) { e.Compensations[0].KnownIndex = 106 },
			"twice 1"},
		"another digest": {
			func(e *Evidence) { e.Members[1].Digest = "other" },
			"digests differ"},
		"another index": {
			func(e *Evidence) { e.Members[1].DigestIndex = 8 },
			"digests differ"},
		"no member": {
			func(e *Evidence) { e.Members = nil },
			"digests differ"},
		"a violation during the run": {
			func(e *Evidence) { e.Violations = []string{"x"} },
			"x"},
		"another history that leads to the same state": {
			func(e *Evidence) {
				e.Histories[1] = diff.Histories{Agreement: diff.Differs, Index: 105, SameThrough: 104}
			},
			"the histories of members 1 and 3: differs, the same through raft index 104"},
		"a replica that is no member is hosted": {
			func(e *Evidence) { e.Groups[0].Local = append(e.Groups[0].Local, node.Local{Hosted: replica(4)}) },
			"node-4/group-1/first is hosted and is no member of its group"},
		"a member is not hosted": {
			func(e *Evidence) { e.Groups[0].Local = e.Groups[0].Local[:2] },
			"group 1 has 3 members, of which 2 are hosted"},
		"a replica has another state": {
			func(e *Evidence) { e.Groups[0].Local[1].State.Epoch = 9 },
			"node-2/group-1/first has another state than its leader"},
		"a phase is missing": {
			func(e *Evidence) { e.remove(103) },
			"seq 4: migration 00000000-0000-0000-0000-000000000002 is at LeadershipTransfer after CatchUp"},
		"an abort ends before its last step": {
			func(e *Evidence) { e.remove(110) },
			"seq 11: migration 00000000-0000-0000-0000-000000000002 is aborted with 1 recorded steps"},
		"a step is recorded twice": {
			func(e *Evidence) { e.History[9].Event = checkpoint.Compensated{MigrationID: undone, Step: 0, Epoch: 3} },
			"seq 10: step 0 of the abort of 00000000-0000-0000-0000-000000000002 is recorded for the second time, " +
				"seq 11: migration 00000000-0000-0000-0000-000000000002 is aborted with 1 recorded steps"},
		"an abort after the cut-over": {
			func(e *Evidence) {
				e.History = e.History[:14]
				e.append(checkpoint.AbortBegun{MigrationID: moved, Epoch: 3})
				e.Moves[0].Outcome = coordinator.InFlight
			},
			"seq 15: an abort of migration 00000000-0000-0000-0000-000000000001 begins at Cutover, or for the second time"},
		"a coordinator is not fenced": {
			func(e *Evidence) { e.History[10].Event = checkpoint.Aborted{MigrationID: undone, Epoch: 2} },
			"seq 11 has epoch 2 after epoch 3: a coordinator was not fenced"},
		"a removal before Complete": {
			func(e *Evidence) { e.remove(115) },
			"seq 16: migration 00000000-0000-0000-0000-000000000001 is removed at Cutover"},
		"a migration has an event after its end": {
			func(e *Evidence) { e.append(checkpoint.Removed{MigrationID: moved, Epoch: 3}) },
			"seq 17: migration 00000000-0000-0000-0000-000000000001 has an event after its end"},
		"a completed move is not in the history": {
			func(e *Evidence) { e.remove(116) },
			"migration 00000000-0000-0000-0000-000000000001 is in_flight in the history, and a coordinator has returned complete"},
		"a move that the driver has not asked for": {
			func(e *Evidence) { e.Moves = e.Moves[:1] },
			"migration 00000000-0000-0000-0000-000000000002 is in the history, and the driver has not asked for it"},
		"a damaged history": {
			func(e *Evidence) { e.History = append(e.History, replay.Record{Seq: 17}) },
			"seq 17: the history has damage or an unknown event"},
	} {
		t.Run(name, func(t *testing.T) {
			e := good()
			test.damage(&e)
			r := Run(e)
			require.Equal(t, test.want, found(r))
			require.False(t, r.Passed())
		})
	}
}

// found returns the findings of a report in a short form.
func found(r Report) string {
	var all []string
	for name, n := range map[string]int{
		"lost": r.ClientWritesLost, "learners": r.LeakedLearners, "replica counts": r.ReplicaCountWrong,
		"in flight": r.InFlight, "twice": r.CompensationsTwice,
	} {
		if n > 0 {
			all = append(all, fmt.Sprintf("%s %d", name, n))
		}
	}
	slices.Sort(all)
	if !r.DigestsEqual {
		all = append(all, "digests differ")
	}
	text := ""
	for i, s := range append(all, r.Violations...) {
		if i > 0 {
			text += ", "
		}
		text += s
	}
	return text
}
