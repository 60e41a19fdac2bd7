package eventlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// D3: if too few numbers are left for the entries, none of them is written. That does not fail the
// log: it takes as many entries as it has numbers for. A full log opens again without a new
// segment.
func TestD3_WriteBeyondMaxSeq(t *testing.T) {
	for _, opts := range []Options{{}, {SegmentSize: 1}} {
		dir := filepath.Join(t.TempDir(), "log")
		log := openLog(t, dir, opts)
		require.NoError(t, write(log, body))
		require.NoError(t, log.Close())
		line := segment.AppendWatermark(nil, log.uuid, segment.MaxSeq-2)
		for _, name := range segment.WatermarkNames {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), line, 0o600))
		}
		log = openLog(t, dir, opts)
		require.Equal(t, segment.MaxSeq-1, log.NextSeq())
		require.ErrorIs(t, log.Write([]Entry{{}, {}, {}}), ErrNeedsRepair)
		require.NoError(t, log.Health())
		require.Equal(t, segment.MaxSeq-1, log.NextSeq())
		require.NoError(t, write(log, body, body))
		require.Equal(t, segment.MaxSeq+1, log.NextSeq())
		before := segmentSizes(t, dir)
		for range 2 {
			require.ErrorIs(t, write(log, body), ErrNeedsRepair)
			require.NoError(t, log.Close())
			require.Len(t, segmentSizes(t, dir), len(before))
			log = openLog(t, dir, opts)
			require.Equal(t, segment.MaxSeq, log.DurableThrough())
		}
		require.NoError(t, log.Close())
	}
}
