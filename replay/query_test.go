package replay_test

import (
	"fmt"
	"math"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// history is the log that the queries read. One copy of its manifest is missing.
//
//	 1 A AddLearner      vShard 1, 10 to 11    at 100
//	 2 B AddLearner      vShard 2, 20 to 21    at  90
//	 3 A CatchUp                               at 110
//	 4 destroyed
//	 5 destroyed
//	 6 C PromoteLearner  vShard 4, ? to 30     at 130
//	 7 C of an unknown kind                    at 131
//	 8 B aborted                               at 140
//	 9 A Complete                              at 150
//	10 A removed                               at 160
//	11 D of an unknown kind, without a row     at 170
//	12 B AddLearner      vShard 3, 20 to 11    at 180
//	13 D removed, without a row                at   0
func history(t testing.TB) fstest.MapFS {
	fsys := logOf(t,
		[]any{
			upserted(t, idA, checkpoint.AddLearner{VShardID: 1, SourceNode: 10, TargetNode: 11}, 100),
			upserted(t, idB, checkpoint.AddLearner{VShardID: 2, SourceNode: 20, TargetNode: 21}, 90),
			upserted(t, idA, checkpoint.CatchUp{VShardID: 1}, 110),
		},
		[]any{
			destroyed{},
			destroyed{},
			upserted(t, idC, checkpoint.PromoteLearner{VShardID: 4, TargetNode: 30}, 130),
			unknown(idC, 131),
			checkpoint.Aborted{MigrationID: idB, TimestampMS: 140},
		},
		[]any{
			upserted(t, idA, checkpoint.Complete{VShardID: 1}, 150),
			checkpoint.Removed{MigrationID: idA, TimestampMS: 160},
			unknown(idD, 170),
			upserted(t, idB, checkpoint.AddLearner{VShardID: 3, SourceNode: 20, TargetNode: 11}, 180),
			checkpoint.Removed{MigrationID: idD},
		},
	)
	delete(fsys, segment.ManifestCopyName)
	return fsys
}

const (
	outside = "damage outside the segments"
	lost    = "damage 4 to 5"
)

// labels returns the number of each record, or the lost numbers of a damage.
func labels(records []replay.Record) (all []string) {
	for _, r := range records {
		switch {
		case r.Damage != nil && r.Damage.FirstSeq == 0:
			all = append(all, outside)
		case r.Damage != nil:
			all = append(all, fmt.Sprintf("damage %d to %d", r.Damage.FirstSeq, r.Damage.LastSeq))
		default:
			all = append(all, fmt.Sprint(r.Seq))
		}
	}
	return all
}

type queryCase struct {
	name string
	q    replay.Query
	want []string
}

var queries = []queryCase{
	{"everything", replay.Query{}, []string{outside, "1", "2", "3", lost, "6", "7", "8", "9", "10", "11", "12", "13"}},

	{"from a number on", replay.Query{FromSeq: 10}, []string{outside, "10", "11", "12", "13"}},
	{"from a lost number on", replay.Query{FromSeq: 5, ToSeq: 6}, []string{outside, lost, "6"}},
	{"to a number", replay.Query{ToSeq: 3}, []string{outside, "1", "2", "3"}},
	{"to a lost number", replay.Query{ToSeq: 4}, []string{outside, "1", "2", "3", lost}},
	{"from after the damage", replay.Query{FromSeq: 6, ToSeq: 7}, []string{outside, "6", "7"}},
	{"one number", replay.Query{FromSeq: 8, ToSeq: 8}, []string{outside, "8"}},
	{"from after the end", replay.Query{FromSeq: 14}, []string{outside}},
	{"bounds the wrong way round", replay.Query{FromSeq: 9, ToSeq: 8}, []string{outside}},
	{"to the highest number", replay.Query{FromSeq: 12, ToSeq: math.MaxUint64}, []string{outside, "12", "13"}},

	// Damage has no time. It may have hit a record of any time.
	{"since a time", replay.Query{SinceMS: 150}, []string{outside, lost, "9", "10", "11", "12"}},
	{"until a time", replay.Query{UntilMS: 100}, []string{outside, "1", "2", lost, "13"}},
	{"a time that only a clock which went back shows", replay.Query{SinceMS: 90, UntilMS: 99}, []string{outside, "2", lost}},
	{"the time of an unknown kind", replay.Query{SinceMS: 131, UntilMS: 131}, []string{outside, lost, "7"}},

	{"one migration", replay.Query{Migrations: []checkpoint.MigrationID{idB}}, []string{outside, "2", lost, "8", "12"}},
	{"two migrations, with unknown kinds", replay.Query{Migrations: []checkpoint.MigrationID{idC, idD}}, []string{outside, lost, "6", "7", "11", "13"}},
	{"a migration that is not there", replay.Query{Migrations: []checkpoint.MigrationID{{1}}}, []string{outside, lost}},

	{"checkpoints", replay.Query{Kinds: []replay.Kind{replay.KindCheckpoint}}, []string{"1", "2", "3", "6", "9", "12"}},
	{"aborts and removals", replay.Query{Kinds: []replay.Kind{replay.KindAbort, replay.KindRemove}}, []string{"8", "10", "13"}},
	{"unknown kinds", replay.Query{Kinds: []replay.Kind{replay.KindUnknown}}, []string{"7", "11"}},
	{"damage", replay.Query{Kinds: []replay.Kind{replay.KindDamage}}, []string{outside, lost}},
	{"damage after a number", replay.Query{Kinds: []replay.Kind{replay.KindDamage}, FromSeq: 6}, []string{outside}},

	{"a phase", replay.Query{Phases: []checkpoint.Phase{checkpoint.PhaseAddLearner}}, []string{outside, "1", "2", lost, "12"}},
	{"phases", replay.Query{Phases: []checkpoint.Phase{checkpoint.PhaseComplete, checkpoint.PhasePromoteLearner}}, []string{outside, lost, "6", "9"}},

	{"a phase that is none, as aborts and removals have", replay.Query{Phases: []checkpoint.Phase{0}}, []string{outside, lost}},

	// An abort and a removal contain no vShard and no node. The migration's row has them.
	{"a vShard", replay.Query{VShards: []uint32{1}}, []string{outside, "1", "3", lost, "9", "10"}},
	{"the vShards of two incarnations", replay.Query{VShards: []uint32{2, 3}}, []string{outside, "2", lost, "8", "12"}},
	{"a vShard that is not there", replay.Query{VShards: []uint32{10}}, []string{outside, lost}},
	{"a source", replay.Query{Nodes: []uint64{10}}, []string{outside, "1", "3", lost, "9", "10"}},
	{"a target", replay.Query{Nodes: []uint64{21}}, []string{outside, "2", lost, "8"}},
	{"the target of two", replay.Query{Nodes: []uint64{11}}, []string{outside, "1", "3", lost, "9", "10", "12"}},
	{"a source that nobody named is not node 0", replay.Query{Nodes: []uint64{0}}, []string{outside, lost}},

	{"a node, from after the checkpoint that contains it", replay.Query{Nodes: []uint64{10}, FromSeq: 9}, []string{outside, "9", "10"}},
	{"a vShard and a node", replay.Query{VShards: []uint32{3}, Nodes: []uint64{11}}, []string{outside, lost, "12"}},
	{"a vShard and the node of another", replay.Query{VShards: []uint32{1}, Nodes: []uint64{21}}, []string{outside, lost}},
	{"a vShard and a migration", replay.Query{VShards: []uint32{1, 2}, Migrations: []checkpoint.MigrationID{idB}}, []string{outside, "2", lost, "8"}},
	{"a vShard and a phase", replay.Query{VShards: []uint32{1}, Phases: []checkpoint.Phase{checkpoint.PhaseCatchUp}}, []string{outside, "3", lost}},
	{"a node and a kind", replay.Query{Nodes: []uint64{30, 20}, Kinds: []replay.Kind{replay.KindCheckpoint}}, []string{"2", "6", "12"}},
	{"a node and a time", replay.Query{Nodes: []uint64{20}, SinceMS: 91, UntilMS: 179}, []string{outside, lost, "8"}},
	{
		"all at once", replay.Query{
			FromSeq: 2, ToSeq: 12, SinceMS: 100, UntilMS: 160, Migrations: []checkpoint.MigrationID{idA, idC},
			Kinds: []replay.Kind{replay.KindCheckpoint}, Phases: []checkpoint.Phase{checkpoint.PhaseCatchUp, checkpoint.PhaseComplete},
			VShards: []uint32{1, 4}, Nodes: []uint64{10, 30},
		},
		[]string{"3", "9"},
	},
}

// A query selects the records that meet all its conditions, and damage that may have hit such a
// record.
func TestMatcher(t *testing.T) {
	all := recordsOf(t, openFS(t, history(t)), replay.Query{})
	require.Equal(t, queries[0].want, labels(all))
	for _, tc := range queries {
		m := replay.NewMatcher(tc.q)
		var got []replay.Record
		for _, r := range all {
			if m.Match(r) {
				got = append(got, r)
			}
		}
		require.Equal(t, tc.want, labels(got), tc.name)
	}
}

// Reader.Records skips segments and bodies that the query cannot need. It still yields the same
// records as a matcher that has seen all of them.
func TestRecords_SkipNothingThatMatches(t *testing.T) {
	reader := openFS(t, history(t))
	for _, tc := range queries {
		require.Equal(t, tc.want, labels(recordsOf(t, reader, tc.q)), tc.name)
	}
}

// The vShard of an event is that of the row after it. If the event ends the migration, it is that
// of the row before.
func TestMatcher_MigrationThatChangesItsVShard(t *testing.T) {
	records := recordsOf(t, openFS(t, logOf(t, []any{
		upserted(t, idA, checkpoint.AddLearner{VShardID: 1, SourceNode: 10, TargetNode: 11}, 1),
		upserted(t, idA, checkpoint.AddLearner{VShardID: 2, SourceNode: 20, TargetNode: 21}, 2),
		checkpoint.Removed{MigrationID: idA, TimestampMS: 3},
		upserted(t, idA, checkpoint.CatchUp{VShardID: 1}, 4),
	})), replay.Query{})
	for _, tc := range []queryCase{
		{"the first vShard", replay.Query{VShards: []uint32{1}}, []string{"1", "4"}},
		{"the second vShard", replay.Query{VShards: []uint32{2}}, []string{"2", "3"}},
		{"the first nodes", replay.Query{Nodes: []uint64{10, 11}}, []string{"1"}},
		{"the second nodes", replay.Query{Nodes: []uint64{20, 21}}, []string{"2", "3"}},
		{"a target and a source that nobody named", replay.Query{Nodes: []uint64{0}}, nil},
	} {
		m := replay.NewMatcher(tc.q)
		var got []replay.Record
		for _, r := range records {
			if m.Match(r) {
				got = append(got, r)
			}
		}
		require.Equal(t, tc.want, labels(got), tc.name)
	}
}

// A loop over the records can be left at any of them, and the records can be read again.
func TestRecords_CanBeLeftAtAnyOne(t *testing.T) {
	reader := openFS(t, history(t))
	records := reader.Records(t.Context(), replay.Query{})
	for n := range len(queries[0].want) {
		var got []replay.Record
		for r, err := range records {
			require.NoError(t, err)
			if got = append(got, r); len(got) == n+1 {
				break
			}
		}
		require.Equal(t, queries[0].want[:n+1], labels(got))
	}
}
