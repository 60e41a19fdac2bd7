package eventlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// D3: tidwall/wal is not appended to where it counts otherwise than the frames do.
func TestD3_WALEndsWhereTheFramesDo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	log := beginLog(t, dir, Options{})
	require.NoError(t, log.Append([]Entry{{Body: segment.NewBody([]byte("one"))}, {Body: segment.NewBody([]byte("two"))}}))
	require.NoError(t, log.Close())
	wal := filepath.Join(dir, segment.WALDir)
	for last, fits := range map[uint64]bool{1: false, 2: true, 3: false} {
		a, err := openAppender(wal, last)
		if fits {
			require.NoError(t, err)
			require.NoError(t, a.close())
			continue
		}
		require.ErrorContains(t, err, "the WAL ends with index 2")
	}
	before, err := os.ReadFile(filepath.Join(wal, segment.Name(1)))
	require.NoError(t, err)
	_, err = openAppender(wal, 9)
	require.Error(t, err)
	after, err := os.ReadFile(filepath.Join(wal, segment.Name(1)))
	require.NoError(t, err)
	require.Equal(t, before, after)
}
