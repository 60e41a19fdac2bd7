package eventlog

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A single writer learns to wait in the way that makes its syncs shorter. If there is no
// difference, it blocks and saves CPU time. It also learns this if the machine changes or if some
// syncs take long.
func TestSpinWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p spinWait
		polledOf := func(syncs int, blockingUS, pollingUS int) (n int) {
			for i := range syncs {
				us := blockingUS
				if p.start() {
					us = pollingUS
					n++
				}
				if i%50 == 0 {
					us *= 100
				}
				time.Sleep(time.Duration(us) * time.Microsecond)
				p.finish()
			}
			return n
		}
		polledOf(1, 9000, 9000) // the first sync also writes the preallocated zeros
		polledOf(12000, 120, 108)
		require.Greater(t, polledOf(1000, 120, 108), 950, "polls, of 1,000 syncs, if polling saves 12 of 120 µs")
		polledOf(12000, 175, 220)
		require.Less(t, polledOf(1000, 175, 220), 50, "polls, of 1,000 syncs, if polling adds 45 µs")
		polledOf(12000, 120, 118)
		require.Less(t, polledOf(1000, 120, 118), 50, "polls, of 1,000 syncs, if polling saves almost nothing")
		polledOf(12000, 120, 108)
		require.Greater(t, polledOf(1000, 120, 108), 950, "polls, of 1,000 syncs, on the first machine again")
	})
}
