package diff_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/replay/diff"
)

// A row whose later events the second log has lost is stale and not new. A row whose events it has lost
// is lost and not gone. The clock of a log is that of its last intact event.
func TestLogs_StaleRows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	write(t, dir, begun(t, 1, 0), begun(t, 2, 10), begun(t, 3, 20))
	write(t, dir, completed(t, 1, 30), aborted(2, 40), begun(t, 4, 50)) // 4 to 6
	other := copyOf(t, dir)
	segments, err := filepath.Glob(filepath.Join(other, "wal", "0*"))
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(other, "snapshots")))
	last := segments[len(segments)-1]
	b, err := os.ReadFile(last)
	require.NoError(t, err)
	for at := 60; at < len(b); at += 60 { // in the body of each frame
		b[at] ^= 1
	}
	require.NoError(t, os.WriteFile(last, b, 0o600))
	r := logs(t, dir, other)
	require.Equal(t, diff.Incomplete, r.Copies.Relation)
	require.Equal(t, diff.Side{Seq: 3, TSMS: base + 20, Rows: 3}, r.To)
	require.Equal(t, []int{0, 0, 0, 1, 1, 2}, []int{r.New, r.Gone, r.Moved, r.Same, r.Lost, r.Stale})
	require.Equal(t, []line{{diff.Stale, 1, 0}, {diff.Stale, 2, 5}, {diff.Lost, 4, 0}}, lines(r.Changes))
	r = logs(t, other, dir) // the second log has lost nothing
	require.Equal(t, []int{1, 1, 1, 1, 0, 0}, []int{r.New, r.Gone, r.Moved, r.Same, r.Lost, r.Stale})
}
