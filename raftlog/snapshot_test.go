package raftlog

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/stretchr/testify/require"
)

// raft.RecoverCluster, which begins a new group after the majority is lost, works with an FSM in an
// empty directory. The member's own store then continues with the new group.
func TestFSM_RecoverCluster(t *testing.T) {
	for name, snapshots := range map[string]bool{"from raft's log": false, "from a snapshot and raft's log": true} {
		t.Run(name, func(t *testing.T) {
			group := newGroup(t, 1)
			m := group.Leader()
			for n := byte(1); n <= 5; n++ {
				if n == 4 && snapshots {
					require.NoError(t, m.Raft.Snapshot().Error())
				}
				_, err := proposerOf(m, nil).Upsert(t.Context(), learnerOf(t, n))
				require.NoError(t, err)
			}
			conf := m.Conf
			group.Stop(0)
			recoverCluster(t, m.Dir, &conf)

			group.Start(0)
			m = group.Leader()
			require.Equal(t, 5, m.FSM.(*FSM).Store().Len())
			_, err := proposerOf(m, nil).Upsert(t.Context(), learnerOf(t, 6))
			require.NoError(t, err)
		})
	}
}

func recoverCluster(t *testing.T, dir string, conf *raft.Config) {
	logs, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, logs.Close()) }()
	snaps := newSnapshots(t, dir)
	fsm := openMachine(t, t.TempDir())
	require.NoError(t, Configure(conf, snaps, fsm.FSM))
	_, trans := raft.NewInmemTransport("m0")
	configuration := raft.Configuration{Servers: []raft.Server{{ID: "m0", Address: "m0"}}}
	require.NoError(t, raft.RecoverCluster(conf, fsm, logs, logs, snaps, trans, configuration))
	require.Empty(t, fsm.reasons)
	require.NoError(t, fsm.Close())
}

// After a restart without new entries, raft can take a snapshot, for a backup.
func TestFSM_SnapshotAfterRestart(t *testing.T) {
	group := newGroup(t, 1)
	m := group.Leader()
	for n := byte(1); n <= 5; n++ {
		_, err := proposerOf(m, nil).Upsert(t.Context(), learnerOf(t, n))
		require.NoError(t, err)
	}
	require.NoError(t, m.Raft.Snapshot().Error())
	group.Stop(0)
	group.Start(0)
	m = group.Leader()
	require.NoError(t, m.Raft.Barrier(0).Error())
	require.NoError(t, m.Raft.Snapshot().Error())
}
