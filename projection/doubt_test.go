package projection_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// D5: View.Doubt returns the effect of a lost event on a migration, for all kinds of events before
// and after the loss.
func TestD5_Doubt(t *testing.T) {
	id := checkpoint.MigrationID{1}
	event := func(p checkpoint.Payload) checkpoint.Event {
		return checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: p}}
	}
	first, next := event(checkpoint.AddLearner{}), event(checkpoint.CatchUp{})
	ended := checkpoint.Aborted{MigrationID: id}
	for name, tc := range map[string]struct {
		history func(v *projection.View)
		want    projection.Doubt
	}{
		"nothing known, nothing lost": {func(v *projection.View) {}, projection.None},
		"nothing known, one lost":     {func(v *projection.View) { v.MarkLost(1, 1) }, projection.InDoubt},
		"lost after its last event":   {func(v *projection.View) { v.Apply(1, 0, first); v.MarkLost(2, 2) }, projection.InDoubt},
		"its own, superseded":         {func(v *projection.View) { v.Apply(1, 0, first); v.MarkLost(2, 2); v.Apply(3, 2, next) }, projection.Superseded},
		"perhaps its own, superseded": {func(v *projection.View) { v.Apply(1, 0, first); v.MarkLost(2, 2); v.Apply(3, 1, next) }, projection.Superseded},
		"another migration's": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.MarkLost(2, 2)
			v.Apply(3, 1, next)
			v.Apply(4, 2, checkpoint.Removed{MigrationID: checkpoint.MigrationID{9}})
		}, projection.None},
		"before it began":                {func(v *projection.View) { v.MarkLost(1, 1); v.Apply(2, 0, first) }, projection.None},
		"perhaps its first event":        {func(v *projection.View) { v.MarkLost(1, 1); v.Apply(2, 0, next) }, projection.Superseded},
		"before it began, then it ended": {func(v *projection.View) { v.MarkLost(1, 1); v.Apply(2, 0, first); v.Apply(3, 2, ended) }, projection.None},
		"its own, then it ended":         {func(v *projection.View) { v.Apply(1, 0, first); v.MarkLost(2, 2); v.Apply(3, 2, ended) }, projection.Superseded},
		"after it ended":                 {func(v *projection.View) { v.Apply(1, 0, first); v.Apply(2, 1, ended); v.MarkLost(3, 3) }, projection.InDoubt},
		"its end, then it began again":   {func(v *projection.View) { v.Apply(1, 0, first); v.MarkLost(2, 2); v.Apply(3, 0, first) }, projection.Superseded},
		"an earlier incarnation's": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.MarkLost(2, 2)
			v.Apply(3, 2, ended)
			v.Apply(4, 0, first)
		}, projection.None},
		"unknown kind, nothing lost":           {func(v *projection.View) { v.Apply(1, 0, first); v.ApplyUnknown(2, 1, id); v.Apply(3, 2, next) }, projection.None},
		"its own, linked from an unknown kind": {func(v *projection.View) { v.Apply(1, 0, first); v.MarkLost(2, 2); v.ApplyUnknown(3, 2, id) }, projection.InDoubt},
		"its own, linked from an unknown kind, superseded": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.MarkLost(2, 2)
			v.ApplyUnknown(3, 2, id)
			v.Apply(4, 3, next)
		}, projection.Superseded},
		"perhaps its own, before an unknown kind": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.MarkLost(2, 2)
			v.ApplyUnknown(3, 1, id)
		}, projection.InDoubt},
		"an unknown kind began it, nothing lost": {func(v *projection.View) {
			v.ApplyUnknown(1, 0, id)
			v.Apply(2, 1, first)
		}, projection.None},
		"an unknown kind ended it, nothing lost": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.ApplyUnknown(2, 1, id)
			v.Apply(3, 0, first)
		}, projection.None},
		"written while the previous event could not be read": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.Apply(2, 1, next)
			v.Apply(3, 1, next)
		}, projection.None},
		"written while its first event could not be read": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.Apply(2, 0, next)
		}, projection.None},
		"linked to an event of another copy of the log": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.Apply(2, 0, checkpoint.Removed{MigrationID: checkpoint.MigrationID{9}})
			v.Apply(3, 2, next)
		}, projection.Superseded},
		"no row, linked from an unknown kind": {func(v *projection.View) { v.MarkLost(1, 1); v.ApplyUnknown(2, 1, id) }, projection.InDoubt},
	} {
		v := projection.New()
		tc.history(v)
		require.Equal(t, tc.want, v.Doubt(id), name)
		if row, ok := v.Get(id); ok {
			require.Equal(t, tc.want, row.Doubt, name)
		}
	}
}

