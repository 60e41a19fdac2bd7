package migrationlog_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// A store and a reader keep to the log that they have opened by a relative path, even if the
// working directory changes and the new one has a log of the same name.
func TestDirectory_RelativePath(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	id, otherID := checkpoint.NewMigrationID(), checkpoint.NewMigrationID()
	t.Chdir(second)
	other := open(t, "log", nil)
	upsert(t, other, otherID, 0, addLearner)
	require.NoError(t, other.Close())
	before := hashes(t, filepath.Join(second, "log"))

	t.Chdir(first)
	s := open(t, "log", &migrationlog.Options{SegmentSize: 4096})
	upsert(t, s, id, 0, addLearner)
	reader, err := replay.Open("log")
	require.NoError(t, err)
	t.Chdir(second)

	for attempt := range uint32(100) { // several segments, so that the store writes a snapshot as well
		upsert(t, s, id, attempt, catchUp)
	}
	require.Len(t, historyOf(t, s, id), 101)
	report, err := s.Scrub(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 101, report.FramesOK)
	verified, err := reader.Verify(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 101, verified.FramesOK)
	require.NoError(t, s.Close())
	require.Equal(t, before, hashes(t, filepath.Join(second, "log")), "the other log is unchanged")
	require.FileExists(t, filepath.Join(first, "log", "snapshots", "00000000000000000101"))
	require.EqualValues(t, 101, verify(t, filepath.Join(first, "log")).FramesOK)
}

// A store that was opened by a relative path stays in the working directory of that time, even if
// $PWD names this directory through a symbolic link that is changed later.
func TestDirectory_WorkingDirectoryThroughALink(t *testing.T) {
	parent := t.TempDir()
	current := filepath.Join(parent, "current")
	for _, release := range []string{"release1", "release2"} {
		require.NoError(t, os.Mkdir(filepath.Join(parent, release), 0o750))
	}
	require.NoError(t, os.Symlink("release1", current))
	t.Chdir(current)
	s := open(t, "log", nil)
	reader, err := replay.Open("log")
	require.NoError(t, err)
	require.NoError(t, os.Remove(current))
	require.NoError(t, os.Symlink("release2", current))
	id := checkpoint.NewMigrationID()
	upsert(t, s, id, 0, addLearner)
	require.Len(t, historyOf(t, s, id), 1)
	require.NoError(t, s.Close())
	verified, err := reader.Verify(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, verified.FramesOK)
	require.EqualValues(t, 1, verify(t, filepath.Join(parent, "release1", "log")).FramesOK)
}

// A store and a reader follow a symbolic link before ".." as the system does, so that a path leads to
// the same log as in a shell.
func TestDirectory_ParentOfALink(t *testing.T) {
	parent := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(parent, "real", "sub"), 0o750))
	require.NoError(t, os.Symlink("real/sub", filepath.Join(parent, "link")))
	require.NoError(t, open(t, filepath.Join(parent, "log"), nil).Close())
	t.Chdir(parent)
	for events, dir := range []string{"link/../log", parent + "/link/../log", "./link//../log/.", "missing/../real/log", "real/..x/../log"} {
		require.NoError(t, os.MkdirAll("real/..x", 0o750))
		s := open(t, dir, nil)
		upsert(t, s, checkpoint.NewMigrationID(), 0, addLearner)
		require.NoError(t, s.Close())
		require.EqualValues(t, events+1, verify(t, filepath.Join(parent, "real", "log")).FramesOK, dir)
		if dir != "missing/../real/log" { // the system does not find it
			require.EqualValues(t, events+1, verify(t, dir).FramesOK, dir)
		}
	}
	require.EqualValues(t, 0, verify(t, "log").FramesOK)
}

// If the working directory was removed, Open cannot resolve a relative path. The error says what to
// do. It is not fs.ErrNotExist, which would mean that the directory has no log.
func TestDirectory_WorkingDirectoryRemoved(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(gone, 0o750))
	t.Chdir(gone)
	require.NoError(t, os.Remove(gone))
	_, err := migrationlog.Open("log", &migrationlog.Options{MustExist: true})
	require.ErrorContains(t, err, "give the log's directory as an absolute path")
	require.NotErrorIs(t, err, os.ErrNotExist)
}

// If another process replaces the directory by another log, History and Scrub return an error and
// nothing of that log.
func TestDirectory_ReplacedByAnotherLog(t *testing.T) {
	parent := t.TempDir()
	dir, another := filepath.Join(parent, "log"), filepath.Join(parent, "another")
	id := checkpoint.NewMigrationID()
	other := open(t, another, nil)
	upsert(t, other, id, 0, addLearner)
	require.NoError(t, other.Close())
	s := open(t, dir, nil)
	upsert(t, s, id, 0, addLearner)
	require.NoError(t, os.Rename(dir, filepath.Join(parent, "moved")))
	require.NoError(t, os.Rename(another, dir))

	for r, err := range s.History(t.Context(), id) {
		require.ErrorContains(t, err, dir+" has another log")
		require.Zero(t, r)
	}
	_, err := s.Scrub(t.Context())
	require.ErrorContains(t, err, dir+" has another log")
}
