package redact_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
	"migrationlog/replay/redact"
)

func recording(t *testing.T) (events []checkpoint.Event) {
	file, err := os.Open("../../testdata/raft-moves.ndjson")
	require.NoError(t, err)
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var r replay.Record
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		events = append(events, r.Event)
	}
	return events
}

func redacted(t *testing.T, events []checkpoint.Event) (*redact.Redactor, []checkpoint.Event) {
	r := redact.New()
	for _, e := range events {
		r.Learn(e)
	}
	r.Number()
	var list []checkpoint.Event
	for _, e := range events {
		e, err := r.Event(e)
		require.NoError(t, err)
		list = append(list, e)
	}
	return r, list
}

// numbers returns the numbers of an event that redaction ranks or moves, in a fixed order.
func numbers(e checkpoint.Event) map[string][]uint64 {
	n := map[string][]uint64{"ms": {e.WallMS()}}
	comps := func(list []checkpoint.Compensation) {
		for _, c := range list {
			n["node"], n["group"] = append(n["node"], c.PeerID), append(n["group"], c.GroupID)
		}
	}
	switch e := e.(type) {
	case checkpoint.Upserted:
		n["vshard"] = []uint64{uint64(e.Checkpoint.Payload.Shard())}
		if node, group, ok := checkpoint.TargetOf(e.Checkpoint.Payload); ok {
			n["node"], n["group"] = []uint64{node}, []uint64{group}
		}
		if p, ok := e.Checkpoint.Payload.(checkpoint.AddLearner); ok {
			n["node"], n["ns"] = append(n["node"], p.SourceNode), []uint64{p.StartedAtHLC.WallNS}
		}
	case checkpoint.Aborted:
		comps(e.Compensations)
	}
	return n
}

// Two values of the recording compare after the redaction as before.
func TestRedact_KeepsEqualityAndOrder(t *testing.T) {
	before := recording(t)
	_, after := redacted(t, before)
	require.Len(t, after, len(before))
	last, lastAfter := map[string]uint64{}, map[string]uint64{}
	for i := range before {
		a, b := numbers(before[i]), numbers(after[i])
		require.Equal(t, len(a), len(b))
		for name := range a {
			require.Len(t, b[name], len(a[name]))
			for j := range a[name] {
				require.Equal(t, cmp.Compare(last[name], a[name][j]), cmp.Compare(lastAfter[name], b[name][j]), "event %d, %s", i, name)
				last[name], lastAfter[name] = a[name][j], b[name][j]
			}
		}
		if i > 0 {
			x, y := before[i-1].Migration(), before[i].Migration()
			xAfter, yAfter := after[i-1].Migration(), after[i].Migration()
			require.Equal(t, bytes.Compare(x[:], y[:]), bytes.Compare(xAfter[:], yAfter[:]), "the ids of events %d and %d", i-1, i)
			require.Equal(t, before[i].WallMS()-before[i-1].WallMS(), after[i].WallMS()-after[i-1].WallMS())
		}
	}
}

