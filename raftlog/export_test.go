package raftlog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/raftlog"
	"migrationlog/raftlog/internal/cluster"
)

// The rows that are left in an unfit store can be restored into a new group, which has lower indexes
// and terms. New proposals then continue after the index of the old store.
func TestExportState_IntoANewGroup(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	writeStore(t, dir, 20)
	loseOneEvent(t, dir)
	_, err := raftlog.Open(dir, nil)
	require.ErrorIs(t, err, migrationlog.ErrUnfit)
	require.ErrorContains(t, err, "Rename the directory, keep it")

	var content bytes.Buffer
	meta, err := exportState(dir, &content)
	require.NoError(t, err)
	require.EqualValues(t, 20, meta.Index)

	group := cluster.New(t, t.TempDir(), 1, cluster.Config{
		Open: func(m *cluster.Member) (cluster.FSM, error) {
			return raftlog.Open(m.StoreDir(), &raftlog.Options{Logger: m.Log})
		},
		Configure: func(conf *raft.Config, snaps raft.SnapshotStore, fsm cluster.FSM) error {
			return raftlog.Configure(conf, snaps, fsm.(*raftlog.FSM))
		},
	})
	leader := group.Leader()
	require.Less(t, leader.Raft.LastIndex(), meta.Index)
	require.NoError(t, leader.Raft.Restore(meta, &content, 10*time.Second))
	receipt, err := raftlog.NewProposer(leader.Raft, leader.FSM.(*raftlog.FSM), nil).Upsert(t.Context(), upserted(t, 30).Checkpoint, raftlog.IfIndex(0))
	require.NoError(t, err)
	require.Greater(t, receipt.Index, meta.Index)
	require.Equal(t, 20, leader.FSM.(*raftlog.FSM).Store().Len())
	require.Equal(t, receipt.Index, leader.FSM.(*raftlog.FSM).AppliedIndex())
}

func upserted(t testing.TB, n byte) checkpoint.Upserted {
	c, err := checkpoint.New(checkpoint.MigrationID{15: n}, 0, checkpoint.AddLearner{VShardID: uint32(n), SourceNode: 1, TargetNode: 3, SourceGroup: 20}, 1700000000000)
	require.NoError(t, err)
	return checkpoint.Upserted{Checkpoint: c}
}

// writeStore writes a store with this many rows.
func writeStore(t testing.TB, dir string, rows byte) {
	replica, err := migrationlog.OpenReplica(dir, nil)
	require.NoError(t, err)
	for n := byte(1); n <= rows; n++ {
		applied, err := replica.Apply([]migrationlog.Entry{{Index: uint64(n), Term: 50, Event: upserted(t, n)}})
		require.NoError(t, err)
		require.NoError(t, applied[0].Err)
	}
	require.NoError(t, replica.Close())
}

// loseOneEvent changes a byte in the middle of the log, and removes the snapshot that has its row.
func loseOneEvent(t testing.TB, dir string) {
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "[0-9]*"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	b, err := os.ReadFile(segments[0])
	require.NoError(t, err)
	id := checkpoint.MigrationID{15: 10}
	at := bytes.Index(b, id[:])
	require.Positive(t, at)
	b[at] ^= 1
	require.NoError(t, os.WriteFile(segments[0], b, 0o600))
}
