package eventlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// A log keeps its two newest snapshots, and removes the temporary files that crashes have left.
func TestSaveSnapshot(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := beginLog(t, dir, Options{})
	for seq := uint64(1); seq <= 5; seq++ {
		require.NoError(t, write(log, body))
		put(t, []byte("x"), dir, "snapshots", segment.Name(77)+".new")
		s := segment.Snapshot{Version: segment.SnapshotVersion, Last: log.Last(), Body: []byte{byte(seq)}}
		require.NoError(t, log.SaveSnapshot(s))
		want := []string{segment.Name(seq - 1), segment.Name(seq)}
		if seq == 1 {
			want = want[1:]
		}
		require.Equal(t, want, names(t, filepath.Join(dir, "snapshots")))
		got, err := segment.DecodeSnapshot(read(t, dir, "snapshots", segment.Name(seq)), log.uuid)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	put(t, []byte("of a later one"), dir, "snapshots", segment.Name(9))
	require.NoError(t, log.SaveSnapshot(segment.Snapshot{Version: segment.SnapshotVersion, Last: log.Last()}))
	require.Equal(t, []string{segment.Name(5), segment.Name(9)}, names(t, filepath.Join(dir, "snapshots")), "the oldest goes, and never a newer one")

	put(t, []byte("of a later one"), dir, "snapshots", segment.Name(8))
	require.NoError(t, log.SaveSnapshot(segment.Snapshot{Version: segment.SnapshotVersion, Last: log.Last()}))
	require.Equal(t, []string{segment.Name(5), segment.Name(8), segment.Name(9)}, names(t, filepath.Join(dir, "snapshots")), "nor the saved one")

	require.NoError(t, os.Remove(filepath.Join(dir, LockName)))
	before := tree(t, dir)
	require.ErrorContains(t, log.SaveSnapshot(segment.Snapshot{Version: segment.SnapshotVersion, Last: log.Last()}), "another writer may own the log")
	require.Equal(t, before, tree(t, dir))
}
