package migrationlog_test

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/replay"
)

// memDir returns a directory in memory if the system has one, for tests that open thousands of logs
// and do not depend on a disk.
func memDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "migrationlog-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(t testing.TB, dir string, opts *migrationlog.Options) *migrationlog.Store {
	s, err := migrationlog.Open(dir, opts)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func reopen(t testing.TB, s *migrationlog.Store, dir string) *migrationlog.Store {
	require.NoError(t, s.Close())
	return open(t, dir, nil)
}

// historyOf returns a migration's history. It must not yield an error.
func historyOf(t testing.TB, s *migrationlog.Store, id checkpoint.MigrationID) (records []replay.Record) {
	for r, err := range s.History(t.Context(), id) {
		require.NoError(t, err)
		records = append(records, r)
	}
	return records
}

func row(t testing.TB, id checkpoint.MigrationID, attempt uint32, p checkpoint.Payload) checkpoint.Checkpoint {
	c, err := checkpoint.New(id, attempt, p, 1795399697649)
	require.NoError(t, err)
	return c
}

func upsert(t testing.TB, s *migrationlog.Store, id checkpoint.MigrationID, attempt uint32, p checkpoint.Payload) migrationlog.Receipt {
	r, err := s.Upsert(row(t, id, attempt, p))
	require.NoError(t, err)
	return r
}

// write writes an event with the method for its kind.
func write(s *migrationlog.Store, e checkpoint.Event, opts ...migrationlog.WriteOption) (migrationlog.Receipt, error) {
	switch e := e.(type) {
	case checkpoint.Upserted:
		return s.Upsert(e.Checkpoint, opts...)
	case checkpoint.Aborted:
		return s.Abort(e.MigrationID, e.Reason, e.Compensations, append(opts, migrationlog.WithTimestamp(e.TimestampMS))...)
	case checkpoint.AbortBegun:
		return s.BeginAbort(e.MigrationID, e.Reason, e.Compensations, append(opts, migrationlog.WithTimestamp(e.TimestampMS))...)
	case checkpoint.Compensated:
		return s.Compensated(e.MigrationID, e.Step, append(opts, migrationlog.WithTimestamp(e.TimestampMS))...)
	}
	return s.Remove(e.Migration(), append(opts, migrationlog.WithTimestamp(e.WallMS()))...)
}

func verify(t testing.TB, dir string) replay.Report {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	report, err := reader.Verify(t.Context())
	require.NoError(t, err)
	return report
}

// hashes returns a hash of the content of every file below dir, except in wal/prepared/.
func hashes(t testing.TB, dir string) map[string][32]byte {
	sums := map[string][32]byte{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == filepath.Base(eventlog.PreparedDir) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		sums[name] = sha256.Sum256(b)
		return err
	}))
	return sums
}

// copyDir copies a log. If the log is open, a snapshot may appear or disappear during the copy.
func copyDir(t testing.TB, from string) string {
	for tries := 0; ; tries++ {
		to := filepath.Join(memDir(t), "log")
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil || tries == 100 || !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
			return to
		}
		require.NoError(t, os.RemoveAll(filepath.Dir(to)))
	}
}

func segmentPath(dir, firstSeq string) string { return filepath.Join(dir, "wal", firstSeq) }

const firstSegment = "00000000000000000001"
