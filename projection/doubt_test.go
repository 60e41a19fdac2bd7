package projection_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// D5: what lost events mean for one migration, by all that may happen around a loss.
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
		"nothing known, nothing lost": {func(v *projection.View) {}, projection.Untouched},
		"nothing known, one lost":     {func(v *projection.View) { v.Lose(1, 1) }, projection.InDoubt},
		"lost after its last":         {func(v *projection.View) { v.Apply(1, 0, first); v.Lose(2, 2) }, projection.InDoubt},
		"its own, and superseded":     {func(v *projection.View) { v.Apply(1, 0, first); v.Lose(2, 2); v.Apply(3, 2, next) }, projection.Proven},
		"perhaps its own, superseded": {func(v *projection.View) { v.Apply(1, 0, first); v.Lose(2, 2); v.Apply(3, 1, next) }, projection.Proven},
		"another's": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.Lose(2, 2)
			v.Apply(3, 1, next)
			v.Apply(4, 2, checkpoint.Removed{MigrationID: checkpoint.MigrationID{9}})
		}, projection.Untouched},
		"before it began":               {func(v *projection.View) { v.Lose(1, 1); v.Apply(2, 0, first) }, projection.Untouched},
		"perhaps its beginning":         {func(v *projection.View) { v.Lose(1, 1); v.Apply(2, 0, next) }, projection.Proven},
		"before it began, and it ended": {func(v *projection.View) { v.Lose(1, 1); v.Apply(2, 0, first); v.Apply(3, 2, ended) }, projection.Untouched},
		"its own, and it ended":         {func(v *projection.View) { v.Apply(1, 0, first); v.Lose(2, 2); v.Apply(3, 2, ended) }, projection.Proven},
		"after it ended":                {func(v *projection.View) { v.Apply(1, 0, first); v.Apply(2, 1, ended); v.Lose(3, 3) }, projection.InDoubt},
		"its end, and it began again":   {func(v *projection.View) { v.Apply(1, 0, first); v.Lose(2, 2); v.Apply(3, 0, first) }, projection.Proven},
		"an earlier life": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.Lose(2, 2)
			v.Apply(3, 2, ended)
			v.Apply(4, 0, first)
		}, projection.Untouched},
		"unknown kind, nothing lost":     {func(v *projection.View) { v.Apply(1, 0, first); v.Pass(2, 1, id); v.Apply(3, 2, next) }, projection.Untouched},
		"its own, named by unknown kind": {func(v *projection.View) { v.Apply(1, 0, first); v.Lose(2, 2); v.Pass(3, 2, id) }, projection.InDoubt},
		"the same, and superseded": {func(v *projection.View) {
			v.Apply(1, 0, first)
			v.Lose(2, 2)
			v.Pass(3, 2, id)
			v.Apply(4, 3, next)
		}, projection.Proven},
		"no row, named by unknown kind": {func(v *projection.View) { v.Lose(1, 1); v.Pass(2, 1, id) }, projection.InDoubt},
	} {
		v := projection.New()
		tc.history(v)
		require.Equal(t, tc.want, v.Doubt(id), name)
		if row, ok := v.Get(id); ok {
			require.Equal(t, tc.want, row.Doubt, name)
		}
	}
}

// A writer names an event of a kind that it does not know as the one before.
func TestView_PrevSeqOfUnknownKind(t *testing.T) {
	id := checkpoint.MigrationID{1}
	v := projection.New()
	v.Apply(1, 0, checkpoint.Upserted{Checkpoint: checkpoint.Checkpoint{MigrationID: id, Payload: checkpoint.AddLearner{}}})
	v.Pass(2, 1, id)
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
	require.EqualValues(t, 1, row.Seq, "the view before shows what it showed")
	require.Equal(t, projection.Untouched, row.Doubt)
}
