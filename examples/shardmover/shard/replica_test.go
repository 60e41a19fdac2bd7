package shard

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/examples/shardmover/wire"
)

// openLeader returns the only replica of a group.
func openLeader(t *testing.T) *Replica {
	directory := wire.Directory(t.TempDir())
	mux, err := wire.Listen(directory, wire.NodeName(1))
	require.NoError(t, err)
	id := ReplicaID{Node: 1, Group: 1, Tag: FirstTag}
	r, err := Open(Options{
		Dir: t.TempDir(), ID: id, First: []ReplicaID{id}, Mux: mux,
		Network: wire.NewNetwork(directory, wire.NodeName(1), false), Log: io.Discard,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		require.NoError(t, mux.Close())
	})
	require.Eventually(t, func() bool { return r.Leader() == id }, 10*time.Second, time.Millisecond)
	return r
}

// The removal of a replica that is not there makes the group refuse each earlier change. The mover
// needs this: an addition of a dead coordinator must not commit after the move was undone.
func TestChange_RemovalRefusesEarlierChanges(t *testing.T) {
	r := openLeader(t)
	view, err := r.Fence(1)
	require.NoError(t, err)
	learner := ReplicaID{Node: 2, Group: 1, Tag: "m"}

	index, err := r.Change(2, Change{Kind: Remove, Replica: learner, PrevIndex: view.ConfigIndex})
	require.NoError(t, err)
	require.Greater(t, index, view.ConfigIndex)
	_, err = r.Change(2, Change{Kind: AddLearner, Replica: learner, PrevIndex: view.ConfigIndex})
	require.Equal(t, wire.ConfigurationChanged, wire.CodeOf(err), "%v", err)

	after, err := r.Fence(2)
	require.NoError(t, err)
	require.Equal(t, index, after.ConfigIndex)
	require.Empty(t, after.Learners)
	_, err = r.Change(2, Change{Kind: AddLearner, Replica: learner})
	require.ErrorContains(t, err, "has no PrevIndex")
}

// After a fence the group refuses every effect of a lower epoch.
func TestFence_RefusesLowerEpochs(t *testing.T) {
	r := openLeader(t)
	view, err := r.Fence(5)
	require.NoError(t, err)
	for _, effect := range map[string]func() error{
		"fence":    func() error { _, err := r.Fence(4); return err },
		"change":   func() error { _, err := r.Change(4, Change{Kind: Remove, PrevIndex: view.ConfigIndex}); return err },
		"transfer": func() error { return r.Transfer(4, ReplicaID{Node: 2, Group: 1, Tag: "m"}) },
	} {
		require.Equal(t, wire.Fenced, wire.CodeOf(effect()))
	}
	state, err := r.State()
	require.NoError(t, err)
	require.Equal(t, uint64(5), state.Epoch)
}

// A write that is sent again is stored once.
func TestWrite_RepeatedWriteIsStoredOnce(t *testing.T) {
	r := openLeader(t)
	for _, write := range []uint64{1, 2, 2, 1, 3} {
		require.NoError(t, r.Write("a", write))
	}
	state, err := r.State()
	require.NoError(t, err)
	require.Equal(t, map[string][]uint64{"a": {1, 2, 3}}, state.Writes)
}