// No value that could identify the cluster is left.
func TestRedact_RemovesEveryName(t *testing.T) {
	id := uuid.MustParse("01a20629-44f1-75f5-8bf1-d9e9fef8b7a5")
	const wallMS, node, group, vshard = 1795399697649, 4_111_222_333, 5_111_222_333, 3_111_222_333
	c, err := checkpoint.New(id, 2, checkpoint.AddLearner{
		VShardID: vshard, SourceNode: node, TargetNode: node + 1, SourceGroup: group, WritePauseBudgetUS: 500,
		StartedAtHLC: checkpoint.HLC{WallNS: wallMS * 1e6, Logical: 3},
	}, wallMS)
	require.NoError(t, err)
	comps := []checkpoint.Compensation{ // the kinds do not need all of these values
		{Kind: checkpoint.RemoveLearner, GroupID: group, PeerID: node + 1, VShardID: vshard + 1},
		{Kind: checkpoint.RemoveGhostStub, GroupID: group + 1, PeerID: node + 2, VShardID: vshard},
		{Kind: checkpoint.RemoveGhostStub, VShardID: vshard},
	}
	r, events := redacted(t, []checkpoint.Event{
		checkpoint.Upserted{Checkpoint: c, Epoch: 9},
		checkpoint.AbortBegun{MigrationID: id, Reason: "host db-17.example.com", Compensations: comps, TimestampMS: wallMS + 1},
		checkpoint.Compensated{MigrationID: id, Step: 1, TimestampMS: wallMS + 2},
		checkpoint.EpochRaised{MigrationID: id, Epoch: 10, TimestampMS: wallMS + 3},
		checkpoint.Aborted{MigrationID: id, Reason: "host db-17.example.com", Compensations: comps, TimestampMS: wallMS + 4},
		checkpoint.Removed{MigrationID: id, TimestampMS: wallMS + 5},
	})
	text := ""
	for i, e := range events {
		line, err := json.Marshal(replay.Record{Seq: uint64(i + 1), Event: e})
		require.NoError(t, err)
		text += string(line) + "\n"
	}
	for _, secret := range []string{"01a20629", "d9e9fef8b7a5", "1795399697", "4111222333", "4111222334", "4111222335", "5111222333", "5111222334", "3111222333", "3111222334", "example"} {
		require.NotContains(t, text, secret)
	}
	require.Contains(t, text, `"reason":"reason-1"`)
	require.Contains(t, text, `"source_node":1,`)
	require.Contains(t, text, `"target_node":2,`)
	require.Contains(t, text, `"step":1`)
	require.Contains(t, text, `"kind":"RemoveGhostStub","group_id":0,"peer_id":0,"vshard_id":1`)
	to, ok := r.ID(id)
	require.True(t, ok)
	require.Equal(t, "016f5e66-e800-7000-8000-000000000001", to.String())
	require.Equal(t, events[0].Migration(), to)
	_, ok = r.ID(uuid.Nil)
	require.False(t, ok)
	_, err = r.Event(nil)
	require.Error(t, err)
}

// The facts of a restored row are replaced like the values of the events that they stand for.
func TestRedactor_Restored(t *testing.T) {
	c, err := checkpoint.New(uuid.MustParse("01a20629-44f1-75f5-8bf1-d9e9fef8b7a5"), 0, checkpoint.CatchUp{VShardID: 70, LearnerLogIndexAtAdd: 5}, 1_795_399_697_649)
	require.NoError(t, err)
	steps := []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 90, PeerID: 61}}
	_, list := redacted(t, []checkpoint.Event{checkpoint.Restored{Checkpoint: c, Facts: checkpoint.RestoredFacts{
		SourceNode: 60, TargetNode: 61, SourceGroup: 90, WritePauseBudgetUS: 8, HasTarget: true, HasSource: true,
		StartedAtHLC: checkpoint.HLC{WallNS: 1_795_399_697_649_000_001}, FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 3,
		Targets: []checkpoint.Target{{GroupID: 90, PeerID: 61}, {GroupID: 91, PeerID: 62}},
		Abort:   &checkpoint.RestoredAbort{Reason: "rack 7", Compensations: steps, Done: []bool{true}, TimestampMS: 1_795_399_697_650},
	}}})
	e := list[0].(checkpoint.Restored)
	const start = 1_577_836_800_000 // 2020-01-01
	require.EqualValues(t, start, e.Checkpoint.TimestampMS)
	require.Equal(t, checkpoint.CatchUp{VShardID: 1, LearnerLogIndexAtAdd: 5}, e.Checkpoint.Payload)
	require.Equal(t, checkpoint.RestoredFacts{
		SourceNode: 1, TargetNode: 2, SourceGroup: 1, WritePauseBudgetUS: 8, HasTarget: true, HasSource: true,
		StartedAtHLC: checkpoint.HLC{WallNS: start*1_000_000 + 1}, FurthestPhase: checkpoint.PhaseCatchUp, RecordedPhases: 3,
		Targets: []checkpoint.Target{{GroupID: 1, PeerID: 2}, {GroupID: 2, PeerID: 3}},
		Abort: &checkpoint.RestoredAbort{
			Reason: "reason-1", Compensations: []checkpoint.Compensation{{Kind: checkpoint.RemoveLearner, GroupID: 1, PeerID: 2}}, Done: []bool{true}, TimestampMS: start + 1,
		},
	}, e.Facts)
	_, err = checkpoint.EncodeEvent(e)
	require.NoError(t, err)
	require.EqualValues(t, 90, steps[0].GroupID, "the original is unchanged")
}
