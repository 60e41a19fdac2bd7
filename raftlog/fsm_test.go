package raftlog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
)

// machine is an FSM without raft, and the reasons for which it has stopped.
type machine struct {
	*FSM
	dir     string
	reasons []error
}

func openMachine(t *testing.T, dir string) *machine {
	m := &machine{dir: dir}
	fsm, err := Open(dir, &Options{NodeID: "a", OnFailure: func(err error) { m.reasons = append(m.reasons, err) }})
	require.NoError(t, err)
	t.Cleanup(func() { fsm.Close() })
	m.FSM = fsm
	return m
}

// reopen closes the machine and opens its store again.
func (m *machine) reopen(t *testing.T) *machine {
	require.NoError(t, m.Close())
	return openMachine(t, m.dir)
}

// upsertAt returns an entry with the first checkpoint of migration n.
func upsertAt(t testing.TB, index, term uint64, n byte) *raft.Log {
	c, err := checkpoint.New(checkpoint.MigrationID{15: n}, 0, checkpoint.AddLearner{VShardID: uint32(n), SourceNode: 1, TargetNode: 3, SourceGroup: 20}, 1700000000000)
	require.NoError(t, err)
	data, err := EncodeEntry(checkpoint.Upserted{Checkpoint: c})
	require.NoError(t, err)
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data}
}

// applyTo applies entries of term 2 with the indexes from first to last.
func applyTo(t testing.TB, m *machine, first, last uint64) {
	for index := first; index <= last; index++ {
		require.Equal(t, Receipt{Index: index}, m.Apply(upsertAt(t, index, 2, byte(index))))
	}
}

// sink is raft's part of a snapshot.
type sink struct {
	bytes.Buffer
	closed, canceled bool
	limit            int // bytes after which a write fails; 0: none
}

var errSinkFull = errors.New("sink is full")

func (s *sink) Write(b []byte) (int, error) {
	if s.limit > 0 && s.Len()+len(b) > s.limit {
		return 0, errSinkFull
	}
	return s.Buffer.Write(b)
}
func (s *sink) ID() string    { return "1" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.canceled = true; return nil }

// snapshotOf returns the content of a snapshot of the machine.
func snapshotOf(t testing.TB, m *machine) []byte {
	snap, err := m.Snapshot()
	require.NoError(t, err)
	defer snap.Release()
	var s sink
	require.NoError(t, snap.Persist(&s))
	require.True(t, s.closed)
	return s.Bytes()
}

func restore(m *machine, content []byte) error {
	return m.Restore(io.NopCloser(bytes.NewReader(content)))
}

// requireStopped checks that a response has the reason for the stop, and that the next response has
// it too.
func requireStopped(t testing.TB, m *machine, response any, want error) {
	t.Helper()
	for _, response := range []any{response, m.Apply(upsertAt(t, 1000, 9, 99))} {
		require.ErrorIs(t, response.(error), want)
		require.ErrorIs(t, response.(error), ErrUnknownOutcome)
	}
	require.Len(t, m.reasons, 1)
	require.ErrorIs(t, m.reasons[0], want)
	require.ErrorIs(t, m.Health(), want)
	_, err := m.Snapshot()
	require.ErrorIs(t, err, want)
	require.ErrorIs(t, restore(m, nil), want)
}

// Without Configure, the FSM accepts no gap between its store and the entries that raft delivers.
func TestFSM_GapWithoutConfigure(t *testing.T) {
	m := openMachine(t, t.TempDir())
	applyTo(t, m, 1, 3)
	m = m.reopen(t)
	response := m.Apply(upsertAt(t, 5, 2, 5))
	require.ErrorContains(t, response.(error), "has applied entry 3, and raft continues with entry 5")
	requireStopped(t, m, response, ErrForeignLog)
	require.EqualValues(t, 3, m.AppliedIndex())

	m = m.reopen(t)
	require.NoError(t, Configure(&raft.Config{}, raft.NewDiscardSnapshotStore(), m.FSM))
	applyTo(t, m, 5, 5) // there is no snapshot, so entry 4 was raft's own
}

// Entries that were applied before are skipped, if they are the same.
func TestFSM_Redelivery(t *testing.T) {
	dir := t.TempDir()
	m := openMachine(t, dir)
	applyTo(t, m, 1, 3)
	m = m.reopen(t)
	require.Nil(t, m.Apply(upsertAt(t, 2, 2, 2)))
	require.Nil(t, m.Apply(upsertAt(t, 3, 2, 3)))
	require.Equal(t, Stats{Skipped: 2}, m.Stats())
	require.Empty(t, m.reasons)

	for name, l := range map[string]*raft.Log{
		"the last entry with another term":      upsertAt(t, 3, 1, 3),
		"an earlier entry with a term after it": upsertAt(t, 2, 3, 2),
	} {
		t.Run(name, func(t *testing.T) {
			m = m.reopen(t)
			requireStopped(t, m, m.Apply(l), ErrForeignLog)
		})
	}
}

