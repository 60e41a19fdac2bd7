package raftlog

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// saveSnapshot saves a snapshot of the machine with this index.
func saveSnapshot(t testing.TB, snaps raft.SnapshotStore, m *machine, index uint64) string {
	_, trans := raft.NewInmemTransport("a")
	s, err := snaps.Create(raft.SnapshotVersionMax, index, 2, raft.Configuration{}, 1, trans)
	require.NoError(t, err)
	snap, err := m.Snapshot()
	require.NoError(t, err)
	require.NoError(t, snap.Persist(s))
	snap.Release()
	return s.ID()
}

func newSnapshots(t testing.TB, dir string) *raft.FileSnapshotStore {
	snaps, err := raft.NewFileSnapshotStore(dir, 3, io.Discard)
	require.NoError(t, err)
	return snaps
}

// Raft restores its newest snapshot at a start if the store is behind it, and only then.
func TestConfigure(t *testing.T) {
	dir := t.TempDir()
	snaps := newSnapshots(t, dir)
	full := openMachine(t, filepath.Join(dir, "full"))
	applyTo(t, full, 1, 5)
	saveSnapshot(t, snaps, full, 7) // entries 6 and 7 are raft's own
	applyTo(t, full, 8, 9)

	start := func(t *testing.T, m *machine) bool {
		conf := &raft.Config{NoSnapshotRestoreOnStart: true}
		require.NoError(t, Configure(conf, snaps, m.FSM))
		return !conf.NoSnapshotRestoreOnStart
	}
	t.Run("no snapshot", func(t *testing.T) {
		conf, m := &raft.Config{NoSnapshotRestoreOnStart: true}, openMachine(t, t.TempDir())
		require.NoError(t, Configure(conf, raft.NewDiscardSnapshotStore(), m.FSM))
		require.False(t, conf.NoSnapshotRestoreOnStart)
		applyTo(t, m, 3, 4)
	})
	t.Run("past it", func(t *testing.T) {
		require.False(t, start(t, full.reopen(t)))
	})
	t.Run("at its state, but not at its index", func(t *testing.T) {
		m := openMachine(t, t.TempDir())
		applyTo(t, m, 1, 5)
		m = m.reopen(t)
		require.False(t, start(t, m))
		applyTo(t, m, 8, 8)
	})
	t.Run("another state with the same index", func(t *testing.T) {
		m := openMachine(t, t.TempDir())
		applyTo(t, m, 1, 4)
		require.Equal(t, Receipt{Index: 5}, m.Apply(upsertAt(t, 5, 2, 50)))
		require.True(t, start(t, m.reopen(t)))
	})
	t.Run("behind it, and not restored", func(t *testing.T) {
		m := openMachine(t, t.TempDir())
		applyTo(t, m, 1, 3)
		m = m.reopen(t)
		require.True(t, start(t, m))
		requireStopped(t, m, m.Apply(upsertAt(t, 8, 2, 8)), ErrForeignLog)
	})
	t.Run("behind it", func(t *testing.T) {
		m := openMachine(t, t.TempDir())
		require.True(t, start(t, m))
		newest, err := snaps.List()
		require.NoError(t, err)
		_, content, err := snaps.Open(newest[0].ID)
		require.NoError(t, err)
		defer content.Close()
		require.NoError(t, m.Restore(content))
		require.Equal(t, 5, m.Store().Len())
		applyTo(t, m, 8, 8)
	})
}

// A member whose store is behind a snapshot that cannot be read does not start. Raft would restore an
// older one, and have a gap in its log (raft #85).
func TestConfigure_NewestSnapshotIsBad(t *testing.T) {
	dir := t.TempDir()
	snaps := newSnapshots(t, dir)
	m := openMachine(t, filepath.Join(dir, "full"))
	applyTo(t, m, 1, 3)
	older := saveSnapshot(t, snaps, m, 3)
	applyTo(t, m, 4, 6)
	newest := saveSnapshot(t, snaps, m, 6)
	state := filepath.Join(dir, "snapshots", newest, "state.bin")
	intact, err := os.ReadFile(state)
	require.NoError(t, err)

	behind := openMachine(t, t.TempDir())
	conf := &raft.Config{NoSnapshotRestoreOnStart: true}
	require.NoError(t, Configure(conf, snaps, behind.FSM))
	require.False(t, conf.NoSnapshotRestoreOnStart)
	_, content, err := snaps.Open(older) // as raft does if it cannot open the newest any more
	require.NoError(t, err)
	require.ErrorContains(t, behind.Restore(content), "the newest one has the state at index 6")
	require.NoError(t, content.Close())

	require.NoError(t, os.WriteFile(state, intact[:len(intact)-1], 0o600))
	err = Configure(&raft.Config{}, snaps, behind.FSM)
	require.ErrorContains(t, err, newest)
	require.ErrorContains(t, err, "and the store is at index 0")

	conf = &raft.Config{}
	m = m.reopen(t)
	require.NoError(t, Configure(conf, snaps, m.FSM))
	require.True(t, conf.NoSnapshotRestoreOnStart)
	require.NoError(t, m.Health())
}

// An error of the snapshot store is returned.
func TestConfigure_NoList(t *testing.T) {
	m := openMachine(t, t.TempDir())
	require.ErrorIs(t, Configure(&raft.Config{}, new(noSnapshots), m.FSM), errNoSnapshots)
}

var errNoSnapshots = errors.New("no snapshots")

type noSnapshots struct{ raft.DiscardSnapshotStore }

func (*noSnapshots) List() ([]*raft.SnapshotMeta, error) { return nil, errNoSnapshots }