// D5: facts are uncertain if and only if a later event of the migration is, or may be, missing.
func TestD5_FactsAreUncertainAfterAGap(t *testing.T) {
	id, other := checkpoint.MigrationID{1}, checkpoint.MigrationID{9}
	event := func(p checkpoint.Payload) checkpoint.Event {
		return checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: p}}
	}
	for name, tc := range map[string]struct {
		history        func(v *projection.View)
		target, source bool // uncertain
	}{
		"its own, linked from an unknown kind": {func(v *projection.View) {
			v.ApplyUnknown(3, 2, id)
			v.Apply(4, 3, event(checkpoint.CatchUp{}))
		}, true, true},
		"perhaps its own": {func(v *projection.View) { v.Apply(3, 1, event(checkpoint.CatchUp{})) }, true, true},
		"another migration's": {func(v *projection.View) {
			v.Apply(3, 1, event(checkpoint.CatchUp{}))
			v.Apply(4, 2, checkpoint.Removed{MigrationID: other})
		}, false, false},
		"the target was recorded again": {func(v *projection.View) { v.Apply(3, 2, event(checkpoint.PromoteLearner{})) }, false, true},
		"all facts were recorded again": {func(v *projection.View) { v.Apply(3, 2, event(checkpoint.AddLearner{})) }, false, false},
		"the lost event may be its last": {func(v *projection.View) {
			v.Apply(3, 1, event(checkpoint.AddLearner{}))
			v.MarkLost(4, 4)
		}, true, true},
	} {
		v := projection.New()
		v.Apply(1, 0, event(checkpoint.AddLearner{TargetNode: 3}))
		v.MarkLost(2, 2)
		tc.history(v)
		row, ok := v.Get(id)
		require.True(t, ok, name)
		require.Equal(t, tc.target, row.Facts.TargetUncertain, name)
		require.Equal(t, tc.source, row.Facts.SourceUncertain, name)
	}
}

// A view may have a snapshot if its history has gaps but no lost events. The snapshot keeps the
// gaps.
func TestSnapshot_KeepsGapsAndUnknownKinds(t *testing.T) {
	event := func(n byte, p checkpoint.Payload) checkpoint.Event {
		c, err := checkpoint.New(checkpoint.MigrationID{n}, 0, p, 5)
		require.NoError(t, err)
		return checkpoint.Upserted{Checkpoint: c}
	}
	v := projection.New()
	v.Apply(1, 0, event(1, checkpoint.AddLearner{}))
	v.Apply(3, 2, event(1, checkpoint.CatchUp{})) // seq 2 is in a segment of another copy of the log
	v.ApplyUnknown(4, 0, checkpoint.MigrationID{2})
	v.Apply(5, 0, event(3, checkpoint.AddLearner{}))
	v.ApplyUnknown(7, 6, checkpoint.MigrationID{3}) // seq 6 is missing, so the row may not be the latest
	b, err := v.Snapshot()
	require.NoError(t, err)
	restored, err := projection.Restore(7, b)
	require.NoError(t, err)
	require.True(t, v.Equal(restored))
	require.Equal(t, v.All(), restored.All())
	for n, want := range map[byte]projection.Doubt{1: projection.Superseded, 2: projection.None, 3: projection.InDoubt} {
		require.Equal(t, want, restored.Doubt(checkpoint.MigrationID{n}), "migration %d", n)
	}
	require.EqualValues(t, 4, restored.Slot(checkpoint.MigrationID{2}).LastSeq())
	row, _ := restored.Get(checkpoint.MigrationID{1})
	require.True(t, row.Facts.TargetUncertain)
}

// A writer links a new event to the migration's previous event even if that is of an unknown kind.
func TestView_PrevSeqOfUnknownKind(t *testing.T) {
	id := checkpoint.MigrationID{1}
	v := projection.New()
	v.Apply(1, 0, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: checkpoint.AddLearner{}}})
	v.ApplyUnknown(2, 1, id)
	before := v
	var batch projection.Batch
	batch.Begin(v)
	require.EqualValues(t, 2, add(&batch, 3, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: checkpoint.CatchUp{}}}))
	require.EqualValues(t, 3, add(&batch, 4, checkpoint.Aborted{MigrationID: id}))
	require.Zero(t, add(&batch, 5, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: checkpoint.AddLearner{}}}))
	v = batch.Fold()
	row, _ := v.Get(id)
	require.EqualValues(t, 5, row.Seq)
	row, _ = before.Get(id)
	require.EqualValues(t, 1, row.Seq, "the old view has not changed")
	require.Equal(t, projection.None, row.Doubt)
}
