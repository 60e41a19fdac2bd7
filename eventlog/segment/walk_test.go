package segment_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// The runs have every intact frame, as a scan has, whatever byte is damaged.
func TestRuns_EveryByte(t *testing.T) {
	whole := entries(1, 4)
	for at := range whole {
		data := append([]byte(nil), whole...)
		data[at] ^= 0x10
		var frames []uint64
		for run := range segment.Runs(data, testLog) {
			next, intact := segment.Walk(run.Data, testLog, run.FirstSeq, func(h segment.Header, _ []byte) { frames = append(frames, h.Seq) })
			require.True(t, intact, at)
			require.Greater(t, next, run.FirstSeq, at)
		}
		require.Equal(t, scan(t, logOf(map[uint64][]byte{1: data})).seqs, frames, at)
	}
}
