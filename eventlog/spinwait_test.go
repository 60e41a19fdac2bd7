package eventlog

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A lone writer comes to wait in the way that makes its syncs shorter, and keeps CPU time
// where it makes no difference; also where the machine changes, and some syncs take long.
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
		polledOf(1, 9000, 9000) // the first makes room as well
		polledOf(12000, 120, 108)
		require.Greater(t, polledOf(1000, 120, 108), 950, "of 1,000 syncs that being awake spares 12 of 120 µs")
		polledOf(12000, 175, 220)
		require.Less(t, polledOf(1000, 175, 220), 50, "of 1,000 that take 45 µs more so")
		polledOf(12000, 120, 118)
		require.Less(t, polledOf(1000, 120, 118), 50, "of 1,000 that it spares next to nothing")
		polledOf(12000, 120, 108)
		require.Greater(t, polledOf(1000, 120, 108), 950, "of 1,000 on the first machine again")
	})
}
