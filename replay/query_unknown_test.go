package replay_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// An event of an unknown kind has no vShard and no node of its own. The row of its migration
// decides, as it does for an abort. If the migration has no row, the event is not selected.
func TestMatcher_UnknownKindOfAMatchingMigration(t *testing.T) {
	fsys := logOf(t,
		[]any{
			unknown(idA, 1), // 1, before A begins
			upserted(t, idA, checkpoint.AddLearner{VShardID: 1, SourceNode: 10, TargetNode: 11}, 2), // 2
			unknown(idA, 3), // 3
			upserted(t, idB, checkpoint.AddLearner{VShardID: 2, SourceNode: 20, TargetNode: 11}, 4), // 4
			unknown(idB, 5), // 5
		},
		[]any{
			unknown(idA, 6), // 6
			checkpoint.Removed{MigrationID: idA, TimestampMS: 7}, // 7
			unknown(idA, 8), // 8, after A ended
			unknown(idC, 9), // 9, of a migration without an event that is known
			upserted(t, idA, checkpoint.CatchUp{VShardID: 3}, 10), // 10
			unknown(idA, 11), // 11
		},
	)
	reader := openFS(t, fsys)
	all := recordsOf(t, reader, replay.Query{})
	for _, tc := range []queryCase{
		{"a vShard", replay.Query{VShards: []uint32{1}}, []string{"2", "3", "6", "7"}},
		{"another vShard", replay.Query{VShards: []uint32{2}}, []string{"4", "5"}},
		{"the vShard of a later incarnation", replay.Query{VShards: []uint32{3}}, []string{"10", "11"}},
		{"a vShard that is not there", replay.Query{VShards: []uint32{4}}, nil},
		{"a source", replay.Query{Nodes: []uint64{10}}, []string{"2", "3", "6", "7"}},
		{"the target of two", replay.Query{Nodes: []uint64{11}}, []string{"2", "3", "4", "5", "6", "7"}},
		{"a node that nobody named", replay.Query{Nodes: []uint64{0}}, nil},
		{"a vShard and a node", replay.Query{VShards: []uint32{2, 3}, Nodes: []uint64{20}}, []string{"4", "5"}},
		{"a vShard and a migration", replay.Query{VShards: []uint32{1, 2}, Migrations: []checkpoint.MigrationID{idB}}, []string{"4", "5"}},
		{"a vShard, from a number on", replay.Query{VShards: []uint32{1}, FromSeq: 6, ToSeq: 6}, []string{"6"}},
		{"a vShard, at a time", replay.Query{VShards: []uint32{1, 2}, SinceMS: 5, UntilMS: 6}, []string{"5", "6"}},
		{"a vShard's unknown kinds", replay.Query{VShards: []uint32{1, 3}, Kinds: []replay.Kind{replay.KindUnknown}}, []string{"3", "6", "11"}},
		{"a vShard's checkpoints", replay.Query{VShards: []uint32{1}, Kinds: []replay.Kind{replay.KindCheckpoint}}, []string{"2"}},
		{"a vShard's phase", replay.Query{VShards: []uint32{1}, Phases: []checkpoint.Phase{checkpoint.PhaseAddLearner}}, []string{"2"}},
	} {
		m := replay.NewMatcher(tc.q)
		var got []replay.Record
		for _, r := range all {
			if m.Match(r) {
				got = append(got, r)
			}
		}
		require.Equal(t, tc.want, labels(got), tc.name)
		require.Equal(t, tc.want, labels(recordsOf(t, reader, tc.q)), tc.name)
	}
}