// Raft takes no snapshot with an index below that of its state.
func TestFSM_SnapshotDuringRedelivery(t *testing.T) {
	m := openMachine(t, t.TempDir())
	applyTo(t, m, 1, 3)
	m = m.reopen(t)
	m.Apply(upsertAt(t, 2, 2, 2))
	_, err := m.Snapshot()
	require.ErrorContains(t, err, "has delivered entries up to 2")
	m.Apply(upsertAt(t, 3, 2, 3))
	snapshotOf(t, m)
}

// A snapshot makes the applied index durable, also if the last entries have appended nothing. If it
// cannot be written, it is canceled.
func TestFSM_Persist(t *testing.T) {
	m := openMachine(t, t.TempDir())
	applyTo(t, m, 1, 3)
	m.Apply(upsertAt(t, 4, 2, 3)) // a duplicate
	m.StoreConfiguration(5, raft.Configuration{})
	require.EqualValues(t, 3, m.AppliedIndex())

	snap, err := m.Snapshot()
	require.NoError(t, err)
	full := sink{limit: 100}
	require.ErrorIs(t, snap.Persist(&full), errSinkFull)
	snap.Release()
	require.True(t, full.canceled)
	require.False(t, full.closed)
	require.Empty(t, m.reasons)

	snapshotOf(t, m)
	require.EqualValues(t, 5, m.AppliedIndex())
	m = m.reopen(t)
	require.EqualValues(t, 5, m.AppliedIndex())
}

// A restored state replaces a later one. An equal one leaves the history as it is.
func TestFSM_Restore(t *testing.T) {
	parent := t.TempDir()
	m := openMachine(t, filepath.Join(parent, "store"))
	applyTo(t, m, 1, 3)
	content := snapshotOf(t, m)
	_, digest := m.Digest()
	require.NoError(t, restore(m, content))
	require.Equal(t, []string{"store"}, namesIn(t, parent))

	applyTo(t, m, 4, 6)
	for _, broken := range [][]byte{nil, content[:len(content)/2], append([]byte{1}, content...)} {
		require.Error(t, restore(m, broken))
	}
	require.Equal(t, 6, m.Store().Len())
	require.NoError(t, restore(m, content))
	index, restored := m.Digest()
	require.EqualValues(t, 3, index)
	require.Equal(t, digest, restored)
	require.Equal(t, 3, m.Store().Len())
	require.Equal(t, []string{"store", "store.replaced-1"}, namesIn(t, parent))
	applyTo(t, m, 5, 5) // entry 4 was raft's own

	other := openMachine(t, t.TempDir())
	require.NoError(t, restore(other, content))
	require.Equal(t, content, snapshotOf(t, other))
}

// If a backup was given to raft with a lower index than its own, raft delivers new entries that the
// store would skip.
func TestFSM_RestoredWithALowIndex(t *testing.T) {
	from := openMachine(t, t.TempDir())
	applyTo(t, from, 1, 9)
	m := openMachine(t, t.TempDir())
	require.NoError(t, restore(m, snapshotOf(t, from)))
	requireStopped(t, m, m.Apply(upsertAt(t, 4, 2, 50)), ErrForeignLog)
	require.Equal(t, 9, m.Store().Len())
}

func namesIn(t testing.TB, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Without OnFailure, the process of a member that must stop ends.
func TestFSM_PanicsWithoutOnFailure(t *testing.T) {
	fsm, err := Open(t.TempDir(), nil)
	require.NoError(t, err)
	defer fsm.Close()
	newer := &raft.Log{Index: 1, Term: 1, Type: raft.LogCommand, Data: encodeMap(t, map[uint64]any{1: 7, 3: []byte{1}})}
	require.PanicsWithValue(t, "raftlog: this member stops: entry needs a newer version: entry 1 has version 7, and this member knows versions up to 1. Upgrade this member",
		func() { fsm.Apply(newer) })
}

// After Close the FSM applies nothing, and the process continues.
func TestFSM_Closed(t *testing.T) {
	m := openMachine(t, t.TempDir())
	applyTo(t, m, 1, 2)
	require.NoError(t, m.Close())
	require.ErrorIs(t, m.Apply(upsertAt(t, 3, 2, 3)).(error), migrationlog.ErrClosed)
	require.ErrorIs(t, m.Health(), migrationlog.ErrClosed)
	require.Empty(t, m.reasons)
	require.Equal(t, 2, m.Store().Len())
}
