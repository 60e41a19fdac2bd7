package main

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// If the abort of an earlier incarnation is lost, state -v has the events of the present one.
func TestState_SetByAfterLostAbort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	s, err := migrationlog.Open(dir, &migrationlog.Options{NoSync: true})
	require.NoError(t, err)
	id := checkpoint.MigrationID{15: 1}
	write := func(p checkpoint.Payload, ms uint64) {
		c, err := checkpoint.New(id, 0, p, ms)
		require.NoError(t, err)
		_, err = s.Upsert(c)
		require.NoError(t, err)
	}
	write(checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 2, SourceGroup: 7}, 1000)
	_, err = s.Abort(id, "lost", nil)
	require.NoError(t, err)
	write(checkpoint.PromoteLearner{VShardID: 7, TargetNode: 3, SourceGroup: 7}, 2000)
	require.NoError(t, s.Close())
	flipBodies(t, dir, 2)
	var rows []struct {
		SetBy setBy `json:"set_by"`
	}
	require.NoError(t, json.Unmarshal([]byte(output(t, exitDamage, "state", dir, "-v", "-o", "json")), &rows))
	require.Len(t, rows, 1)
	require.Equal(t, setBy{Target: 3, Phase: 3, Began: 3}, rows[0].SetBy)
}
